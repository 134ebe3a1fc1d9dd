"""DeepCache: most steps of a sampling reuse the deep part of a U-Net (Ma et al., *DeepCache*, CVPR 2024).

A *cache step* runs the whole network and keeps the value that the up path brings to one skip connection, the *branch*.
A *retrieval step* evaluates only what lies outside that branch, with the value kept. Which steps are cache steps is a
list of step numbers, from 0: `uniform` or `centred` (and `rising`) as the authors' code computes them.

Layers that a retrieval step leaves out see nothing of it: their next delta is against the last step in which they ran.
An executor gets that right if it keeps what each layer read last, by layer. One that hands deltas from layer to layer
must add up those of the steps between where a layer outside the branch feeds one inside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from golden.common.checked import Count, Range, check
from golden.diffusion.layers import Concat
from golden.diffusion.networks.graph import Executor, Network, StatefulExecutor, main_values

_LARGEST_POWER = 10
"""Far above any that is used; the search of `centred` lowers the power by 0.02 at a time."""


def _check(steps: int, interval: int) -> None:
    check("Steps", steps, Count)
    check("Interval", interval, Count)


def check_cached(cached: Iterable[int], steps: int | None = None) -> tuple[int, ...]:
    """Cache steps in order, if they are step numbers that contain 0.

    Raises
    ------
    TypeError, ValueError
        If one is no integer or not a step of `steps` (None: it is not known how many there are), or 0 is missing.
    """
    found = set()
    for step in cached:
        check("Cache step", step, int)
        if step < 0 or (steps is not None and step >= steps):
            last = "up" if steps is None else f"to {steps - 1}"
            raise ValueError(f"Cache steps must be from 0 {last}, not {step}")
        found.add(int(step))
    if 0 not in found:
        raise ValueError(f"Cache steps must contain step 0, not only {sorted(found)}")
    return tuple(sorted(found))


def planned(steps: int, interval: int, centre: int | None = None, power: float | None = None) -> tuple[int, ...]:
    """Cache steps: `centred` if there is a centre, `rising` if there is a power alone, otherwise `uniform`."""
    if centre is not None:
        return centred(steps, interval, centre, 1.4 if power is None else power)
    return uniform(steps, interval) if power is None else rising(steps, interval, power)


def uniform(steps: int, interval: int) -> tuple[int, ...]:
    """Cache steps 0, interval, 2 interval, ..."""
    _check(steps, interval)
    return tuple(range(0, steps, interval))


def centred(steps: int, interval: int, centre: int, power: float = 1.4) -> tuple[int, ...]:
    """As many cache steps as `uniform`, denser around one step, as the authors' code places them.

    Numbers from ``-centre`` to ``steps - centre``, evenly spaced in their root of degree `power`, are raised to it, cut
    to integers and counted from `centre`. In the authors' code the root of the negative end is its principal complex
    root, and what is cut is the real part; a real root would give other schedules than the published ones. If fewer
    distinct steps come out, the power is lowered by 0.02 at a time.

    Parameters
    ----------
    steps, interval : int
        Steps of the sampling; mean distance of cache steps.
    centre : int
        Step around which cache steps are dense, between 0 and `steps`.
    power : float
        More than 1, 10 at the most; the authors use 1.4 with centre 15 for 50 steps of Stable Diffusion.

    Raises
    ------
    ValueError
        If an argument is out of range, or no power above 1 gives as many steps.
    """
    _check(steps, interval)
    check("Centre", centre, int)
    if not 0 < centre < steps:
        raise ValueError(f"Centre must lie between 0 and the number of steps, {steps}, not be {centre!r}")
    check("Power", power, Annotated[float, Range(high=_LARGEST_POWER)])
    count, tried = -(-steps // interval), power
    while tried > 1:
        ends = complex(-centre) ** (1 / tried), (steps - centre) ** (1 / tried)
        around = np.unique((np.linspace(*ends, count + 1) ** tried).real.astype(np.int32))
        found = (0, *(int(step) + centre for step in around[1:-1]))
        if len(found) == count:
            return found
        tried -= 0.02
    raise ValueError(f"Power must be above 1 and give {count} cache steps around {centre}, not be {power!r}")


def rising(steps: int, interval: int, power: float = 1.5) -> tuple[int, ...]:
    """Cache steps ever farther apart: evenly spaced in their root of degree `power` (the authors' code for LDM).

    At most as many as `uniform`: steps that fall together count once.
    """
    _check(steps, interval)
    check("Power", power, Annotated[float, Range(high=_LARGEST_POWER, above=0)])
    spaced = np.linspace(0, steps ** (1 / power), -(-steps // interval) + 1) ** power
    return tuple(np.unique(spaced.astype(np.int32))[:-1].tolist())


def branches(network: Network) -> tuple[str, ...]:
    """Values that can be kept: what the up path brings to each skip connection, from the output inwards.

    Branch 0 leaves the least to a retrieval step. In the U-Net of the zoo branch i is what enters ``up<i>.concat``.
    A transformer has none; a block can be named instead.
    """
    main = main_values(network)
    joined = (layer for layer in reversed(network.layers) if isinstance(layer, Concat) and layer.name in main)
    return tuple(layer.inputs[0] for layer in joined)


def value(network: Network, branch: int | str) -> str:
    """Name of the value to keep: that of a branch by number, or of any layer by name.

    Raises
    ------
    ValueError
        If there is no such branch or layer.
    TypeError
        If it is neither an integer nor a text.
    """
    if isinstance(branch, str):
        network.evaluated([branch])
        return branch
    check("Branch", branch, int | str)
    known = branches(network)
    if not known:
        raise ValueError(f"Branch must be the name of a layer, as {network.name!r} joins no values, not {branch}")
    if not 0 <= branch < len(known):
        raise ValueError(f"Branch must be the name of a layer or below {len(known)} in {network.name!r}, not {branch}")
    return known[branch]


def macs(network: Network, branch: int | str = 0) -> tuple[int, int]:
    """Multiply-accumulates of a cache step and of a retrieval step, for one image."""
    work = network.macs()
    left = sum(work[layer.name] for layer in network.evaluated([value(network, branch)]))
    return sum(work[layer.name] for layer in network.evaluated()), left


@dataclass(frozen=True)
class Cache:
    """Which steps of a sampling run the whole network, and what the others reuse.

    Parameters
    ----------
    whole : iterable of int
        Cache steps by their number, step 0 among them; see `planned`.
    branch : int or str
        What is kept, see `value`.

    Raises
    ------
    TypeError, ValueError
        If a step is no integer from 0, or 0 is missing.
    """

    whole: tuple[int, ...]
    branch: int | str = 0

    def __post_init__(self) -> None:
        """Put the steps in order."""
        object.__setattr__(self, "whole", check_cached(self.whole))

    def check(self, network: Network, steps: int) -> None:
        """Refuse steps that a sampling does not have, and branches that a network does not have.

        Raises
        ------
        TypeError, ValueError
            If there is one.
        """
        check_cached(self.whole, steps)
        value(network, self.branch)

    def share(self, network: Network, steps: int) -> float:
        """Share of the multiply-accumulates of a whole sampling that is left."""
        self.check(network, steps)
        full, left = macs(network, self.branch)
        return (len(self.whole) * full + (steps - len(self.whole)) * left) / (steps * full)


class Reuse:
    """Calls of a network, whole ones and ones that use a value of the last whole one.

    Parameters
    ----------
    network : Network
        To call.
    branch : int or str
        What is kept, see `value`.

    Raises
    ------
    ValueError
        If there is no such branch.
    """

    def __init__(self, network: Network, branch: int | str):
        self.network = network
        self.branch = value(network, branch)
        self._kept = None

    def __call__(self, inputs: Sequence[np.ndarray], executor: Executor, whole: bool) -> np.ndarray:
        """Call the network, or what is left of it."""
        if whole:
            output, kept = self.network(*inputs, executor=executor, keep=[self.branch])
            self._kept = kept[self.branch]
            return output
        held = executor.held(self._kept) if isinstance(executor, StatefulExecutor) else self._kept
        return self.network(*inputs, executor=executor, given={self.branch: held})
