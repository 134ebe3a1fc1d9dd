"""What an element costs on the way: bits, passes and shares, measured or assumed."""

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Annotated

from golden.common.checked import Checked, Range, Share
from golden.diffusion.differential.measure import Measure, Row
from golden.parameters import EXPONENT_WIDTH, Parameters

_Number = Annotated[float, Range(0)]


def group_bits(parameters: Parameters) -> int:
    """Bits of a plain delta group: ``6 + [replay] + n * k + m * (1 + ceil(log2 n) + 16)``."""
    outlier = 1 + parameters.lane_width + 16
    bits = EXPONENT_WIDTH + parameters.lanes * parameters.digit_width + parameters.outliers * outlier
    return bits + parameters.replays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates(Checked):
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
    flips : float
        Share of masked elements whose sign changes in a step; costs something only where flips are repaired.
    raw_passes : float
        Passes of digits that the core makes of raw values in the open loop, see `golden.diffusion.cost.layer.Load.raw`.
    repairs : float
        Groups of repairs that are not zero, in all their passes, over the groups of one pass of what they repair.
    source : str
        Where this is from.

    Raises
    ------
    TypeError, ValueError
        If a share or a number of bits is none, or out of range.
    """

    input_bits: _Number = 0.0
    output_bits: _Number = 0.0
    passes: _Number = 1.0
    zero_groups: Share = 0.0
    by_input: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_output: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_passes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    flips: Share = 0.0
    raw_passes: _Number = 3.0
    repairs: _Number = 0.0
    source: str = ""

    @classmethod
    def plain(cls, parameters: Parameters, flow: str) -> "Rates":
        """Rates of which nothing is known: plain groups in one pass, none of them zero, nothing compressed.

        Outputs take the machine's output passes; under the sign mask the groups that leave are the very ones the next
        layer takes in.
        """
        bits = group_bits(parameters) / parameters.lanes
        passes = 1 if flow == "sign_mask" else parameters.output_passes
        return cls(input_bits=bits, output_bits=passes * bits, source="plain groups")

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
        flips = [pair for (step, _), pair in measure.flips.items() if steps is None or step in steps]
        masked = sum(elements for _, elements in flips)
        digits = inputs or outputs
        repairs, raws = Row(), Row()
        for (step, name), row in measure.raws.items():
            if steps is None or step in steps:
                raws += row
                repairs += row if (step, name) in measure.flips else Row()
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
            flips=sum(flipped for flipped, _ in flips) / masked if masked else 0.0,
            **({"raw_passes": raws.clocks / raws.elements} if raws.elements else {}),
            repairs=(repairs.groups - repairs.zero_groups) / repairs.vectors if repairs.vectors else 0.0,
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
