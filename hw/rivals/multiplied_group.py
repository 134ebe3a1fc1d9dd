"""The group of an integer machine: digits times weights in multiplier blocks instead of gated adders."""

from amaranth.hdl import Cat

from golden.parameters import Parameters
from hw.arith.sums import Term, add_terms
from hw.stream import Stage
from hw.units.group_sum import Factors, GroupSum
from hw.units.multiplier_group import MultiplierGroup


class _MultipliedSum(GroupSum):
    """A `GroupSum` whose digits and weights meet in multiplier blocks."""

    def inliers(self, s: Stage, factors: Factors) -> Stage:
        p = self.parameters
        signs, products = [], []
        for (sign, magnitude), weight in zip(factors.digits, factors.weights, strict=True):
            signs.append(sign)
            products.append(weight.as_signed() * magnitude)
        s.signs, s.products = Cat(signs), products

        s = s.cut()
        limit, terms = self.weight_limit * p.digit_max, zip(s.products, s.signs, strict=True)
        return add_terms(s, self.platform, [Term(product, limit, sign) for product, sign in terms])


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

    _group_sum = _MultipliedSum
    summary = "delta group x n weights in multiplier blocks: the rival"

    def __init__(self, parameters: Parameters):
        for name, wanted in (("weight_form", "aligned"), ("outliers", 0)):
            if getattr(parameters, name) != wanted:
                raise ValueError(f"{name} must be {wanted} in multiplier blocks, not {getattr(parameters, name)}")
        super().__init__(parameters)
