"""A method for one network: passes and output bits that reach a fidelity with the least work and link.

Words: an *operand set* is what products read that share a reader, and so their passes; a *part* of a sampling is its
early, its middle or its late steps. The *effect* of a set in a part is how much the mean square error of the images
rises if the set takes one pass there and everything else is fine.

Errors of different causes add up. One pass more leaves ``4^-(k-1)`` of an effect; an output step D of a product leaves
``gain D^2 / 12`` (`differential.allocation`). So at a *price* of an error each choice is made by itself: the one whose
cost and price times error are least. The lowest price at which the errors add up to the target is searched, and where
the images of a run show another error than that sum, it is searched again.
"""

import dataclasses
import glob
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from golden.diffusion.differential import kept
from golden.diffusion.differential.allocation import gains_of, products
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.networks.graph import main_values
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo.quality import psnr

EARLY, LATE = 8, 3
"""Steps of the early and of the late part."""

FINE_PASSES, FINE_BITS = 4, 16
"""More than these no method has."""

MARGIN = 1.0
"""dB above the target that tuning aims at: other images may lose a little more."""

_SEEDS = {"effects": 1_000_037, "tuning": 1_000_039, "checking": 1_000_081}
_IMAGES = {"effects": 2, "tuning": 16, "checking": 16}
_ROUNDS, _ATTEMPTS = 6, 3

Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class OperandSet:
    """Values that go to products in the same number of passes.

    Members
    -------
    readers : tuple of str
        The products.
    elements : int
        Elements of all the values, for one image.
    macs : int
        Multiply-accumulates of the products in one pass; those of two activations are two products.
    """

    readers: tuple[str, ...]
    elements: int
    macs: int

    def passes(self, count: int | tuple[int, int, int]) -> dict[str, int | tuple[int, int, int]]:
        """Entries of `Method.layer_passes`."""
        return {glob.escape(name): count for name in self.readers}


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Members
    -------
    method : Method
        The method.
    target : float
        What was asked for, as all that follow in dB: means over images of the PSNR against dense.
    tuning, checking : float
        Of the images that the method was tuned on, and of others.
    least : float
        Of those others the image that lost most.
    """

    method: Method
    target: float
    tuning: float
    checking: float
    least: float

    @property
    def reached(self) -> bool:
        """Whether images that it was not tuned on reach the target."""
        return self.checking >= self.target


def operand_sets(sampling: Sampling) -> list[OperandSet]:
    """Operand sets of a network, every product in one."""
    network = sampling.network
    main, shapes, macs = main_values(network), network.shapes(), network.macs()
    found: list[tuple[set[str], list[str]]] = []  # values, readers
    for layer in network.layers:
        values = {source for source in layer.inputs[: len(layer.contracted)] if source in main}
        if not values:
            continue
        readers = [layer.name]
        for other in [other for other in found if other[0] & values]:
            found.remove(other)
            values, readers = values | other[0], [*other[1], *readers]
        found.append((values, readers))
    return [
        OperandSet(
            tuple(readers),
            sum(math.prod(shapes[value]) for value in values),
            sum(macs[name] * (1 + network.by_name[name].bilinear) for name in readers),
        )
        for values, readers in found
    ]


def effects(
    sampling: Sampling, base: Method, track: Track = lambda items, title: iter(items)
) -> dict[str, list[float]]:
    """Effect of every operand set in the early, the middle and the late steps, under the name of its first reader.

    One sampling of two images each. Kept in the user's cache folder.

    Parameters
    ----------
    sampling : Sampling
        Like those to come.
    base : Method
        Gives the machine and the passes of the first step.
    track : callable
        Wraps the iteration over what is measured, called with it and a title.
    """
    key = sampling.steps, sampling.cache, base
    known = kept.load("effects", sampling, *key)
    if known is not None:
        return known
    sets = operand_sets(sampling)
    own = sampling.example(_IMAGES["effects"], _SEEDS["effects"])
    reference = run(own, Method(flow="dense")).images.astype(np.float64)
    fine = {name: count for one in sets for name, count in one.passes(FINE_PASSES).items()}
    bits = dict.fromkeys(map(glob.escape, products(sampling.network)), FINE_BITS)

    def error(changes: Mapping[str, Any]) -> float:
        images = run(own, _method(base, fine | changes, bits)).images
        return float(np.mean((images - reference) ** 2))

    background = error({})
    found: dict[str, list[float]] = {one.readers[0]: [] for one in sets}
    for one, part in track([(one, part) for one in sets for part in range(3)], "Passes"):
        coarse = tuple(1 if index == part else FINE_PASSES for index in range(3))
        found[one.readers[0]].append(max(error(one.passes(coarse)) - background, 0.0))
    kept.save("effects", sampling, found, *key)
    return found


def _method(base: Method, passes: Mapping[str, Any], bits: Mapping[str, int]) -> Method:
    """The method in which these tables say everything."""
    once = dict.fromkeys(("passes", "early_passes", "last_passes", "input_passes", "mix_passes"), 1)
    return dataclasses.replace(
        base,
        **once,
        early_steps=EARLY,
        late_steps=LATE,
        layer_passes=passes,
        output_allocation="even",
        output_width=16,
        layer_output_bits=bits,
    )


@dataclasses.dataclass(frozen=True)
class _Choice:
    """Passes by operand set and part, and bits by product; their errors together, and their cost."""

    passes: tuple[tuple[int, int, int], ...]
    bits: tuple[int, ...]
    error: float
    cost: float


class _Problem:
    """What there is to choose, with costs and errors.

    Costs are shares: bits on the link of 32 for every element in and out, and clocks of lanes of one pass.
    """

    def __init__(self, sampling: Sampling, base: Method, track: Track):
        network, steps, k = sampling.network, sampling.steps, base.machine.digit_width
        self._base, self._sets = base, operand_sets(sampling)
        gains, effect = gains_of(sampling, track), effects(sampling, base, track)
        profile, shapes = calibrate(sampling), network.shapes()
        self._products = list(gains)
        elements = np.array([math.prod(shapes[name]) for name in self._products], float)
        link = 16 * steps * (sum(one.elements for one in self._sets) + elements.sum())
        work = steps * sum(one.macs for one in self._sets)
        early, late = min(EARLY, steps - 1), min(LATE, steps)
        parts = np.array([early, max(steps - 1 - early - late, 0), late])
        each = np.array([k * one.elements / link + one.macs / work for one in self._sets])
        counts, bits = np.arange(1, FINE_PASSES + 1), np.arange(1, FINE_BITS + 1)
        first = np.array([effect[one.readers[0]] for one in self._sets])
        self._pass_error = first[:, :, None] * 4.0 ** (-(k - 1) * (counts - 1))  # by set, part and passes
        self._pass_cost = each[:, None, None] * parts[:, None] * counts
        largest = np.array([profile.magnitude(name) for name in self._products])
        gain = np.array([gains[name] for name in self._products])
        self._bit_error = gain[:, None] * 4.0 ** (largest[:, None] - bits) / 12  # by product and bits
        self._bit_cost = elements[:, None] * steps * bits / link

    def at(self, price: float) -> _Choice:
        """The best choices at a price of an error."""
        passes = (self._pass_cost + price * self._pass_error).argmin(axis=2)
        bits = (self._bit_cost + price * self._bit_error).argmin(axis=1)

        def total(by_pass: np.ndarray, by_bit: np.ndarray) -> float:
            taken = np.take_along_axis(by_pass, passes[:, :, None], 2).sum()
            return float(taken + np.take_along_axis(by_bit, bits[:, None], 1).sum())

        return _Choice(
            tuple(map(tuple, (passes + 1).tolist())),
            tuple((bits + 1).tolist()),
            total(self._pass_error, self._bit_error),
            total(self._pass_cost, self._bit_cost),
        )

    def cheapest(self, error: float) -> _Choice:
        """The cheapest choices that make no more than this error together; the best there are if none do."""
        low, high = -20.0, 20.0  # price as a power of ten, over the error asked for
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self.at(10**middle / error).error <= error else (middle, high)
        return self.at(10**high / error)

    def method(self, choice: _Choice) -> Method:
        """The method of these choices."""
        passes = {}
        for one, count in zip(self._sets, choice.passes, strict=True):
            passes |= one.passes(count if len(set(count)) > 1 else count[0])
        return _method(self._base, passes, dict(zip(map(glob.escape, self._products), choice.bits, strict=True)))


def tune(
    sampling: Sampling,
    target: float,
    *,
    digit_width: int = 3,
    track: Track = lambda items, title: iter(items),
) -> Tuned:
    """Find a closed-loop method for a network.

    Parameters
    ----------
    sampling : Sampling
        Like those that the method is for. Its own images are not drawn; where a network takes more than labels, its
        conditioning is what others are drawn from.
    target : float
        PSNR against dense, mean of images, dB.
    digit_width : int
        k, 3 or 4: the machine is that of ``closed-int3`` or ``closed-int4``.
    track : callable
        Wraps the iteration over what is measured, called with it and a title.

    Returns
    -------
    Tuned
        The cheapest method that was found to reach the target, else the best (`Tuned.reached` tells).

    Raises
    ------
    ValueError
        If the machine is none of the two, or the network cannot be sampled.
    """
    if digit_width not in (3, 4):
        raise ValueError(f"digit_width must be 3 or 4, not {digit_width!r}")
    problem = _Problem(sampling, Method.named(f"closed-int{digit_width}"), track)
    dense = Method(flow="dense")
    images = sampling.example(_IMAGES["tuning"], _SEEDS["tuning"])
    reference = run(images, dense).images
    peak = 2.0 if sampling.process.clip else float(np.ptp(reference))

    def searched(goal: float) -> tuple[_Choice, float]:
        """The cheapest choices that were found to reach a goal on the images to tune on, else the best; and theirs."""
        aim = wanted = peak**2 / 10 ** (goal / 10)
        tried: list[tuple[bool, float, _Choice, float]] = []  # whether it reaches, how good it is, what it is
        for _ in range(_ROUNDS):
            choice = problem.cheapest(aim)
            if any(choice == known for *_, known, _ in tried):
                break
            quality = float(psnr(run(images, problem.method(choice)).images, reference, peak).mean())
            tried.append((quality >= goal, -choice.cost if quality >= goal else quality, choice, quality))
            aim *= wanted / (peak**2 / 10 ** (quality / 10))
        *_, choice, quality = max(tried, key=lambda one: one[:2])
        return choice, quality

    goal, found = target + MARGIN, None
    for attempt in track(range(_ATTEMPTS), "Methods"):
        choice, quality = searched(goal)
        others = sampling.example(_IMAGES["checking"], _SEEDS["checking"] + attempt)  # each time ones never seen
        away = psnr(run(others, problem.method(choice)).images, run(others, dense).images, peak)
        last = Tuned(problem.method(choice), target, quality, float(away.mean()), float(away.min()))
        if found is None or last.checking > found.checking:
            found = last
        if found.reached or quality < goal:
            break
        goal += target - last.checking + MARGIN
    return found
