"""Bytes and cycles of a step of a whole network, flow by flow, and the published machine's figures beside them.

Words: what crosses between core and near-memory engine (the *link*) is counted in *boundary elements*: every operand of
a product once, however many products read it (*inputs*), and every result of a product (*outputs*). Layers on
conditioning alone (time, label, text) are left out. *Diffy's 32 bits* are 16 for each input and 16 for each output,
which is the least a machine can move that takes deltas in the core; Diffy itself also brings the old values in and
takes the new ones back, see `cost.predict`. `Rates` say how many bits an element takes when it is compressed.
"""

import dataclasses
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

from golden.common import names
from golden.diffusion.cost import areas
from golden.diffusion.cost.predict import DIGIT_COST, HALF_BYTES, LayerShape, machine, predict
from golden.diffusion.cost.predict import Traffic as LayerTraffic
from golden.diffusion.differential.configuration import Configuration
from golden.diffusion.differential.measure import Measure, Row
from golden.diffusion.differential.profile import ACTIVATIONS, NORMS, main_values
from golden.diffusion.layers import Layer, Shape
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.published import layer_shape
from golden.parameters import EXPONENT_WIDTH, PRESETS, Parameters

__all__ = [
    "CAMBRICON_D",
    "KINDS",
    "PAPER",
    "Bill",
    "Item",
    "Rates",
    "against_dense",
    "bill",
    "items",
    "kind_of",
    "passes",
    "price",
    "total",
]

Kind = Literal["fp16", "int8", "diffy", "raw", "sign_mask", "closed_loop"]

KINDS: dict[str, str] = {
    "fp16": "dense, FP16 in and out",
    "int8": "dense, 8 bits in and out",
    "diffy": "deltas taken in the core: X(t-1) and Y(t-1) in, X(t) and Y(t) out, all FP16",
    "raw": "raw activations as digits in, FP16 out, no state",
    "sign_mask": "delta groups and mask bits; what has no delta form, raw attention above all, in FP16",
    "closed_loop": "delta groups in, delta groups out",
}
"""Ways in which activations cross the link."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A layer and what of it crosses the link.

    Members
    -------
    name, kind : str
        As of the layer.
    shapes : tuple of LayerShape
        Products to compute: one, or none; two for a product of two activations in delta form.
    digits : tuple of str
        The operand that is digits in each of `shapes`.
    dense : tuple of LayerShape
        Products when nothing is a delta.
    weights : bool
        Whether one operand are weights.
    sources : mapping of str to int
        Operands that this layer is the first to read, and their elements.
    anew : bool
        Whether operands are sent raw in every step, so that the result adds to no state (raw attention).
    outputs : int
        Elements of its result, if it is a product.
    groups : mapping of str to int
        Values that are quantised for this layer in the open loop, and their elements.
    masked : int
        Elements that a mask stands for, in the open loop.
    raw_in, raw_out : int
        Elements that cross in FP16 in the open loop: operands of raw attention; results that go where no delta goes.
    """

    name: str
    kind: str
    shapes: tuple[LayerShape, ...] = ()
    digits: tuple[str, ...] = ()
    dense: tuple[LayerShape, ...] = ()
    weights: bool = True
    sources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    anew: bool = False
    outputs: int = 0
    groups: Mapping[str, int] = dataclasses.field(default_factory=dict)
    masked: int = 0
    raw_in: int = 0
    raw_out: int = 0

    @property
    def inputs(self) -> int:
        """Elements of all `sources`."""
        return sum(self.sources.values())


