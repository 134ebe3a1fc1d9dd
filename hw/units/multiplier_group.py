"""A delta group times n weights, summed exactly, rounded once into an accumulator."""

from amaranth.hdl import Cat, Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, Parameters
from hw import payloads
from hw.arith.accumulate import round_and_accumulate
from hw.stream import Stage
from hw.units.group_sum import Factors, GroupSum
from hw.units.unit import PipelinedUnit


class MultiplierGroup(PipelinedUnit):
    """Sums the products of a delta group and n weights, and accumulates the sums (``docs/numerics.md`` section 7).

    ::

        digits, weights --> gate and add --> tree --.
                                                    +--> frame --> shift by scale --> round and accumulate --> o
        outliers --> pick weight --> multiply ------'

    Without outliers the frame is skipped: group exponent and scale make one shift. Signs are flips on the adders'
    inputs (see `hw.arith.sums`), the last of them at the accumulator.

    Latency: one clock per stage, see `latency`. Throughput: one group per clock.

    Numerics: the sum of a group is exact; it is rounded once, ties to even, to the accumulator's LSB and added exactly.

    Parameters
    ----------
    parameters : Parameters
        Uses all that shape a delta group or a weight, ``accumulator_width`` and ``pipeline_depth``.

    Members
    -------
    i : In(stream)
        ``payloads.multiplier_group_input``.
    o : Out(stream)
        ``payloads.sum_with_poison``, one for each group marked ``last``.
    clear : In(1)
        Clears `overflow` and `poisoned`, unless their event happens in the same clock.
    overflow : Out(1)
        Sticky: the accumulator was clamped.
    poisoned : Out(1)
        Sticky: a poisoned group came.
    """

    name = "multiplier_group"
    _group_sum = GroupSum
    summary = "delta group x n weights, exact sum, rounded into an accumulator"

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.multiplier_group_input(parameters))),
            "o": Out(stream.Signature(payloads.sum_with_poison(parameters))),
            "clear": In(1),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return "one group per clock"

    def _describe(self, m: Module, platform: object) -> int:
        p, payload = self.parameters, self.i.p
        s = Stage.begin(m, self.i)
        s.first, s.last, s.poison = payload.first, payload.last, payload.group.exponent == POISONED_GROUP
        group_sum = self._group_sum(p, platform)
        s = group_sum.describe(s, Factors.of(payload.group, payload.weights, payload.scale))
        total, offset = s.total, group_sum.offset
        result = round_and_accumulate(
            s, platform, value=total.value, flip=total.flip, amount=s.amount, offset=offset, width=p.accumulator_width
        )
        self._stick(m, overflow=result.clamped, poisoned=result.poison)
        s = result.stage
        return s.finish(self.o, Cat(s.sum, s.poisoned), depth=p.pipeline_depth)
