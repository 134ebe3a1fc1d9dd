"""The group of an integer machine: digits times weights in multiplier blocks instead of gated adders."""

from amaranth.hdl import Module, Value

from golden.parameters import Parameters
from hw.arith.path import Path, parallel
from hw.arith.sums import Term, add_terms, levels
from hw.units.int_float_multiplier import split_digit
from hw.units.multiplier_group import MultiplierGroup

__all__ = ["MultipliedGroup"]


class MultipliedGroup(MultiplierGroup):
    """Does what `MultiplierGroup` does, bit by bit, with one multiplier (a DSP block) for each lane.

    This is how raw INT8 activations are multiplied on a part that has the blocks.

    Latency: see `latency`, one clock for the product. Throughput: one group per clock.

    Parameters
    ----------
    parameters : Parameters
        As for `MultiplierGroup`, with aligned weights and without outliers.

    Raises
    ------
    ValueError
        If weights are floats, or there are outliers.
    """

    summary = "delta group x n weights in multiplier blocks: the rival"

    def __init__(self, parameters: Parameters):
        for name, wanted in (("weight_form", "aligned"), ("outliers", 0)):
            if getattr(parameters, name) != wanted:
                raise ValueError(f"{name} must be {wanted} in multiplier blocks, not {getattr(parameters, name)}")
        super().__init__(parameters)

    @property
    def _inlier_cuts(self) -> int:
        return 1 + levels(self.parameters.lanes)

    def _inliers(self, m: Module, platform: object, payload) -> Path:
        p = self.parameters
        paths = {}
        for lane in range(p.lanes):
            sign, magnitude = split_digit(payload.group.digits[lane])
            paths[f"lane{lane}"] = _multiply(payload.weights[lane], magnitude, sign)
        products = yield from parallel(**paths)
        limit = self._weight_limit * p.digit_max
        terms = [Term(products[name]["value"], limit, products[name]["flip"]) for name in paths]
        return (yield from add_terms(m, platform, "tree", terms))


def _multiply(weight: Value, magnitude: Value, flip: Value) -> Path:
    return (yield {"value": weight.as_signed() * magnitude, "flip": flip})