def items(network: Network, batch: int = 1, attention: str = "delta", *, modulated: bool = False) -> list[Item]:
    """Every layer of a network that computes a product or, in the open loop, sends something.

    Parameters
    ----------
    network : Network
        With or without weights.
    batch : int
        Images of one step.
    attention : str
        Products of two activations on ``delta`` groups, or ``raw``.
    modulated : bool
        Whether, in the open loop, factors that depend on time or label are taken for constant between two steps, so
        that deltas go through them. `golden.diffusion.differential.open_loop` does not.
    """
    shapes, main = network.shapes(batch), main_values(network)
    sent: set[tuple[str, int]] = set()  # by value and axis: operands near memory, groups of the open loop
    grouped: set[tuple[str, int]] = set()
    raw: set[str] = set()
    quantised: dict[str, bool] = {}
    found = []
    for layer in network.layers:
        if layer.name not in main:
            continue
        flags = [quantised.get(source, False) for source in layer.inputs]
        operands = _operands(layer, main, shapes)
        both = layer.kind == "matmul" and len(operands) == 2
        sources = {source: _size(shapes[source]) for source, axis in operands if (source, axis) not in sent}
        sent.update(operands)
        groups: dict[str, int] = {}
        values: dict[str, Any] = {}
        if layer.kind == "matmul" and (attention == "raw" or not both):
            fresh = {source for source, _ in operands} - raw
            raw |= fresh
            values["raw_in"] = sum(_size(shapes[source]) for source in fresh)
        elif operands or layer.kind in ACTIVATIONS:
            shape = shapes[layer.inputs[0]]
            places = operands or [(layer.inputs[0], (1 if len(shape) == 4 else -1) % len(shape))]
            for (source, axis), flag in zip(places, flags, strict=False):
                if not flag and (source, axis) not in grouped:
                    grouped.add((source, axis))
                    groups[source] = _size(shapes[source])
        if layer.kind in ACTIVATIONS:
            values["masked"] = _size(shapes[layer.name])
            quantised[layer.name] = True
        else:
            shaping = layer.linear and len(layer.inputs) == 1 and layer.kind not in ("mean", "add_constant")
            quantised[layer.name] = shaping and not layer.contracted and flags[0]
        if layer.contracted:
            products = _products(layer, shapes)
            twice = both and attention == "delta"
            values |= {
                "outputs": _size(shapes[layer.name]),
                "shapes": products * (2 if twice else 1),
                "digits": tuple(source for source, _ in operands[: 2 if twice else 1]),
                "dense": products,
                "anew": layer.kind == "matmul" and attention == "raw",
            }
            if _leaves_raw(network, layer.name, main, attention, modulated):
                values["raw_out"] = values["outputs"]
        if layer.contracted or groups or values.get("masked"):
            weights = layer.kind != "matmul"
            found.append(
                Item(name=layer.name, kind=layer.kind, weights=weights, sources=sources, groups=groups, **values)
            )
    return found


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _operands(layer: Layer, main: frozenset[str], shapes: Mapping[str, Shape]) -> list[tuple[str, int]]:
    """Operands of a product that are activations, each with its contracted axis counted from the front."""
    return [
        (source, axis % len(shapes[source]))
        for source, axis in zip(layer.inputs, layer.contracted, strict=False)
        if source in main
    ]


def _products(layer: Layer, shapes: Mapping[str, Shape]) -> tuple[LayerShape, ...]:
    """Product of a layer as the cost model takes it; of two activations, one of them stands for the weights."""
    if layer.kind != "matmul":
        shape = layer_shape(layer, shapes[layer.inputs[0]])
        return () if shape is None else (shape,)
    *lead, rows, inner = shapes[layer.inputs[0]]
    columns = shapes[layer.name][-1]
    return (LayerShape(kind="linear", in_channels=inner, out_channels=columns, height=rows, batch=max(_size(lead), 1)),)


