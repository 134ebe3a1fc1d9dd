"""Predicted cycles, storage and bytes of one layer: the one cost model that every report uses.

Words: a *step* is one clock of the array, in which each of its groups takes one delta group; the *link* lies between
core and near-memory engine, the *memory side* behind it (the dense and the Diffy flow have no engine: what crosses
their link crosses their memory side too). A *flow* is how activations travel, see `FLOWS`.
"""

import dataclasses
from typing import Any, Literal, get_args

from golden.common import names
from golden.parameters import EXPONENT_WIDTH, SCALE_WIDTH, Parameters
from golden.units import delta_compressor
from golden.units.delta_group import DeltaGroups

__all__ = ["FLOWS", "LayerShape", "Prediction", "Traffic", "compare", "group_bits", "machine", "predict"]

Flow = Literal["dense", "diffy", "sign_mask", "closed_loop"]

FLOWS: dict[str, str] = {
    "dense": "FP16 values in and out, every step from scratch, on FP16 multipliers of the same cost",
    "diffy": "deltas taken in the core: raw X(t-1) and Y(t-1) come back from memory, X(t) and Y(t) go there",
    "sign_mask": "deltas stay on chip; compressed deltas go to the near-memory engine, sign bits come back",
    "closed_loop": "compressed output deltas go to the near-memory engine, deltas of the true input come back",
}
"""Every flow and what it does."""

HALF_BYTES = 2
"""Bytes of a raw activation or a stored weight."""

DIGIT_COST = 0.239
"""Cost of one 3-bit by FP16 multiplier over that of an FP16 by FP16 one. Source: Cambricon-D (ISCA 2024), derived from
its 60 + 4 multipliers that stand for 18.3."""

