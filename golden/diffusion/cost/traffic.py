"""What of a whole network crosses the link in a step, and what a method costs on it.

Words: what crosses between core and near-memory engine (the *link*) is counted in *boundary elements*: every operand of
a product once, however many products read it (*inputs*), and every result of a product (*outputs*). Layers on
conditioning alone (time, label, text) are left out. *Diffy's 32 bits* are 16 for each input and 16 for each output,
which is the least a machine can move that takes deltas in the core; Diffy itself also brings the old values in and
takes the new ones back, see `cost.predict`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from golden.diffusion.cost import areas
from golden.diffusion.cost.layer import LayerShape, Load, layer_shape
from golden.diffusion.cost.predict import Cost, predict, total
from golden.diffusion.cost.rates import Rates
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.layers import AddChannel, Layer, Role, Shape
from golden.diffusion.networks.graph import Network, main_values


def loads(network: Network, batch: int = 1, attention: str = "delta", *, modulated: bool = False) -> list[Load]:
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
        both = layer.bilinear and len(operands) == 2
        sources = {source: _size(shapes[source]) for source, axis in operands if (source, axis) not in sent}
        sent.update(operands)
        groups: dict[str, int] = {}
        values: dict[str, Any] = {}
        if layer.bilinear and (attention == "raw" or not both):
            values["raw"] = True
            fresh = {source for source, _ in operands} - raw
            raw |= fresh
            values["raw_in"] = sum(_size(shapes[source]) for source in fresh)
        elif operands or layer.role is Role.ACTIVATION:
            shape = shapes[layer.inputs[0]]
            places = operands or [(layer.inputs[0], (1 if len(shape) == 4 else -1) % len(shape))]
            for (source, axis), flag in zip(places, flags, strict=False):
                if not flag and (source, axis) not in grouped:
                    grouped.add((source, axis))
                    groups[source] = _size(shapes[source])
        values["masked_operand"] = bool(layer.contracted) and not layer.bilinear and any(flags)
        if layer.role is Role.ACTIVATION:
            values["masked"] = _size(shapes[layer.name])
            quantised[layer.name] = True
        else:
            quantised[layer.name] = layer.role is Role.MOVE and len(layer.inputs) == 1 and flags[0]
        if layer.contracted:
            products = _products(layer, shapes)
            twice = both and attention == "delta"
            values |= {
                "outputs": _size(shapes[layer.name]),
                "shapes": products * (2 if twice else 1),
                "digits": tuple(source for source, _ in operands[: 2 if twice else 1]),
                "dense": products,
            }
            if _leaves_raw(network, layer.name, main, attention, modulated):
                values["raw_out"] = values["outputs"]
        if layer.contracted or groups or values.get("masked"):
            values |= {"weights": not layer.bilinear, "sources": sources, "groups": groups}
            found.append(Load(name=layer.name, kind=layer.kind, **values))
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
    if not layer.bilinear:
        shape = layer_shape(layer, shapes[layer.inputs[0]])
        return () if shape is None else (shape,)
    *lead, rows, inner = shapes[layer.inputs[0]]
    columns = shapes[layer.name][-1]
    return (LayerShape(kind="linear", in_channels=inner, out_channels=columns, height=rows, batch=max(_size(lead), 1)),)


def _leaves_raw(network: Network, name: str, main: frozenset[str], attention: str, modulated: bool) -> bool:
    """Whether, in the open loop, a value goes somewhere that takes no groups before it is quantised."""
    readers = [layer for layer in network.consumers(name) if layer.name in main]
    for layer in readers:
        if layer.role is Role.ACTIVATION or (layer.contracted and (not layer.bilinear or attention == "delta")):
            continue
        conditioned = any(source not in main for source in layer.inputs)
        linear = layer.linear and not layer.contracted
        if conditioned:
            linear = isinstance(layer, AddChannel) or (modulated and layer.role is Role.SCALE)
        onward = linear or layer.role is Role.NORM
        if not onward or _leaves_raw(network, layer.name, main, attention, modulated):
            return True
    return not readers


def passes(network: Network, method: Method, steps: int) -> dict[str, float]:
    """Clocks of a lane that every operand takes by the rules of a method, on average over the steps.

    All passes count, those included that no vector of a tensor needs.
    """
    main = main_values(network)
    sent = (
        source
        for layer in network.layers
        if layer.name in main and layer.contracted
        for source in layer.inputs[: len(layer.contracted)]
        if source in main
    )
    return {
        source: sum(method.passes_of(network, source, step, steps) for step in range(steps)) / steps
        for source in dict.fromkeys(sent)
    }


def step(network: Network, method: Method, rates: Rates) -> Cost:
    """Cost of one step of one image."""
    table = loads(network, 1, method.attention)
    return total(predict(load, method.flow, rates, method.machine) for load in table)


def price(
    network: Network, method: Method, measure: Measure | None, report: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """What a method costs, whatever its machine is.

    Parameters
    ----------
    network, method : Network, Method
        What ran.
    measure : Measure
        Notes of it; None of the dense method.
    report : sequence of mapping
        Areas, see `golden.diffusion.cost.areas.read`.

    Returns
    -------
    dict
        ``link_bits`` that cross the link for a boundary element, in and out together (Diffy: 32, see `cost.predict`;
        deltas in the smaller of stream and joint form), and ``area_cycles``: LUTs of a multiplier lane times the clocks
        that a multiply-accumulate keeps it (`Cost.work`); None if this very group is not in the report.
    """
    whole = step(network, method, Rates() if measure is None else Rates.measured(measure, joint=True))
    luts = areas.lane(report, None if method.flow == "dense" else method.machine)
    return {"link_bits": 32 * whole.ratio, "area_cycles": None if luts is None else luts * whole.work / whole.macs}