def _leaves_raw(network: Network, name: str, main: frozenset[str], attention: str, modulated: bool) -> bool:
    """Whether, in the open loop, a value goes somewhere that takes no groups before it is quantised."""
    readers = [layer for layer in network.consumers(name) if layer.name in main]
    for layer in readers:
        if layer.kind in ACTIVATIONS or (layer.contracted and (layer.kind != "matmul" or attention == "delta")):
            continue
        conditioned = any(source not in main for source in layer.inputs)
        linear = layer.linear and not layer.contracted
        if conditioned:
            linear = layer.kind == "add_channel" or (modulated and layer.kind in ("modulate", "gate"))
        onward = linear or layer.kind in NORMS
        if not onward or _leaves_raw(network, layer.name, main, attention, modulated):
            return True
    return not readers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """What an element costs on the way, on average over the steps of a sampling.

    Members
    -------
    input_bits, output_bits : float
        Bits of an element; in the open loop `output_bits` are those of whatever is quantised.
    passes : float
        Clocks of a lane for an input: passes, and a digit wider than the machine's k counts for several.
    zero_groups : float
        Share of groups that are zero.
    by_input, by_output, by_passes : mapping of str to float
        Bits and passes of single values, where they are known.
    source : str
        Where this is from.
    """

    input_bits: float = 0.0
    output_bits: float = 0.0
    passes: float = 1.0
    zero_groups: float = 0.0
    by_input: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_output: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_passes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""

    @classmethod
    def measured(
        cls, measure: Measure, *, joint: bool, source: str = "", steps: Container[int] | None = None
    ) -> "Rates":
        """Rates of a sampling.

        Parameters
        ----------
        measure : Measure
            Its notes.
        joint : bool
            Whether what comes in more than one pass takes the joint form, where that is smaller, not the stream's.
        source : str
            Where they are from.
        steps : container of int
            Steps that count; default: all.
        """

        def bits(rows: Iterable[Row]) -> float:
            rows = list(rows)
            elements = sum(row.elements for row in rows)
            spent = sum(min(row.bits, row.joint) if joint else row.bits for row in rows)
            return spent / elements if elements else 0.0

        def by_name(notes: Mapping[tuple[int, str], Row]) -> dict[str, list[Row]]:
            kept: dict[str, list[Row]] = {}
            for (step, name), row in notes.items():
                if steps is None or step in steps:
                    kept.setdefault(name, []).append(row)
            return kept

        inputs, outputs = by_name(measure.inputs), by_name(measure.outputs)
        digits = inputs or outputs
        whole = sum((row for rows in digits.values() for row in rows), Row())
        return cls(
            input_bits=bits(row for rows in inputs.values() for row in rows),
            output_bits=bits(row for rows in outputs.values() for row in rows),
            passes=whole.clocks / whole.elements if whole.elements else 1.0,
            zero_groups=whole.zero_groups / whole.groups if whole.groups else 0.0,
            by_input={name: bits(rows) for name, rows in inputs.items()},
            by_output={name: bits(rows) for name, rows in outputs.items()},
            by_passes={
                name: sum(row.clocks for row in rows) / sum(row.elements for row in rows)
                for name, rows in digits.items()
            },
            source=source,
        )

    @classmethod
    def elsewhere(cls, measure: Measure, *, joint: bool, source: str = "") -> "Rates":
        """Rates for another network than the measured one: names of values mean nothing there, and bits of lanes that
        only pad its narrow layers are left out.
        """
        found = cls.measured(measure, joint=joint, source=source)
        bits = []
        for notes in (measure.inputs, measure.outputs):
            spent = elements = 0.0
            for row in notes.values():
                forms = (row.bits - row.padding, row.joint - row.joint_padding)
                spent += min(forms) if joint else forms[0]
                elements += row.elements
            bits.append(spent / elements if elements else 0.0)
        return dataclasses.replace(
            found, input_bits=bits[0], output_bits=bits[1], by_input={}, by_output={}, by_passes={}
        )


