"""How good images are: distances between pairs of images and between sets of them, by numpy alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.common import files

FEWEST = 16
"""Images below which the distance of `frechet` says nothing: of two it falls as they get worse."""

WINDOW = 7
"""Side of the square that `ssim` looks at."""
_RANGE = 2.0


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of the features of a set of images.

    Members
    -------
    mean : float (features,)
        Mean of each feature.
    covariance : float (features, features)
        Their covariance, over the number of images less one.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Statistics":
        """Statistics of ``(images, features)``, float64.

        Raises
        ------
        ValueError
            If there are fewer than two images.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"Features must have the shape (at least 2 images, features), not {features.shape}")
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1))

    def save(self, path: Path) -> None:
        """Write an ``.npz`` of `mean` and `covariance`, float32."""
        with files.complete(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, mean=self.mean.astype(np.float32), covariance=self.covariance.astype(np.float32))

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["mean"], file["covariance"])


def frechet(a: Statistics, b: Statistics) -> float:
    """Frechet distance (squared) of the normal distributions with two sets' statistics.

    ``|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`` for the covariances A and B: Heusel et al., *GANs trained by
    a two time-scale update rule converge to a local Nash equilibrium*, 2017. A B has the eigenvalues of the symmetric
    ``A^(1/2) B A^(1/2)``, so both roots are those of symmetric matrices, in float64.

    Returns
    -------
    float
        Zero for equal statistics, otherwise positive, up to rounding: about 1e-12 of the variances.

    Raises
    ------
    ValueError
        If the two differ in their number of features.
    """
    if a.covariance.shape != b.covariance.shape:
        raise ValueError(f"Statistics must be of {len(a.mean)} features both, not {len(a.mean)} and {len(b.mean)}")
    first, second = (np.asarray(value.covariance, np.float64) for value in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = root @ second @ root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    apart = np.square(np.asarray(a.mean, np.float64) - b.mean).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * shared)


def psnr(images: np.ndarray, references: np.ndarray, peak: float = _RANGE) -> np.ndarray:
    """Peak signal-to-noise ratio of each image against its reference, in dB.

    ``10 log10(peak^2 / mean squared error)``, where the peak is the range of the images: 2.0, from -1 to 1.

    Parameters
    ----------
    images, references : float (count, channels, ..., height, width)
        Images, latents or videos.
    peak : float
        Their range, if they are not images in -1..1.

    Returns
    -------
    float64 (count,)
        Infinite where an image equals its reference.

    Raises
    ------
    ValueError
        If the shapes differ or are not those of images.
    """
    images, references = _pair(images, references)
    error = np.square(images - references).mean(axis=tuple(range(1, images.ndim)))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / error)


def ssim(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Structural similarity of each image to its reference, 1 where they are equal.

    Wang et al., *Image quality assessment: from error visibility to structural similarity*, 2004, with their K1 = 0.01
    and K2 = 0.03 and the range 2.0. Their Gaussian window of 11 x 11 would fit into an image of 16 x 16 pixels at 36
    places only; the window here is 7 x 7 with equal weights, at all places where it lies within the image (100).
    Statistics are those of the window's 49 pixels, over 49; the mean is over places and channels.

    Parameters
    ----------
    images, references : float (count, channels, height, width)
        Images in -1..1, at least 7 x 7 pixels.

    Returns
    -------
    float64 (count,)
        Similarity, at most 1.

    Raises
    ------
    ValueError
        If the shapes differ, are not those of images, or the images are smaller than the window.
    """
    images, references = _pair(images, references)
    if images.ndim != 4 or min(images.shape[2:]) < WINDOW:
        raise ValueError(f"Images must have at least {WINDOW} x {WINDOW} pixels, not {images.shape[2:]}")

    def mean(values: np.ndarray) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(values, (WINDOW, WINDOW), axis=(2, 3)).mean(axis=(4, 5))

    x, y = mean(images), mean(references)
    variances = mean(images * images) - x * x + mean(references * references) - y * y
    covariance = mean(images * references) - x * y
    c1, c2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
    places = (2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variances + c2))
    return places.mean(axis=(1, 2, 3))


def _pair(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, references = np.asarray(images, np.float64), np.asarray(references, np.float64)
    if images.ndim < 4 or images.shape != references.shape:
        raise ValueError(
            f"Images and references must have one shape (count, channels, ..., height, width), "
            f"not {images.shape} and {references.shape}"
        )
    return images, references
