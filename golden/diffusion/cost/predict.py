"""The cost model: bytes, clocks and storage of a layer in one step, the same for every report.

Words: a *clock of the array* is one in which each of its groups takes one delta group; the *link* lies between core and
near-memory engine, the *memory side* behind it (dense and Diffy have no engine: what crosses their link crosses their
memory side too). A *flow* is how activations travel, see `golden.diffusion.cost.flows.FLOWS`.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from golden.common import names
from golden.diffusion.cost.flows import FLOWS
from golden.diffusion.cost.layer import HALF_BYTES, LayerShape, Load
from golden.diffusion.cost.rates import Rates, group_bits
from golden.parameters import Parameters
from golden.units import delta_compressor

DIGIT_COST = 0.239
"""Cost of one 3-bit by FP16 multiplier over that of an FP16 by FP16 one. Source: Cambricon-D (ISCA 2024), derived from
its 60 + 4 multipliers that stand for 18.3."""

INT8_COST = DIGIT_COST * 7 / 2
"""Cost of an 8-bit by FP16 multiplier over that of an FP16 by FP16 one: 7 bits of magnitude instead of 2."""

REPAIR_BITS = 64
"""Bits of a flip repair on the link: address 32, lane 8, value 16, rounded up to 8 bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a layer or a network costs in one step; costs can be added.

    Members
    -------
    link_in, link_out : float
        Bytes of activations to the core and from it.
    raw : float
        Those among them that cross in FP16 in the open loop, because they have no delta form.
    weights : float
        Bytes of weights, on the same link, once for the batch.
    read, written : float
        Bytes of activations and state at memory, behind the near-memory engine.
    kept : float
        Bytes of state that stay in memory between steps.
    yardstick : float
        Bytes of Diffy's 32 bits: 16 for each input and 16 for each output.
    cycles, dense_cycles : float
        Clocks of the array, and those of a dense FP16 array whose multipliers cost as much.
    macs : int
        Multiply-accumulates of the layers, each once.
    work : float
        Clocks of single lanes that these keep: passes, products of two activations in delta form twice, skipped zero
        groups taken off (of all rows at a time); lanes that only pad, and tiles that are not full, are left out.
    """

    link_in: float = 0.0
    link_out: float = 0.0
    raw: float = 0.0
    weights: float = 0.0
    read: float = 0.0
    written: float = 0.0
    kept: float = 0.0
    yardstick: float = 0.0
    cycles: float = 0.0
    dense_cycles: float = 0.0
    macs: int = 0
    work: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return Cost(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def link(self) -> float:
        """Bytes of activations on the link."""
        return self.link_in + self.link_out

    @property
    def ratio(self) -> float | None:
        """Activations on the link over Diffy's 32 bits; None for what only masks."""
        return self.link / self.yardstick if self.yardstick else None

    def clocks(self, parameters: Parameters) -> dict[str, int]:
        """Clocks that each part of a machine takes; they overlap, so the longest binds.

        Parameters
        ----------
        parameters : Parameters
            The machine.

        Returns
        -------
        dict
            ``compute``: of the array. ``link``: both directions and weights on one bus, `link_width` bits a clock.
            ``memory``: ``memory_lanes * state_bits`` bits a clock, reads and writes on separate ports; weights are
            the link's.
        """
        p = parameters
        return {
            "compute": math.ceil(self.cycles),
            "link": math.ceil(8 * (self.weights + self.link) / p.link_width),
            "memory": math.ceil(8 * max(self.read, self.written) / (p.memory_lanes * p.state_bits)),
        }


def total(costs: Iterable[Cost]) -> Cost:
    """Sum of costs."""
    return sum(costs, Cost())


def multipliers(parameters: Parameters) -> float:
    """FP16 by FP16 multipliers that cost as much as those of one group: ``0.239 * (k - 1) / 2 * n + m``, at least 1.

    An int-by-float multiplier is a row of AND gates and an adder for each bit of the magnitude, 0.239 of a float
    multiplier at k = 3 (published).
    """
    return max(DIGIT_COST * (parameters.digit_width - 1) / 2 * parameters.lanes + parameters.outliers, 1.0)