REPAIR_BYTES = 8
"""Bytes of a flip repair on the link: address 32 bits, lane 8, value 16, rounded up to 8 bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerShape:
    """Shape of a linear layer.

    Parameters
    ----------
    kind : str
        ``"convolution"`` or ``"linear"``; a linear layer has kernel 1 and its tokens as height.
    in_channels, out_channels : int
        Channels.
    kernel, stride : int
        Of a convolution (square, padded to keep the size).
    height, width : int
        Of the input, in pixels.
    batch : int
        Images that share the weights of one load.

    Raises
    ------
    TypeError, ValueError
        If a value is no positive integer, or a linear layer has a kernel or a stride.
    """

    kind: Literal["convolution", "linear"] = "convolution"
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    height: int = 1
    width: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        """Check every rule."""
        if self.kind not in ("convolution", "linear"):
            raise ValueError(f"kind must be convolution or linear, not {self.kind!r}")
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")
        for name in ("kernel", "stride"):
            if self.kind == "linear" and getattr(self, name) != 1:
                raise ValueError(f"{name} of a linear layer must be 1, not {getattr(self, name)}")

    @property
    def inputs(self) -> int:
        """Input elements: ``batch * in_channels * height * width``."""
        return self.batch * self.in_channels * self.height * self.width

    @property
    def positions(self) -> int:
        """Output positions: ``batch * ceil(height / stride) * ceil(width / stride)``."""
        return self.batch * -(-self.height // self.stride) * -(-self.width // self.stride)

    @property
    def outputs(self) -> int:
        """Output elements: ``positions * out_channels``."""
        return self.positions * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates: ``outputs * in_channels * kernel^2``, the padding's included."""
        return self.outputs * self.in_channels * self.kernel**2

    def groups_per_output(self, parameters: Parameters) -> int:
        """Groups of one output: ``kernel^2 * ceil(in_channels / n)``; under the layer policy the contracted indices
        are flattened first: ``ceil(kernel^2 * in_channels / n)``.
        """
        n = parameters.lanes
        if parameters.exponent_policy == "layer":
            return -(-(self.kernel**2) * self.in_channels // n)
        return self.kernel**2 * -(-self.in_channels // n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the deltas of a layer are like. The defaults assume nothing: no group is zero, nothing is compressed.

    Parameters
    ----------
    zero_groups : float
        Share of input groups that are zero and skipped, 0..1.
    replay_groups : float
        Replay groups for each input group, 0 or more.
    input_passes : int
        Passes in which input deltas come, 1..8.
    bits_per_element : float or None
        Compressed bits of one element in one pass, headers and padding included; None: the plain group over its lanes.
    flips : float
        Share of elements whose mask changes in a step, 0..1; costs repairs only with `flip_repair`.
    anew : bool
        What comes are raw values: the sums start anew, and nothing of the step before is read or kept. Of the flows
        diffy, which then moves what dense does, and closed_loop.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    zero_groups: float = 0.0
    replay_groups: float = 0.0
    input_passes: int = 1
    bits_per_element: float | None = None
    flips: float = 0.0
    anew: bool = False

    def __post_init__(self) -> None:
        """Check every rule."""
        for name in ("zero_groups", "flips"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, not {getattr(self, name)}")
        if self.replay_groups < 0:
            raise ValueError(f"replay_groups must be at least 0, not {self.replay_groups}")
        if self.input_passes not in range(1, 9):
            raise ValueError(f"input_passes must be in 1..8, not {self.input_passes}")
        if self.bits_per_element is not None and self.bits_per_element < 0:
            raise ValueError(f"bits_per_element must be at least 0, not {self.bits_per_element}")

    @classmethod
    def measured(
        cls,
        groups: DeltaGroups,
        parameters: Parameters,
        *,
        passes: int = 1,
        elements: int | None = None,
        flips: float = 0,
    ) -> "Traffic":
        """Figures of real groups, the compressed size among them.

        Parameters
        ----------
        groups, passes, elements :
            As for `delta_compressor.cost`.
        flips : float
            As above.
        """
        if len(groups) == 0:
            raise ValueError("Groups to measure must be at least one, not none")
        counted = int((~groups.replay).sum())
        spent = delta_compressor.cost(groups, parameters, passes=passes, elements=elements)
        return cls(
            zero_groups=float(groups.zero.sum() / counted),
            replay_groups=float(groups.replay.sum() / counted),
            input_passes=passes,
            bits_per_element=spent.per_element / passes,
            flips=flips,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """Cost of one layer in one step of the sampling.

    Members
    -------
    flow : str
        One of `FLOWS`.
    compute_cycles : int
        Steps of the array.
    link_cycles : int
        Clocks in which the link carries its bytes at `link_width` bits a clock, both directions and weights on one bus.
    memory_cycles : int
        Clocks in which memory carries its state at ``memory_lanes * state_bits`` bits a clock, reads and writes on
        separate ports; weights are the link's.
    cycles : int
        The largest of the three: they overlap.
    bound : str
        Which one that is.
    utilisation : float
        Multiplications of the layer over those the array could do in `cycles`; more than 1 if skipping pays.
    weight_bytes : int
        Weights in, once for the whole batch.
    link_in_bytes, link_out_bytes : int
        Activations towards and from the core, without weights.
    memory_read_bytes, memory_write_bytes : int
        Activations and state at memory, without weights.
    state_bytes : int
        What stays in memory between steps.
    input_buffer_bytes : int
        The layer's whole input on chip, as plain groups (FP16 in the dense flow).
    weight_buffer_bytes : int
        One output tile's weights, twice (one in use, one arriving).
    accumulator_bytes : int
        All accumulators of the array.
    """

    flow: str
    compute_cycles: int
    link_cycles: int
    memory_cycles: int
    cycles: int
    bound: str
    utilisation: float
    weight_bytes: int
    link_in_bytes: int
    link_out_bytes: int
    memory_read_bytes: int
    memory_write_bytes: int
    state_bytes: int
    input_buffer_bytes: int
    weight_buffer_bytes: int
    accumulator_bytes: int

    @property
    def link_bytes(self) -> int:
        """Activations on the link, both directions."""
        return self.link_in_bytes + self.link_out_bytes

    @property
    def memory_bytes(self) -> int:
        """Activations and state at memory, both directions."""
        return self.memory_read_bytes + self.memory_write_bytes

    def to_dict(self) -> dict[str, Any]:
        """Members and totals as a mapping, for tables and JSON."""
        return {**dataclasses.asdict(self), "link_bytes": self.link_bytes, "memory_bytes": self.memory_bytes}


def group_bits(parameters: Parameters) -> int:
    """Bits of a plain delta group: ``6 + [replay] + n * k + m * (1 + ceil(log2 n) + 16)``."""
    outlier = 1 + parameters.lane_width + 16
    bits = EXPONENT_WIDTH + parameters.lanes * parameters.digit_width + parameters.outliers * outlier
    return bits + parameters.replays


def machine(parameters: Parameters) -> dict[str, int | float]:
    """Figures that follow from the parameters alone, for `rtl_gen explain`.

    `dense_lanes` is the number of FP16 by FP16 multipliers that cost as much as one group's:
    ``0.239 * (k - 1) / 2 * n + m``, at least 1: an int-by-float multiplier is a row of AND gates and an adder for each
    bit of the magnitude, 0.239 of a float multiplier at k = 3 (published).
    """
    p = parameters
    groups = p.rows * p.columns
    return {
        "group_bits": group_bits(p),
        "longest_compressed_group_bits": delta_compressor.Layout.of(p).longest,
        "digit_max": p.digit_max,
        "exponent_max": p.exponent_max,
        "weight_bits": p.weight_width,
        "inlier_product_bits": p.digit_width + p.weight_width
        if p.weight_form == "aligned"
        else p.digit_width - 1 + p.weight_mantissa_width,
        "groups": groups,
        "int_float_multipliers": groups * p.lanes,
        "float_multipliers": groups * p.outliers,
        "macs_per_cycle": groups * p.lanes,
        "dense_lanes": _dense_lanes(p),
        "accumulator_bits": groups * p.accumulator_width,
        "state_bits_per_element": p.state_bits,
        "memory_word_bits": p.memory_lanes * p.state_bits,
    }


def _dense_lanes(parameters: Parameters) -> float:
    return max(DIGIT_COST * (parameters.digit_width - 1) / 2 * parameters.lanes + parameters.outliers, 1.0)


def _bytes(bits: float) -> int:
    return int(-(-bits // 8))


def predict(
    shape: LayerShape, parameters: Parameters, flow: str = "sign_mask", traffic: Traffic | None = None
) -> Prediction:
    """Predict one layer in one step.

    Compute: the array works on `rows` positions by `columns` output channels at a time and its rows share the weights,
    so they go in lockstep: a step is skipped where the groups of all rows are zero, and repeated if any row replays.
    With ``T = ceil(positions / rows) * ceil(out_channels / columns)`` output tiles, ``g`` groups of an output,
    ``p`` input passes, zero share ``z`` and replays ``r``::

        steps = T * g * p * (1 - z^rows + min(1, r * rows))        differential flows (layer rows in lockstep)
        steps = T * ceil(g * n / dense_lanes)                      dense, see `machine`

    Weights: ``out_channels * g * n`` values of 2 bytes in their stored order, padding included, and 2 bytes of scale
    for each aligned group.

    Bytes of activations, with ``I`` inputs, ``O`` outputs, ``b`` compressed bits of an element in a pass, ``o`` output
    passes, ``w`` bits of a state element, ``s`` bits of a mask::

        flow         link in                      link out       memory read           memory write
        dense        2 I                          2 O            as the link           as the link
        diffy        2 I (X) + 2 O (Y)            2 I + 2 O      as the link           as the link
        sign_mask    s O / 8 + repairs            p b O / 8      w O / 8 + s O / 8     w O / 8 + s O / 8
        closed_loop  p b I / 8                    o b O / 8      2 w O / 8 + w I / 8   w O / 8 + w I / 8

    The sign-mask flow keeps input deltas on chip. In the closed loop the engine reads Y twice (statistics, then use),
    and reads and writes Xhat; each layer is charged for the Xhat of its own input. Raw values (`Traffic.anew`) add to
    no Y and need no Xhat: Y is written and read once. Repairs: ``8 * flips * O`` bytes.
    Diffy counts X and Y of the layer once each way.

    Parameters
    ----------
    shape : LayerShape
        The layer.
    parameters : Parameters
        The machine.
    flow : str
        One of `FLOWS`.
    traffic : Traffic
        What the deltas are like.

    Raises
    ------
    ValueError
        If there is no such flow.
    """
    names.lookup("Flow", flow, FLOWS)
    traffic = traffic or Traffic()
    p = parameters
    groups = shape.groups_per_output(p)
    tiles = -(-shape.positions // p.rows) * -(-shape.out_channels // p.columns)
    lanes = groups * p.lanes
    passes = traffic.input_passes
    if flow == "dense":
        dense_lanes = _dense_lanes(p)
        compute = tiles * int(-(-lanes // dense_lanes))
        peak = p.rows * p.columns * dense_lanes
    else:
        share = 1 - traffic.zero_groups**p.rows + min(1.0, traffic.replay_groups * p.rows)
        compute = int(-(-tiles * groups * passes * share // 1))
        peak = p.rows * p.columns * p.lanes

    scales = -(-SCALE_WIDTH // 8) * groups if p.weight_form == "aligned" and flow != "dense" else 0
    weight_bytes = shape.out_channels * (lanes * HALF_BYTES + scales)

    inputs, outputs = shape.inputs, shape.outputs
    bits = traffic.bits_per_element if traffic.bits_per_element is not None else group_bits(p) / p.lanes
    state, sign = _bytes(p.state_bits * outputs), _bytes(p.mask_width * outputs)
    # Under the sign mask the groups that leave are the very ones the next layer takes in.
    deltas_out = _bytes((passes if flow == "sign_mask" else p.output_passes) * bits * outputs)
    repairs = int(-(-traffic.flips * outputs // 1)) * REPAIR_BYTES if p.flip_repair else 0
    if flow == "dense" or (flow == "diffy" and traffic.anew):
        link_in, link_out = HALF_BYTES * inputs, HALF_BYTES * outputs
        read, write, kept = link_in, link_out, 0
    elif flow == "diffy":
        link_in = link_out = HALF_BYTES * (inputs + outputs)
        read, write, kept = link_in, link_out, link_in
    elif flow == "sign_mask":
        link_in, link_out = sign + repairs, deltas_out
        read = write = state + sign
        kept = state + sign
    else:
        sums = _bytes(p.state_bits * inputs)
        link_in, link_out = _bytes(passes * bits * inputs), deltas_out
        read, write = (state, state) if traffic.anew else (2 * state + sums, state + sums)
        kept = 0 if traffic.anew else state + sums

    link_cycles = -(-8 * (weight_bytes + link_in + link_out) // p.link_width)
    memory_cycles = -(-8 * max(read, write) // (p.memory_lanes * p.state_bits))
    costs = {"compute": compute, "link": link_cycles, "memory": memory_cycles}
    bound = max(costs, key=lambda name: costs[name])
    cycles = costs[bound]
    buffered = HALF_BYTES * inputs if flow == "dense" else _bytes(passes * group_bits(p) * inputs / p.lanes)
    return Prediction(
        flow=flow,
        compute_cycles=compute,
        link_cycles=link_cycles,
        memory_cycles=memory_cycles,
        cycles=cycles,
        bound=bound,
        utilisation=shape.macs / (cycles * peak),
        weight_bytes=weight_bytes,
        link_in_bytes=link_in,
        link_out_bytes=link_out,
        memory_read_bytes=read,
        memory_write_bytes=write,
        state_bytes=kept,
        input_buffer_bytes=buffered,
        weight_buffer_bytes=2 * p.columns * (lanes * HALF_BYTES + scales),
        accumulator_bytes=_bytes(p.rows * p.columns * p.accumulator_width),
    )


def compare(shape: LayerShape, parameters: Parameters, traffic: Traffic | None = None) -> list[Prediction]:
    """Predictions of one layer under every flow, in the order of `FLOWS`."""
    return [predict(shape, parameters, flow, traffic) for flow in get_args(Flow)]
