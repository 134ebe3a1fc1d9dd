"""Grids of images as PNG files, without a graphics library."""

import struct
import zlib
from pathlib import Path

import numpy as np


def grid(images: np.ndarray, columns: int = 10, scale: int = 3, gap: int = 2) -> np.ndarray:
    """Lay images out row by row on a grey sheet.

    Parameters
    ----------
    images : float (count, 1, height, width)
        Grey images in -1..1; what lies outside is clipped.
    columns : int
        Images in a row.
    scale : int
        Side of the square of equal pixels that each pixel becomes.
    gap : int
        Pixels between neighbours and around the sheet.

    Returns
    -------
    uint8 (height, width)
        The sheet; 0 is black.
    """
    count, _, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    height, width = height * scale, width * scale
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 128, np.uint8)
    levels = np.rint(np.clip((images[:, 0] + 1) / 2, 0, 1) * 255).astype(np.uint8)
    for index, image in enumerate(levels.repeat(scale, axis=1).repeat(scale, axis=2)):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def write_png(path: Path, sheet: np.ndarray) -> None:
    """Write a grey image, uint8 ``(height, width)``, as PNG (ISO/IEC 15948); the file appears only when complete."""
    height, width = sheet.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), sheet], axis=1)  # filter type 0 before each line

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8-bit grey, not interlaced
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    path = Path(path)
    partial = path.with_name(f"{path.name}.part")
    try:
        partial.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
