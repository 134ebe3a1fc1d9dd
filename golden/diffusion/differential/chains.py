"""Chains: products whose outputs stay deltas, through a shift by time and a calibrated norm, up to the next product.

::

      product --> + shift --> gamma / deviation --> groups --+--> signs of the step before --> product
                                                              |
                                                              +--> near memory: z += groups, new signs

All between the array and the groups is one rounding, ``RNE16(sum 2^L factor + shift)``. Source:
``docs/closed-loop.md``, 12.24 to 12.27.
"""

import dataclasses

import numpy as np

from golden import formats
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.layers import AddChannel, Layer, Norm, Role
from golden.diffusion.networks.graph import Network
from golden.parameters import Parameters


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Layers of a chain, in their order.

    Members
    -------
    product : Layer
        With weights.
    shift : AddChannel or None
        What adds conditioning by channel.
    norm : Norm or None
        Over groups of channels.
    activation : Layer
        What only products with weights read.
    """

    product: Layer
    shift: AddChannel | None
    norm: Norm | None
    activation: Layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those that there are."""
        return tuple(one for one in (self.product, self.shift, self.norm, self.activation) if one is not None)

    @property
    def read(self) -> str:
        """Name of what the activation reads: its unit is the chain's."""
        return self.activation.inputs[0]


def chains(network: Network, main: frozenset[str], lanes: int) -> tuple[Chain, ...]:
    """Every chain of a network.

    Parameters
    ----------
    network : Network
        Of layers.
    main : frozenset of str
        Values that depend on the network's first input.
    lanes : int
        n: a chain has at least so many channels.
    """
    shapes, found = network.shapes(), []
    for layer in network.layers:
        if not layer.contracted or layer.bilinear or layer.name not in main:
            continue
        path = [layer]
        while len(readers := network.consumers(path[-1].name)) == 1 and path[-1].role is not Role.ACTIVATION:
            path.append(readers[0])
            if not _goes_on(path, main):
                break
        *_, last = path
        readers = network.consumers(last.name)
        ends = last.role is Role.ACTIVATION and _goes_on(path, main) and bool(readers)
        ends &= all(reader.contracted and not reader.bilinear for reader in readers)
        ends &= shapes[layer.name][layer.channel_axis or -1] >= lanes and getattr(layer, "scale", 1.0) == 1.0
        if ends:
            by_role = {one.role: one for one in path}
            found.append(Chain(layer, by_role.get(Role.SUM), by_role.get(Role.NORM), last))
    return tuple(found)


def _goes_on(path: list[Layer], main: frozenset[str]) -> bool:
    """Whether the last layer of a path may follow those before it in a chain."""
    *before, last = path
    roles = [one.role for one in before[1:]]
    if last.inputs[0] != before[-1].name:
        return False
    if isinstance(last, AddChannel):
        return not roles and last.inputs[1] not in main
    if isinstance(last, Norm):
        return bool(last.groups) and roles in ([], [Role.SUM])
    return last.role is Role.ACTIVATION and roles in ([], [Role.SUM], [Role.NORM], [Role.SUM, Role.NORM])


@dataclasses.dataclass(frozen=True, eq=False)
class Scales:
    """What turns the sums of a chain's product into FP16 numbers, ``2^24`` of them a unit of the chain.

    Members
    -------
    places : int
        A sum counts ``2^(L + places)`` units.
    factors : uint16 (channels,)
        FP16 patterns.
    shifts : uint16 (channels,) or (samples, channels)
        FP16 patterns.
    """

    places: int
    factors: np.ndarray
    shifts: np.ndarray


def scales(
    chain: Chain,
    profile: Profile,
    step: int,
    last: int,
    units: tuple[int, int],
    shifts: tuple[np.ndarray, np.ndarray] | None,
) -> Scales:
    """Factors and shifts of a chain in a step.

    Parameters
    ----------
    chain : Chain
        Which.
    profile : Profile
        Gives the deviations of norms.
    step, last : int
        This one, and the one before it in which the chain ran.
    units : tuple of int
        Exponents of the units of the product's state and of the chain.
    shifts : tuple of array, optional
        What is added now and what was in step `last`: float32 (samples, channels).
    """
    channels = len(chain.product.whole_weight)
    factor = np.ones(channels, np.float32)
    if chain.norm is not None:
        now, before = (profile.deviations(chain.norm.name, one).ravel() for one in (step, last))
        rstd = np.float32(1) / (np.float32(now + before) / np.float32(2))
        gamma = factor if chain.norm.weight is None else chain.norm.weight.astype(np.float32)
        factor = np.repeat(rstd, channels // rstd.size) * gamma
    change = np.zeros(channels, np.float32) if shifts is None else np.float32(shifts[0]) - np.float32(shifts[1])
    added = _half(np.ldexp((change * factor).astype(np.float64), -units[1] + formats.HALF_LSB))
    real = np.ldexp(factor.astype(np.float64), units[0] - units[1])
    places = int(np.frexp(np.abs(real).max())[1]) - 1
    return Scales(places, _half(np.ldexp(real, -places)), added)


def static_exponent(chain: Chain, profile: Profile, unit: int, parameters: Parameters) -> int | None:
    """Code of the exponent of a chain's groups, which count ``2^unit``; None where each chooses its own."""
    if parameters.exponent_policy == "group":
        return None
    k = parameters.digit_width
    return min(max(profile.layer_exponent(chain.read, k) - unit, 0), 42 - k)


def chain_passes(method: Method, network: Network, chain: Chain, step: int, steps: int | None) -> int:
    """Passes of a chain's groups: one under a static exponent, as the next would have the same; else as any delta."""
    if method.machine.exponent_policy == "layer":
        return 1
    return method.passes_of(network, chain.activation.name, step, steps)


def repair_passes(method: Method) -> int:
    """Passes of what repairs masks that changed, raw values; 0 where nothing does."""
    return method.first_passes if method.machine.flip_repair else 0


def most_groups(method: Method) -> int:
    """Groups of a vector at most, as a product reads them: passes of a delta; of a chain replays and repairs too."""
    kept = most_kept(method) + repair_passes(method) if method.chains else 0
    return max(method.most_passes, kept)


def most_kept(method: Method) -> int:
    """Groups of a vector of a chain at most: passes or, under a static exponent, as many as its outliers fill."""
    p = method.machine
    if p.exponent_policy == "group":
        return method.most_passes
    return -(-p.lanes // p.outliers) if p.replays else 1


def _half(values: np.ndarray) -> np.ndarray:
    """Patterns of the nearest FP16 numbers, clamped: those of binary64 numbers, rounded once."""
    with np.errstate(over="ignore"):
        found = np.asarray(values, np.float64).astype(np.float16)
    return (np.clip(found, np.float16(-65504), np.float16(65504)) + np.float16(0)).view(np.uint16)  # 0 is +0
