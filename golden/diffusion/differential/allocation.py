"""Where output deltas end: so many bits under the largest state of a layer, dealt out by what reaches the image.

Words: the *gain* of a product is what a white error of variance 1, added to its output deltas in every step and kept by
the state like all of them, does to the variance of the images of a whole sampling.

What is lost of a delta stays in Y, so errors of steps ``D`` add up to an image error of ``sum_l gain_l D_l^2 / 12``,
for ``sum_l N_l log2(1 / D_l)`` bits over N elements. The least error for so many bits has ``gain_l D_l^2 / N_l`` the
same in every layer.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from golden.diffusion.differential import kept
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile, calibrate, known_gains
from golden.diffusion.layers import Layer
from golden.diffusion.networks.graph import Executor, Network, StatefulExecutor, dense, main_values
from golden.diffusion.sampling import Sampling

STEPS = 20
"""Steps in which gains are measured: at 50 the bits that follow from them differ by a fifth of a bit."""

_SEED = 1_000_033
_STEP = 12  # the error is uniform over a step, 2^-12 of the largest value: small enough for a linear answer


class _Disturbed(StatefulExecutor):
    """Dense, but for one layer: its output carries a sum of errors, one more in every step."""

    def __init__(self, layer: str, step: float):
        self._layer = layer
        self._step = np.float32(step)
        self._sum = np.float32(0)
        self._random = np.random.default_rng(_SEED)

    def __call__(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        """Evaluate a layer."""
        value = layer(*values)
        if layer.name != self._layer:
            return value
        self._sum = self._sum + (self._random.random(value.shape, np.float32) - np.float32(0.5)) * self._step
        return value + self._sum


def products(network: Network) -> list[str]:
    """Names of the products on the way from a network's first input."""
    main = main_values(network)
    return [layer.name for layer in network.layers if layer.contracted and layer.name in main]


def measure_gains(
    sampling: Sampling, *, images: int = 4, track: Callable[[list[str]], Iterable[str]] = iter
) -> dict[str, float]:
    """Gain of every product on the way from the first input: one dense sampling for each.

    Parameters
    ----------
    sampling : Sampling
        Of the network; `STEPS` are enough.
    images : int
        To draw, as for `calibrate`.
    track : callable
        Wraps the iteration over the products, to show progress.
    """
    profile, example = calibrate(sampling, images=images), sampling.example(images, _SEED)

    def images_of(executor: Executor) -> np.ndarray:
        return [step.image for step in example.walk(executor)][-1].astype(np.float64)

    reference = images_of(dense)
    gains = {}
    for name in track(products(sampling.network)):
        step = 2.0 ** (profile.magnitude(name) - _STEP)
        gains[name] = float(np.mean((images_of(_Disturbed(name, step)) - reference) ** 2) / (step**2 / 12))
    return gains


def gains_of(
    sampling: Sampling, track: Callable[[list[str], str], Iterable[str]] = lambda names, title: iter(names)
) -> dict[str, float]:
    """Gains of a network: those that ship with it or were measured before, else measured now, and kept."""
    known = known_gains(sampling)
    if known:
        return known
    short = dataclasses.replace(sampling, steps=STEPS, cache=None)
    found = measure_gains(short, track=lambda names: track(names, "Gains"))
    kept.save("gains", sampling, found)
    return found


def output_bits(
    gains: Mapping[str, float], magnitudes: Mapping[str, int], elements: Mapping[str, int], bits: float
) -> dict[str, int]:
    """Bits under the largest value at which each output ends, `bits` on average over the elements.

    Parameters
    ----------
    gains : mapping of str to float
        Of each product.
    magnitudes : mapping of str to int
        ``M`` of each product, whose values stay below ``2^M``.
    elements : mapping of str to int
        Output elements of each product.
    bits : float
        Mean.

    Returns
    -------
    dict of str to int
        ``RNE(bits + x_l - mean x)`` with ``x_l = log2(gain_l 4^M_l / N_l) / 2``, at least 1; a gain under a millionth
        of the mean counts as that.
    """
    least = 1e-6 * float(np.mean(list(gains.values()))) or 1.0
    share = {name: 0.5 * np.log2(max(gain, least) / elements[name]) + magnitudes[name] for name, gain in gains.items()}
    mean = sum(elements[name] * x for name, x in share.items()) / sum(elements[name] for name in share)
    return {name: max(int(np.rint(bits + x - mean)), 1) for name, x in share.items()}


def output_bits_by_product(network: Network, method: Method, profile: Profile) -> dict[str, int]:
    """Bits of each product's outputs under its largest value.

    Without gains every layer gets one bit more than `Method.output_bits`: evenly dealt, about as good.
    """
    by_gain: dict[str, int] = {}
    bits = method.output_bits
    if method.output_allocation == "gain":
        by_gain = dealt(network, profile, bits)
        bits += 1
    found = {}
    for name in products(network):
        own = method.output_bits_of(name)
        found[name] = by_gain.get(name, int(np.rint(bits))) if own is None else own
    return found


def dealt(network: Network, profile: Profile, bits: float) -> dict[str, int]:
    """Bits of each product by the profile's gains; empty if it has none."""
    if not profile.gains:
        return {}
    shapes = network.shapes()
    names = products(network)
    elements = {name: int(np.prod(shapes[name][1:])) for name in names}
    return output_bits(
        {name: profile.gains[name] for name in names},
        {name: profile.magnitude(name) for name in names},
        elements,
        bits,
    )