def predict(load: Load, flow: str, rates: Rates, parameters: Parameters) -> Cost:
    """Cost of one layer in one step.

    ``I`` inputs, ``O`` outputs, ``G`` elements quantised in the open loop, ``M`` masked, ``raw`` in FP16 there, ``b``
    bits of `rates`, ``w`` and ``s`` bits of state and mask, all in bits::

        flow         link in              link out           memory read          memory written       kept
        dense        16 I                 16 O               as the link          as the link          0
        int8         8 I                  8 O                as the link          as the link          0
        raw          b_in I               16 O               16 I                 16 O                 0
        diffy        16 (I + O)           16 (I + O)         as the link          as the link          16 (I + O)
        sign_mask    s M + 16 raw in      b_out G + 16 raw   w G + s M + 16 raw   w G + s M + 16 raw   w G + s M
        closed_loop  b_in I               p b_out O          w ((p + 1) O + I)    w (p O + I)          w (I + O)

    In the closed loop the engine adds p deltas to Y, one of each product: two for a product of two activations (the
    first step sends one of them alone, which is not seen here). It reads Y once more where it is used, and reads and
    writes what it holds of X. With `flip_repair` every flip takes 64 bits more on the way in.

    Clocks of the array are those of one pass (`LayerShape.array_clocks`) times the passes of the operand that is
    digits. Of raw operands of the open loop's attention the core makes `Rates.raw_passes` passes, no group skipped;
    groups of repairs that are not zero come on top, each alone. Dense arrays have as many multipliers as cost as much,
    see `multipliers`.

    Parameters
    ----------
    load : Load
        The layer.
    flow : str
        One of `FLOWS`.
    rates : Rates
        Bits and passes.
    parameters : Parameters
        The machine.

    Raises
    ------
    ValueError
        If there is no such flow.
    """
    names.lookup("Flow", flow, FLOWS)
    link_in, link_out, read, written, kept = (bits / 8 for bits in _crossing(load, flow, rates, parameters))
    dense_cycles = sum(shape.dense_clocks(parameters, multipliers(parameters)) for shape in load.dense)
    macs = sum(shape.macs for shape in load.dense)
    cycles, work = float(dense_cycles), float(macs)
    if flow == "int8":
        cycles *= INT8_COST
    elif flow != "dense":
        cycles, work = _array(load, flow, rates, parameters)
    scales = parameters.weight_form == "aligned" and flow not in ("dense", "int8")
    weights = sum(shape.weight_bytes(parameters, scales=scales) for shape in load.dense) if load.weights else 0
    return Cost(
        link_in=link_in,
        link_out=link_out,
        raw=HALF_BYTES * (load.raw_in + load.raw_out) if flow == "sign_mask" else 0.0,
        weights=weights / (2 if flow == "int8" else 1),
        read=read,
        written=written,
        kept=kept,
        yardstick=HALF_BYTES * (load.inputs + load.outputs),
        cycles=cycles,
        dense_cycles=dense_cycles,
        macs=macs,
        work=work,
    )


def _crossing(load: Load, flow: str, rates: Rates, parameters: Parameters) -> tuple[float, float, float, float, float]:
    """Bits in and out on the link, read and written behind it, and kept: the table of `predict`."""
    i, o, w, s = load.inputs, load.outputs, parameters.state_bits, parameters.mask_width
    if flow == "dense":
        return 16 * i, 16 * o, 16 * i, 16 * o, 0
    if flow == "int8":
        return 8 * i, 8 * o, 8 * i, 8 * o, 0
    if flow == "diffy":
        both = 16 * (i + o)
        return both, both, both, both, both
    if flow == "sign_mask":
        groups = sum(count * rates.by_output.get(name, rates.output_bits) for name, count in load.groups.items())
        state = w * sum(load.groups.values()) + s * load.masked
        at_memory = state + 16 * (load.raw_in + load.raw_out)
        repairs = REPAIR_BITS * rates.flips * load.masked if parameters.flip_repair else 0
        link_in = s * load.masked + 16 * load.raw_in + repairs
        return link_in, groups + 16 * load.raw_out, at_memory, at_memory, state
    inputs = sum(count * rates.by_input.get(name, rates.input_bits) for name, count in load.sources.items())
    if flow == "raw":
        return inputs, 16 * o, 16 * i, 16 * o, 0
    outputs, p = o * rates.by_output.get(load.name, rates.output_bits), len(load.shapes)
    return inputs, p * outputs, w * ((p + 1) * o + i), w * (p * o + i), w * (o + i)


