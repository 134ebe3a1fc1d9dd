"""What methods do to the images of a sampling, against drawing them densely."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import Run, run
from golden.diffusion.sampling import Sampling, Step
from golden.diffusion.zoo import quality

Track = Callable[[Iterable[Step]], Iterable[Step]]
"""Wraps the iteration over the steps of a sampling, to show progress."""


def compare(
    sampling: Sampling,
    methods: Mapping[str, Method],
    *,
    exact: bool = False,
    track: Callable[[str], Track] = lambda name: iter,
) -> list[dict[str, Any]]:
    """Compare methods with dense sampling.

    Parameters
    ----------
    sampling : Sampling
        What to draw. Its cache steps are for methods, ``dense`` among them; what they are compared with has none.
    methods : mapping of str to Method
        What to compare, by name.
    exact : bool
        Whether methods give the machine's bits; dense stays binary32.
    track : callable
        Gives the progress bar of a sampling for its name.

    Returns
    -------
    list of dict
        For each method ``method``, ``network``, ``steps``, ``images``; of the PSNR of each image (dB) the mean
        ``psnr_mean`` and the least ``psnr_min``, and its ``peak``: 2 of images, from -1 to 1, or the range of the dense
        result, where the process does not clip; ``ssim_mean``; the share ``agreement`` in which the classifier finds
        the digit that it finds in the dense image, and ``found``, that which was asked for; ``frechet``, the distance
        of its features to those of the real digits; ``drift``, the mean PSNR of the samples after each step;
        ``seconds`` and their ratio ``time_ratio`` to those of the dense sampling; with cache steps also ``cached``, how
        many steps are whole, and ``multiplications``, the share of them that is left. None stands for a PSNR without
        limit, for the distance of fewer than 16 images, and for what is not defined: SSIM of other than clipped images
        of at least 7 x 7 pixels, what the classifier says of other than the digits of the zoo.
    """
    network, process, kept = sampling.network, sampling.process, {}
    if sampling.cache is not None:
        kept = {
            "cached": len(sampling.cache.whole),
            "multiplications": sampling.cache.share(network, sampling.steps),
        }
    calibrate(sampling)  # once for all; and what the first run pays for memory, no method does
    plain = dataclasses.replace(sampling, cache=None)
    dense, dense_seconds = _timed(plain, Method(flow="dense"), track("dense"))
    images = dense.images
    peak = 2.0 if process.clip else float(np.ptp(images))
    similar = process.clip and images.ndim == 4 and min(images.shape[2:]) >= 7
    judged = _judged(sampling, images)
    found = []
    for name, method in methods.items():
        own, seconds = _timed(sampling, method, track(name), exact=exact)
        psnr = quality.psnr(own.images, images, peak)
        found.append(
            {
                "method": name,
                "network": network.name,
                "steps": sampling.steps,
                "images": sampling.count,
                "psnr_mean": _finite(psnr.mean()),
                "psnr_min": _finite(psnr.min()),
                "peak": peak,
                "ssim_mean": float(quality.ssim(own.images, images).mean()) if similar else None,
                **judged(own.images),
                "drift": [
                    _finite(quality.psnr(*pair, peak).mean())
                    for pair in zip(own.trajectory, dense.trajectory, strict=True)
                ],
                "seconds": round(seconds, 3),
                "time_ratio": round(seconds / dense_seconds, 3),
                **kept,
            }
        )
    return found


def _judged(sampling: Sampling, images: np.ndarray) -> Callable[[np.ndarray], dict[str, float | None]]:
    """What the classifier says of the images of a method, beside those of the dense sampling."""
    if sampling.network.name not in zoo.DRAWS:
        return lambda own: dict.fromkeys(("agreement", "found", "frechet"))
    seen, real = zoo.classify(images), zoo.digits()

    def judge(own: np.ndarray) -> dict[str, float | None]:
        digits = zoo.classify(own)
        return {
            "agreement": float(np.mean(digits == seen)),
            "found": float(np.mean(digits == sampling.given.values["label"])),
            "frechet": quality.frechet(zoo.statistics(own), real) if len(own) >= quality.FEWEST else None,
        }

    return judge


def _timed(sampling: Sampling, method: Method, track: Track, *, exact: bool = False) -> tuple[Run, float]:
    start = time.perf_counter()
    result = run(sampling, method, exact=exact, track=track)
    return result, time.perf_counter() - start


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
