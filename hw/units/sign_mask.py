"""The activation in delta form: a delta passes, goes, or is multiplied by a slope, as the old output's mask says."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.float import FLOAT16, MULTIPLY_CUTS, Rules, float_multiply
from hw.arith.path import Path, carry, parallel, run, wait
from hw.stream import Pipeline
from hw.units.outlier_selector import or_tree, select_outliers, selection_cuts
from hw.units.unit import Unit

__all__ = ["SignMask"]

_RULES = Rules(overflow="clamp", zero="positive", non_finite="nan")


class SignMask(Unit):
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
    def latency(self) -> int:
        """Clocks from an accepted group to the masked one."""
        return min(self._cuts, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """One group, or vector, per clock."""
        return "one group per clock" if self.parameters.mask_operand == "digits" else "one vector per clock"

    @property
    def _cuts(self) -> int:
        p = self.parameters
        if p.mask_operand == "digits":
            return 1 + (1 + selection_cuts(p.outliers, p.outliers) if p.outliers else 0)
        return 2 + MULTIPLY_CUTS if p.mask_width > 1 else 1

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        pipe = Pipeline(m, self.i, self.o, cuts=self._cuts, depth=self.parameters.pipeline_depth)
        if self.parameters.mask_operand == "digits":
            self._mask_group(m, pipe)
        elif self.parameters.mask_width == 1:
            self._mask_values(m, pipe)
        else:
            self._multiply_slopes(m, pipe)
        return m

    def _mask_group(self, m: Module, pipe: Pipeline) -> None:
        p = self.parameters
        group, mask = self.i.p.group, self.i.p.mask
        replay = group.replay if p.replays else Value.cast(0)
        digits = Cat(group.digits[lane].as_unsigned() & mask[lane].replicate(p.digit_width) for lane in range(p.lanes))
        found = {"exponent": group.exponent, "replay": replay, "digits": digits}
        slots = Value.cast(0)[:0]
        if p.outliers:
            kept = Cat(
                slot.valid & mask.bit_select(slot.lane, 1) for slot in (group.outliers[j] for j in range(p.outliers))
            )
            s = run(pipe, carry(self._move_up(m, kept, group.outliers), **found))
            found = {name: s[name] for name in found}
            slots = s["slots"].as_value()
            # Slots fill from the first on, so an empty first one means that there are none.
            something = found["digits"].any() | s["slots"][0].valid
        else:
            something = found["digits"].any()
        # A poisoned group has no digits and no outliers to begin with, but is no zero group.
        keeps = something | found["replay"] | found["exponent"].all()
        exponent = Mux(keeps, found["exponent"], ZERO_GROUP)
        pipe.finish(Cat(exponent, found["replay"] if p.replays else Value.cast(0)[:0], found["digits"], slots))

    def _move_up(self, m: Module, kept: Value, slots: data.View) -> Path:
        """Slots that are kept, without gaps: the selection of the kept ones among them, by their places."""
        p = self.parameters
        s = yield {"kept": kept, "slots": slots}
        bodies = Signal(data.ArrayLayout(p.lane_width + 16, p.outliers), name="slot_bodies")
        m.d.comb += [bodies[j].eq(Cat(s["slots"][j].lane, s["slots"][j].value)) for j in range(p.outliers)]
        s = yield from select_outliers(m, s["kept"], bodies, outliers=p.outliers)
        moved = Signal(data.ArrayLayout(payloads.outlier(p), p.outliers), name="moved_slots")
        for place, slot in enumerate(s["slots"]):
            m.d.comb += [
                moved[place].valid.eq(slot.valid),
                Cat(moved[place].lane, moved[place].value).eq(slot.value),
            ]
        return {"slots": moved}

    def _mask_values(self, m: Module, pipe: Pipeline) -> None:
        values = [self.i.p.values[lane] for lane in range(self.parameters.lanes)]
        wrong = [~FLOAT16.is_finite(value) for value in values]
        masked = [
            Mux(bad, FLOAT16.nan, value & self.i.p.mask[lane].replicate(16))
            for lane, (value, bad) in enumerate(zip(values, wrong, strict=True))
        ]
        pipe.finish(Cat(value[:16] for value in masked))
        self._stick(m, poisoned=self.i.valid & self.i.ready & or_tree(wrong))

    def _multiply_slopes(self, m: Module, pipe: Pipeline) -> None:
        p = self.parameters
        slopes = Array(self.slopes[code] for code in range(2**p.mask_width))
        picked = {f"slope{lane}": slopes[self.i.p.codes[lane]] for lane in range(p.lanes)}
        s = pipe.cut(values=self.i.p.values, **picked)
        wrong = or_tree(
            [
                ~FLOAT16.is_finite(operand)
                for lane in range(p.lanes)
                for operand in (s.values[lane], getattr(s, f"slope{lane}"))
            ]
        )

        def lane_path(lane: int) -> Path:
            return float_multiply(m, FLOAT16, _RULES, s.values[lane], getattr(s, f"slope{lane}"))

        flags = wait(MULTIPLY_CUTS, wrong=wrong)
        results = run(pipe, parallel(flags=flags, **{f"lane{lane}": lane_path(lane) for lane in range(p.lanes)}))
        lanes = [results[f"lane{lane}"] for lane in range(p.lanes)]
        pipe.finish(Cat(lane["value"] for lane in lanes))
        leaves = pipe.valid & pipe.advance
        self._stick(
            m,
            overflow=leaves & or_tree([lane["overflow"] for lane in lanes]),
            poisoned=leaves & results["flags"]["wrong"],
        )