def _array(load: Load, flow: str, rates: Rates, parameters: Parameters) -> tuple[float, float]:
    """Clocks of the array, and of single lanes, where operands are digits."""
    p, cycles, work = parameters, 0.0, 0.0
    shapes = load.dense if flow == "raw" else load.shapes
    for shape, source in zip(shapes, load.digits or ("",) * len(shapes), strict=False):
        passes, skipped = rates.by_passes.get(source, rates.passes), rates.zero_groups
        if flow == "sign_mask" and load.raw:
            passes, skipped = rates.raw_passes, 0.0
        repairs = min(rates.repairs * p.rows, rates.raw_passes) if p.flip_repair and load.masked_operand else 0.0
        cycles += passes * shape.array_clocks(p, zero_groups=skipped)
        cycles += repairs * shape.array_clocks(p)
        work += (passes * (1 - skipped**p.rows) + repairs) * shape.macs
    return cycles, work


# What `rtl_gen explain` prints --------------------------------------------------------------------------------------


def machine(parameters: Parameters) -> dict[str, int | float]:
    """Figures that follow from the parameters alone; `dense_lanes` are `multipliers`."""
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
        "dense_lanes": multipliers(p),
        "accumulator_bits": groups * p.accumulator_width,
        "state_bits_per_element": p.state_bits,
        "memory_word_bits": p.memory_lanes * p.state_bits,
    }


def explain(shape: LayerShape, parameters: Parameters) -> list[dict[str, Any]]:
    """A layer by itself under every flow, of which nothing is known: no group zero, nothing compressed, no flips.

    Returns
    -------
    list of dict
        For each of `FLOWS`: ``flow``; clocks ``compute_cycles``, ``link_cycles``, ``memory_cycles`` of `Cost.clocks`,
        the longest as ``cycles`` and its name as ``bound``; ``utilisation``, multiplications over those the array could
        do in these clocks; bytes ``weight_bytes``, ``link_in_bytes``, ``link_out_bytes``, ``memory_read_bytes``,
        ``memory_write_bytes``, ``state_bytes`` kept between steps, ``input_buffer_bytes`` of the whole input on chip
        (plain groups, or as values), ``weight_buffer_bytes`` of one tile, twice, ``accumulator_bytes`` of the array;
        ``link_bytes`` and ``memory_bytes`` both ways.
    """
    p, load, found = parameters, Load.alone(shape), []
    for flow in FLOWS:
        cost = predict(load, flow, Rates.plain(p, flow), p)
        clocks = cost.clocks(p)
        bound = max(clocks, key=lambda part: clocks[part])
        values = {"dense": 16, "int8": 8}.get(flow)
        lanes = p.lanes if values is None else multipliers(p) / (INT8_COST if flow == "int8" else 1)
        into, out, read, written = map(math.ceil, (cost.link_in, cost.link_out, cost.read, cost.written))
        found.append(
            {
                "flow": flow,
                **{f"{part}_cycles": number for part, number in clocks.items()},
                "cycles": clocks[bound],
                "bound": bound,
                "utilisation": shape.macs / (clocks[bound] * p.rows * p.columns * lanes),
                "weight_bytes": math.ceil(cost.weights),
                "link_in_bytes": into,
                "link_out_bytes": out,
                "memory_read_bytes": read,
                "memory_write_bytes": written,
                "state_bytes": math.ceil(cost.kept),
                "input_buffer_bytes": math.ceil(shape.inputs * (values or group_bits(p) / p.lanes) / 8),
                "weight_buffer_bytes": 2 * p.columns * math.ceil(cost.weights) // shape.out_channels,
                "accumulator_bytes": math.ceil(p.rows * p.columns * p.accumulator_width / 8),
                "link_bytes": into + out,
                "memory_bytes": read + written,
            }
        )
    return found
