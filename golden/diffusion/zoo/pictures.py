"""Grids of images as PNG files, without a graphics library."""

from pathlib import Path

import numpy as np
from PIL import Image

from golden.common import files


def visible(samples: np.ndarray) -> tuple[np.ndarray, int, str]:
    """Samples of any kind as images that can be drawn.

    Parameters
    ----------
    samples : float (count, channels, [frames,] height, width)
        Images of one or three channels in -1..1 are drawn as they are. Of a latent, the first three channels (or the
        first of two) become colours, all over their largest magnitude. The frames of a video stand in a row.

    Returns
    -------
    images : float (images, 1 or 3, height, width)
        In -1..1, frames one after the other.
    columns : int
        How many make a row: the frames of a video, else 10.
    note : str
        What was done, empty for images.
    """
    told, columns = [], 10
    if samples.ndim == 5:
        columns = samples.shape[2]
        samples = samples.swapaxes(1, 2).reshape(-1, samples.shape[1], *samples.shape[3:])
        told.append("frames of a video in a row")
    channels = samples.shape[1]
    if channels not in (1, 3):
        samples = samples[:, : 3 if channels > 3 else 1]
        largest = float(np.abs(samples).max(initial=0.0)) or 1.0
        samples = samples / largest
        told.insert(0, f"latents of {channels} channels, the first {samples.shape[1]} over {largest:.3g}")
    return samples, columns, ", ".join(told)


def grid(images: np.ndarray, columns: int = 10, scale: int = 3, gap: int = 2) -> np.ndarray:
    """Lay images out row by row on a grey sheet.

    Parameters
    ----------
    images : float (count, 1 or 3, height, width)
        Images in -1..1, grey or coloured; what lies outside is clipped.
    columns : int
        Images in a row.
    scale : int
        Side of the square of equal pixels that each pixel becomes.
    gap : int
        Pixels between neighbours and around the sheet.

    Returns
    -------
    uint8 (height, width) or (height, width, 3)
        The sheet; 0 is black.
    """
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    height, width = height * scale, width * scale
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 128, np.uint8)
    levels = np.rint(np.clip((images.transpose(0, 2, 3, 1) + 1) / 2, 0, 1) * 255).astype(np.uint8)
    for index, image in enumerate(levels.repeat(scale, axis=1).repeat(scale, axis=2)):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet[..., 0] if channels == 1 else sheet


def write_png(path: Path, sheet: np.ndarray) -> None:
    """Write a grey or coloured image as PNG; the file appears only when complete.

    Parameters
    ----------
    path : Path
        File to write.
    sheet : uint8 (height, width) or (height, width, 3)
        The image.
    """
    with files.complete(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")