def passes(network: Network, configuration: Configuration, steps: int) -> dict[str, float]:
    """Clocks of a lane that every operand takes by the rules of a configuration, on average over the steps.

    All passes count, those included that no vector of a tensor needs. A digit wider than the machine's k, which
    ``layer_digits`` may ask for, takes ``ceil((k' - 1) / (k - 1))`` clocks.
    """
    found = {}
    main, c = main_values(network), configuration
    entry = next(iter(network.inputs))
    for source in dict.fromkeys(
        source
        for layer in network.layers
        if layer.name in main and layer.contracted
        for source in layer.inputs[: len(layer.contracted)]
        if source in main
    ):
        layers = network.consumers(source)
        readers = tuple(layer.name for layer in layers)
        raw = c.attention == "raw" and any(layer.kind == "matmul" for layer in layers)
        wide = -(-(c.digits_of(readers) - 1) // (c.machine.digit_width - 1))
        total = 0
        for step in range(steps):
            count = c.passes_of(step, steps, readers, first_layer=source == entry)
            if c.refreshes(step):
                count = max(count, c.first_passes)
            elif raw:
                count = max(count, c.raw_passes)
            total += count * wide
        found[source] = total / steps
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
    """What a layer or a network costs in one step; bills can be added.

    Members
    -------
    link_in, link_out : float
        Bytes of activations to the core and from it.
    raw : float
        Those among them that cross in FP16 in the open loop, because they have no delta form.
    weights : float
        Bytes of weights, on the same link, once for the batch.
    read, written : float
        Bytes of activations and state at memory, behind the near-memory engine (dense and Diffy: as the link).
    yardstick : float
        Bytes of Diffy's 32 bits.
    cycles, dense_cycles : float
        Steps of the array, and those of a dense FP16 array whose multipliers cost as much.
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
    yardstick: float = 0.0
    cycles: float = 0.0
    dense_cycles: float = 0.0
    macs: int = 0
    work: float = 0.0

    def __add__(self, other: "Bill") -> "Bill":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Bill(
            **dict(zip((field.name for field in dataclasses.fields(self)), (a + b for a, b in pairs), strict=True))
        )

    @property
    def link(self) -> float:
        """Bytes of activations on the link."""
        return self.link_in + self.link_out

    @property
    def ratio(self) -> float | None:
        """Activations on the link over Diffy's 32 bits; None for what only masks."""
        return self.link / self.yardstick if self.yardstick else None


def bill(
    item: Item, kind: str, rates: Rates, parameters: Parameters, configuration: Configuration | None = None
) -> Bill:
    """Bill of one layer.

    ``I`` inputs, ``O`` outputs, ``G`` elements quantised in the open loop, ``M`` masked, ``b`` bits of `rates`, ``w``
    and ``s`` bits of state and mask, all in bits::

        kind         link in               link out              memory read      memory written
        fp16         16 I                  16 O                  16 I             16 O
        int8         8 I                   8 O                   8 I              8 O
        diffy        16 (I + O)            16 (I + O)            16 (I + O)       16 (I + O)
        raw          b_in I                16 O                  16 I             16 O
        sign_mask    s M + 16 raw in       b_out G + 16 raw out  w G + s M        w G + s M
        closed_loop  b_in I                b_out O               2 w O + w I      w O + w I

    What a closed loop's configuration changes in that: outputs that are not quantised cross at 16 bits; a residual kept
    in r bits takes ``r + 6 / n`` instead of the w of an input; a prediction reads the states before the last ones too
    (w I + w O more; buffers swap, so nothing more is written); operands that are sent raw keep no state, and the result
    is read once.

    Cycles are those of `cost.predict.predict`, times the passes of the operand that is digits. Raw FP16 operands of the
    open loop's attention go through the m float multipliers of a group, in n / m clocks; without any they are
    ``ceil(11 / (k - 1))`` passes of digits.

    Parameters
    ----------
    item : Item
        The layer.
    kind : str
        One of `KINDS`.
    rates : Rates
        Bits and passes.
    parameters : Parameters
        The machine.
    configuration : Configuration
        What else applies; default: nothing special.
    """
    names.lookup("Kind", kind, KINDS)
    i, o, w, s = item.inputs, item.outputs, parameters.state_bits, parameters.mask_width
    inputs = sum(count * rates.by_input.get(name, rates.input_bits) for name, count in item.sources.items())
    outputs = o * rates.by_output.get(item.name, rates.output_bits)
    raw = 0.0
    if kind in ("fp16", "int8"):
        width = 16 if kind == "fp16" else 8
        crossing = (width * i, width * o, width * i, width * o)
    elif kind == "diffy":
        crossing = (16 * (i + o),) * 4
    elif kind == "raw":
        crossing = (inputs, 16 * o, 16 * i, 16 * o)
    elif kind == "sign_mask":
        groups = sum(item.groups.values())
        bits = sum(count * rates.by_output.get(name, rates.output_bits) for name, count in item.groups.items())
        state = w * groups + s * item.masked + 16 * (item.raw_in + item.raw_out)
        raw = 16 * (item.raw_in + item.raw_out)
        crossing = (s * item.masked + 16 * item.raw_in, bits + 16 * item.raw_out, state, state)
    else:
        if configuration is not None and configuration.exact_outputs:
            outputs = 16 * o
        crossing = (inputs, outputs, *_closed_memory(item, parameters, configuration))
    dense = [predict(shape, parameters, "dense") for shape in item.dense]
    dense_cycles = sum(one.compute_cycles for one in dense)
    macs = sum(one.macs for one in item.dense)
    if kind == "fp16":
        cycles, work = float(dense_cycles), float(macs)
    elif kind == "int8":  # on multipliers of 8 bits by FP16 that cost as much
        cycles, work = dense_cycles * DIGIT_COST * 7 / 2, float(macs)
    else:
        cycles = work = 0.0
        traffic = LayerTraffic(zero_groups=rates.zero_groups)
        whole = item.dense if kind == "raw" else item.shapes
        for shape, source in zip(whole, item.digits or ("",) * len(whole), strict=False):
            times, skips = rates.by_passes.get(source, rates.passes), traffic
            if kind == "sign_mask" and item.kind == "matmul" and len(item.shapes) == 1:
                p, skips = parameters, LayerTraffic()
                times = p.lanes / p.outliers if p.outliers else float(-(-11 // (p.digit_width - 1)))
            cycles += times * predict(shape, parameters, "closed_loop", skips).compute_cycles
            work += times * shape.macs * (1 - skips.zero_groups**parameters.rows)
    link_in, link_out, read, written = (bits / 8 for bits in crossing)
    weights = sum(one.weight_bytes for one in dense) if item.weights else 0
    return Bill(
        link_in=link_in,
        link_out=link_out,
        raw=raw / 8,
        weights=weights / (2 if kind == "int8" else 1),
        read=read,
        written=written,
        yardstick=HALF_BYTES * (i + o),
        cycles=cycles,
        dense_cycles=dense_cycles,
        macs=macs,
        work=work,
    )


def _closed_memory(item: Item, parameters: Parameters, configuration: Configuration | None) -> tuple[float, float]:
    """Bits read and written behind the engine in the closed loop."""
    i, o, w = item.inputs, item.outputs, parameters.state_bits
    if item.anew:
        return w * o, w * o
    held, predicts = float(w), False
    if configuration is not None:
        # a prediction passes through linear readers only, so what products of two activations read has none
        predicts = configuration.prediction and item.kind != "matmul"
        if configuration.residual_bits:
            held = configuration.residual_bits + EXPONENT_WIDTH / parameters.lanes
    return 2 * w * o + held * i + (w * (i + o) if predicts else 0), w * o + held * i


def total(bills: Iterable[Bill]) -> Bill:
    """Sum of bills."""
    return sum(bills, Bill())


def kind_of(configuration: Configuration) -> str:
    """Kind of a configuration."""
    return "fp16" if configuration.flow == "dense" else configuration.flow


def price(
    network: Network, configuration: Configuration, measure: Measure | None, report: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """What a method costs, whatever its machine is.

    Parameters
    ----------
    network, configuration : Network, Configuration
        What ran.
    measure : Measure
        Notes of it; None of the dense method.
    report : sequence of mapping
        Areas, see `golden.diffusion.cost.areas.read`.

    Returns
    -------
    dict
        ``link_bits`` that cross the link for a boundary element, in and out together (Diffy: 32, see `cost.traffic`;
        deltas in the smaller of stream and joint form), and ``area_cycles``: LUTs of a multiplier lane times the clocks
        that a multiply-accumulate keeps it (`Bill.work`); None if this very group is not in the report.
    """
    kind = kind_of(configuration)
    rates = Rates() if measure is None else Rates.measured(measure, joint=True)
    table = items(network, 1, configuration.attention)
    whole = total(bill(item, kind, rates, configuration.machine, configuration) for item in table)
    luts = areas.lane(report, None if kind == "fp16" else configuration.machine)
    return {"link_bits": 32 * whole.ratio, "area_cycles": None if luts is None else luts * whole.work / whole.macs}


# The published machine ----------------------------------------------------------------------------------------------

PAPER = "Cambricon-D, ISCA 2024, doi 10.1109/ISCA59077.2024.00070"
"""Where `CAMBRICON_D` is from."""

CAMBRICON_D: dict[str, dict[str, tuple[float, float | None]]] = {
    "guided-diffusion-128": {
        "Cambricon-D": (1.46, 1.12),
        "its PE, Diffy's dataflow": (0.72, 3.27),
        "its dataflow, int5 PE without outliers": (1.33, None),
        "its outliers on an asynchronous array": (1.00, None),
    },
    "guided-diffusion-256": {
        "Cambricon-D": (2.02, 1.32),
        "its PE, Diffy's dataflow": (0.77, 5.78),
        "its dataflow, int5 PE without outliers": (1.65, None),
        "its outliers on an asynchronous array": (1.70, None),
    },
    "guided-diffusion-512": {
        "Cambricon-D": (2.38, 2.04),
        "its PE, Diffy's dataflow": (0.60, 11.58),
        "its dataflow, int5 PE without outliers": (1.73, None),
        "its outliers on an asynchronous array": (1.13, None),
    },
    "sd15": {
        "Cambricon-D": (2.38, 1.48),
        "its PE, Diffy's dataflow": (1.03, 6.83),
        "its dataflow, int5 PE without outliers": (1.85, None),
        "its outliers on an asynchronous array": (2.09, None),
    },
}
"""Published: speed-up over the dense machine of the same arithmetic cost, and off-chip traffic relative to it, None
where it is not given. The last two are its own ablations of the PE.

The fourth network is Stable Diffusion 1.4 at 512 x 512 pixels, whose shape is that of ``sd15``.
"""


BANDWIDTH = 1500.0
"""Bytes off chip in a clock of the published machine: 1.5 TB/s at 1 GHz; its array is that of the preset ``paper``."""


def against_dense(
    table: Sequence[Item],
    kind: str,
    rates: Rates,
    parameters: Parameters | None = None,
    configuration: Configuration | None = None,
) -> tuple[float, float]:
    """Predicted counterpart of a row of `CAMBRICON_D`: speed-up over the dense machine, and traffic relative to it.

    In every layer the array or the memory is the slower. The dense machine has as many FP16 multipliers as cost as much
    as those of a published group, and keeps activations on chip: it moves weights alone. (With that assumption Diffy's
    dataflow moves 2.8 to 11 times as much, as published.) The others move weights and what crosses the link. Products
    of two activations are left out: published, they take 0.9 % of the time.

    Parameters
    ----------
    table : sequence of Item
        The network.
    kind, rates :
        As for `bill`.
    parameters : Parameters
        Of a group, the default is the published one. There are always 128 x 128 of the published cost: groups of
        another shape are counted as many as cost as much.
    configuration :
        As for `bill`.
    """
    paper = PRESETS["paper"]
    own_shape = dataclasses.replace(parameters or paper, rows=paper.rows, columns=paper.columns)
    fair = machine(own_shape)["dense_lanes"] / machine(paper)["dense_lanes"]  # cost of a group over the published one's
    times, moved = [0.0, 0.0], [0.0, 0.0]
    for item in table:
        if not item.weights:
            continue
        dense, own = bill(item, "fp16", Rates(), paper), bill(item, kind, rates, own_shape, configuration)
        for side, cycles, size in ((0, dense.cycles, dense.weights), (1, own.cycles * fair, own.weights + own.link)):
            times[side] += max(cycles, size / BANDWIDTH)
            moved[side] += size
    return times[0] / times[1], moved[1] / moved[0]
