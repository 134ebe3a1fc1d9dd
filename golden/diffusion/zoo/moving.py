"""Videos of digits that move, turn or change, drawn from images of the shipped U-Net."""

import numpy as np

from golden.diffusion import zoo
from golden.diffusion.sampling import Sampling

_STEPS = 20  # as good as 50 to the eye, in less than half the time


def moved(image: np.ndarray, shift: tuple[float, float] = (0.0, 0.0), rotation: float = 0.0) -> np.ndarray:
    """Turn an image about its centre, then shift it, by bilinear interpolation.

    Parameters
    ----------
    image : float (channels, height, width)
        Image in -1..1; outside of it everything is -1.
    shift : tuple of float
        Pixels down and to the right.
    rotation : float
        Degrees, counterclockwise.

    Returns
    -------
    float32 (channels, height, width)
        The image moved.
    """
    _, height, width = image.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    grid = np.stack(np.mgrid[:height, :width], axis=-1) - centre - np.asarray(shift, float)
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    source = grid @ np.array([[cos, -sin], [sin, cos]]) + centre + 1  # + 1: the border below
    source = np.clip(source, 0, [height + 1, width + 1])
    padded = np.pad(np.asarray(image, np.float64), ((0, 0), (1, 2), (1, 2)), constant_values=-1)
    corner = np.floor(source).astype(int)
    (y, x), (right_y, right_x) = np.moveaxis(corner, -1, 0), np.moveaxis(source - corner, -1, 0)
    top = padded[:, y, x] * (1 - right_x) + padded[:, y, x + 1] * right_x
    bottom = padded[:, y + 1, x] * (1 - right_x) + padded[:, y + 1, x + 1] * right_x
    return (top * (1 - right_y) + bottom * right_y).astype(np.float32)


def digit_image(digit: int, seed: int = 0) -> np.ndarray:
    """One digit as the shipped U-Net draws it, float32 ``(1, 16, 16)`` in -1..1."""
    return Sampling(zoo.load("unet"), [digit], _STEPS, seed=seed).images()[0]


def digit_video(
    digit: int, frames: int, *, shift: tuple[float, float] = (0.0, 0.0), rotation: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Video of a digit that moves and turns evenly; in the middle frame it is as it was drawn.

    Parameters
    ----------
    digit : int
        Class of the digit.
    frames : int
        Number of frames.
    shift, rotation
        From frame to frame, see `moved`.
    seed : int
        Seed of the digit.

    Returns
    -------
    float32 (frames, 1, 16, 16)
        Frames in -1..1.
    """
    image = digit_image(digit, seed)
    times = np.arange(frames) - (frames - 1) / 2
    video = [moved(image, (time * shift[0], time * shift[1]), time * rotation) for time in times]
    return np.stack(video) if video else np.empty((0, *image.shape), np.float32)


def blend_video(first: int, second: int, frames: int, *, seed: int = 0) -> np.ndarray:
    """Video of one digit that slowly becomes another, float32 ``(frames, 1, 16, 16)`` in -1..1."""
    weight = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None, None]
    return (1 - weight) * digit_image(first, seed) + weight * digit_image(second, seed)
