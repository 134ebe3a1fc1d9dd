"""The activation in delta form: a delta passes, goes, or is multiplied by a slope, as the old output's mask says."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import or_tree
from hw.arith.float import FLOAT16, Rules, float_multiply
from hw.stream import Stage
from hw.units.outlier_selector import select_outliers
from hw.units.unit import PipelinedUnit

_RULES = Rules(overflow="clamp", zero="positive", non_finite="nan")


class SignMask(PipelinedUnit):
    """Masks delta groups, or values, by the sign or the segment of the old output (``docs/numerics.md``, section 9).

    Three forms, by the parameters:

    * ``mask_operand = digits``: a delta group and a bit per lane. Masked outliers go and the others move up.
    * ``mask_operand = values``, ``mask_width = 1``: FP16 values and a bit per lane.
    * ``mask_width >= 2``: FP16 values and a code per lane, which picks a slope.

    Latency: ``latency`` clocks. Throughput: one group (vector) per clock.

    Numerics: the segment form rounds each product once and clamps it; the others are exact.

    Parameters
    ----------
    parameters : Parameters
        Besides what shapes a group: ``mask_operand``, ``mask_width`` and ``pipeline_depth``.

    Members
    -------
    i : In(stream)
        `payloads.sign_mask_input`: the operand (``group`` or ``values``), and ``mask`` or ``codes``.
    o : Out(stream)
        `payloads.sign_mask_output`: the masked group, or n FP16 values.
    slopes : In(array of 2^s FP16 patterns)
        Segment form only: slope of each segment; steady while vectors are under way.
    clear : In(1)
        Values only: clears the status, unless its event happens in the same clock.
    overflow : Out(1)
        Segment form only, sticky: a product was clamped.
    poisoned : Out(1)
        Values only, sticky: a value or slope was no finite number.
    """

    name = "sign_mask"
    summary = "activation in delta form: mask or slope by the old output's sign or segment"

    def _members(self, parameters: Parameters) -> dict:
        signature = {
            "i": In(stream.Signature(payloads.sign_mask_input(parameters))),
            "o": Out(stream.Signature(payloads.sign_mask_output(parameters))),
        }
        if parameters.mask_operand == "values":
            signature |= {"clear": In(1), "poisoned": Out(1)}
        if parameters.mask_width > 1:
            signature |= {"slopes": In(data.ArrayLayout(16, 2**parameters.mask_width)), "overflow": Out(1)}
        return signature

    @property
    def throughput(self) -> str:
        """One group, or vector, per clock."""
        return "one group per clock" if self.parameters.mask_operand == "digits" else "one vector per clock"

    def _describe(self, m: Module, platform: object) -> int:
        s = Stage.begin(m, self.i)
        if self.parameters.mask_operand == "digits":
            s, payload = mask_group(s, self.parameters, self.i.p.group, self.i.p.mask)
        elif self.parameters.mask_width == 1:
            s, payload = self._mask_values(s, m)
        else:
            s, payload = self._multiply_slopes(s, m)
        return s.finish(self.o, payload, depth=self.parameters.pipeline_depth)

    def _mask_values(self, s: Stage, m: Module) -> tuple[Stage, Value]:
        values = list(self.i.p.values)
        wrong = [~FLOAT16.is_finite(value) for value in values]
        masked = [
            Mux(bad, FLOAT16.nan, value & keeps.replicate(16))
            for value, bad, keeps in zip(values, wrong, self.i.p.mask, strict=True)
        ]
        self._stick(m, poisoned=s.moves & or_tree(wrong))
        return s, Cat(value[:16] for value in masked)

    def _multiply_slopes(self, s: Stage, m: Module) -> tuple[Stage, Value]:
        slopes = Array(self.slopes)
        s.values, s.picked = list(self.i.p.values), [slopes[code] for code in self.i.p.codes]
        s = s.cut()
        s.wrong = or_tree(~FLOAT16.is_finite(operand) for operand in [*s.values, *s.picked])
        operands = enumerate(zip(s.values, s.picked, strict=True))
        lanes = [s.instance(f"lane{lane}", value=value, slope=slope) for lane, (value, slope) in operands]
        s, lanes = s.join([float_multiply(lane, FLOAT16, _RULES, lane.value, lane.slope) for lane in lanes])
        self._stick(m, overflow=s.moves & or_tree(lane.overflow for lane in lanes), poisoned=s.moves & s.wrong)
        return s, Cat(lane.value for lane in lanes)


def mask_group(s: Stage, parameters: Parameters, group: data.View, mask: Value) -> tuple[Stage, Value]:
    """Mask a delta group: where the mask is 0 nothing is left, and the outliers that stay move up.

    Parameters
    ----------
    s : Stage
        Where the group comes in.
    parameters : Parameters
        What shapes a group.
    group : View of `payloads.delta_group`
        The group.
    mask : Value, n bits
        A bit for each lane.

    Returns
    -------
    Stage, Value
        Where the masked group leaves, and its bits.
    """
    p = parameters
    s.exponent, s.replay = group.exponent, group.replay if p.replays else Const(0, 1)
    s.digits = Cat(group.digits[lane].as_unsigned() & mask[lane].replicate(p.digit_width) for lane in range(p.lanes))
    something, slots = s.digits.any(), Const(0, 0)
    if p.outliers:
        s.outliers = group.outliers
        s.kept = Cat(slot.valid & mask.bit_select(slot.lane, 1) for slot in group.outliers)
        s = _move_up(s.cut(), p)
        # Slots fill from the first on, so an empty first one means that there are none.
        something, slots = s.digits.any() | s.moved[0].valid, Cat(s.moved)
    # A poisoned group has no digits and no outliers to begin with, but is no zero group.
    keeps = something | s.replay | s.exponent.all()
    replay = s.replay if p.replays else Const(0, 0)
    return s, Cat(Mux(keeps, s.exponent, ZERO_GROUP), replay, s.digits, slots)


def _move_up(s: Stage, parameters: Parameters) -> Stage:
    """Slots that are kept, without gaps: the selection of the kept ones among them, by their places."""
    p = parameters
    body = data.StructLayout({"lane": p.lane_width, "value": 16})
    bodies = data.ArrayLayout(body, p.outliers)(Cat(Cat(slot.lane, slot.value) for slot in s.outliers))
    s = select_outliers(s, s.kept, bodies, outliers=p.outliers)
    layout = payloads.outlier(p)
    s.moved = [layout(Cat(slot.valid, slot.value)) for slot in s.slots]
    return s
