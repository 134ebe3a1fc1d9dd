"""The parameters of a machine: one frozen object, validated once, that golden, hardware and reports all take."""

import dataclasses
import json
import typing
from typing import Annotated, Any, Literal

from golden.common import names as known
from golden.common.checked import Range, Rule, Stored, described

ZERO_GROUP = 62
"""Exponent code of a group whose digits are all zero and that carries no outlier."""

POISONED_GROUP = 63
"""Exponent code of a group that holds a NaN or an infinity."""

EXPONENT_BIAS = 24
"""A group exponent ``e`` travels as the code ``e + 24``."""

EXPONENT_WIDTH = 6
"""Bits of an exponent code."""

SCALE_WIDTH = 9
"""Bits of the signed binary scale that goes with weights and channels."""

_POWER_OF_TWO = Rule("a power of two", lambda value: value & (value - 1) == 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Stored, noun="a configuration", schema=1):
    """Parameters of a machine. ``docs/architecture.md`` explains each; ``metadata["help"]`` says it in a line.

    ``docs/formats.md`` describes the JSON configuration files.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is outside its range, or two values exclude each other.
    """

    digit_width: Annotated[int, Range(2, 8)] = described(3, "k, bits of a digit")
    lanes: Annotated[int, Range(4, 64)] = described(16, "n, lanes of a group")
    outliers: Annotated[int, Range(0, 8)] = described(1, "m, outliers a group can carry")
    exponent_policy: Literal["group", "layer"] = described(
        "group", "who chooses the exponent: each group, or the layer"
    )
    overflow_policy: Literal["saturate", "replay"] = described(
        "saturate", "what happens to the overflows past the m-th (exponent_policy layer only)"
    )
    weight_format: Literal["float16", "bfloat16"] = described("float16", "format the weights come in")
    weight_form: Literal["float", "aligned"] = described("aligned", "weights enter as floats, or aligned to a group")
    fraction_bits: Annotated[int, Range(7, 16)] = described(12, "F, fraction bits of aligned weights")
    weight_exponent_min: Annotated[int, Range(-126, 127)] = described(
        -14, "declared least exponent of a weight (float form)"
    )
    weight_exponent_max: Annotated[int, Range(-126, 127)] = described(
        15, "declared largest exponent of a weight (float form)"
    )
    accumulator_width: Annotated[int, Range(16, 128)] = described(32, "W, bits of an accumulator")
    output_passes: Annotated[int, Range(1, 4)] = described(
        4, "passes in which output deltas leave the array; the joint form takes none"
    )
    mask_operand: Literal["digits", "values"] = described("digits", "what the sign mask masks")
    mask_width: Annotated[int, Range(1, 4)] = described(1, "s, bits of a mask: 1 sign mask, 2 to 4 segment mask")
    flip_repair: bool = described(False, "send exact corrections for elements whose mask changed")
    state_format: Literal["fixed", "float16"] = described("fixed", "format of the state near memory")
    state_width: Annotated[int, Range(16, 24)] = described(18, "bits of a fixed-point state element")
    memory_lanes: Annotated[int, Range(1, 64)] = described(4, "state elements in a memory word; divides lanes")
    link_width: Annotated[int, Range(32, 512), _POWER_OF_TWO] = described(
        64, "bits of a word on the compressed link; a power of two"
    )
    pipeline_depth: Annotated[int, Range(1, 16)] = described(16, "at most this many register stages in a unit")
    link_form: Literal["direct", "compressed"] = described(
        "direct", "delta groups cross the link, and lie in spools, as they are or as a stream"
    )
    link_checks: bool = described(False, "blocks of the compressed link carry checks of 16 bits")
    joint_width: Annotated[int, Range(2, 16)] = described(16, "bits of an output in the joint form at most")
    tile_positions: Annotated[int, Range(1, 256)] = described(16, "T, accumulators of a PE")
    group_buffer: Annotated[int, Range(16, 32768)] = described(2048, "groups in one half of a row's bank")
    weight_buffer: Annotated[int, Range(16, 32768)] = described(512, "records in one half of the weight buffer")
    near_lanes: Annotated[int, Range(1, 64)] = described(
        2, "u, elements a clock in each near-memory engine and in the output path"
    )
    row_buffer: Annotated[int, Range(16, 32768)] = described(
        1024, "scores of a row of a softmax near memory, and positions of groups along them"
    )
    functions: tuple[Literal["attention", "tables"], ...] = described(
        ("attention", "tables"),
        "what near memory has besides norms: attention (softmax, groups along positions and in segments, aligned "
        "states, exchanged vectors), tables (SiLU, GELU)",
    )
    dataflows: tuple[Literal["closed_loop", "sign_mask"], ...] = described(
        ("closed_loop",),
        "what the machine is built for: closed_loop, and besides it sign_mask (groups of a product stay deltas, "
        "and pass the signs of the step before)",
    )
    norm_buffer: Annotated[int, Range(16, 32768)] = described(1024, "channels of a norm's tables near memory")
    memory_width: Annotated[int, Range(32, 256), _POWER_OF_TWO] = described(
        128, "bits of the memory bus; a power of two"
    )
    rows: Annotated[int, Range(1, 128)] = described(2, "rows (positions) of the array")
    columns: Annotated[int, Range(1, 128)] = described(4, "columns (output channels) of the array")

    def check_together(self) -> None:
        """Check the rules between parameters."""
        if self.outliers > self.lanes:
            raise ValueError(f"outliers must be at most lanes = {self.lanes}, not {self.outliers}")
        if self.exponent_policy == "layer" and self.overflow_policy == "saturate" and self.output_passes > 1:
            raise ValueError(
                "output_passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), "
                f"not {self.output_passes}"
            )
        if self.exponent_policy == "layer" and self.overflow_policy == "replay" and self.outliers == 0:
            raise ValueError("outliers must be at least 1 with overflow_policy replay, not 0")
        least = 10 if self.weight_format == "float16" else 7
        if self.weight_form == "aligned" and self.fraction_bits < least:
            raise ValueError(
                f"fraction_bits must be at least {least} with weight_format {self.weight_format}, "
                f"not {self.fraction_bits}"
            )
        if self.weight_exponent_min > self.weight_exponent_max:
            raise ValueError(
                f"weight_exponent_min must be at most weight_exponent_max = {self.weight_exponent_max}, "
                f"not {self.weight_exponent_min}"
            )
        if self.weight_format == "float16" and not -14 <= self.weight_exponent_min:
            raise ValueError(
                f"weight_exponent_min must be at least -14 with weight_format float16, not {self.weight_exponent_min}"
            )
        if self.weight_format == "float16" and not self.weight_exponent_max <= 15:
            raise ValueError(
                f"weight_exponent_max must be at most 15 with weight_format float16, not {self.weight_exponent_max}"
            )
        if self.mask_width > 1 and self.mask_operand == "digits":
            raise ValueError(f"mask_operand must be values with mask_width {self.mask_width}, not digits")
        if self.flip_repair and self.mask_width > 1:
            raise ValueError(f"flip_repair must be false with mask_width {self.mask_width}, not true")
        if self.joint_width < self.digit_width:
            raise ValueError(f"joint_width must be at least digit_width = {self.digit_width}, not {self.joint_width}")
        if len(set(self.functions)) < len(self.functions):
            raise ValueError(f"functions must name each function once, not {', '.join(self.functions)}")
        if len(set(self.dataflows)) < len(self.dataflows):
            raise ValueError(f"dataflows must name each dataflow once, not {', '.join(self.dataflows)}")
        if "closed_loop" not in self.dataflows:
            raise ValueError(
                f"dataflows must hold closed_loop, which starts every chain, not {', '.join(self.dataflows) or 'none'}"
            )
        if self.lanes % self.memory_lanes:
            raise ValueError(f"memory_lanes must divide lanes = {self.lanes}, not {self.memory_lanes}")

    # Derived values -------------------------------------------------------------------------------------------------

    @property
    def digit_max(self) -> int:
        """Q, the largest digit."""
        return 2 ** (self.digit_width - 1) - 1

    @property
    def exponent_max(self) -> int:
        """Largest group exponent, ``18 - k``: every FP16 value fits a digit there."""
        return 18 - self.digit_width

    @property
    def lane_width(self) -> int:
        """Bits of a lane number."""
        return (self.lanes - 1).bit_length()

    @property
    def code_bits(self) -> int:
        """Bits that the serial forms of the compressed link take or put in a clock."""
        return 16 if self._wanted_code_lanes() <= 16 else 32

    @property
    def code_lanes(self) -> int:
        """Lanes of a step of the serial forms of the compressed link: as many of those wanted as fit `code_bits`."""
        most = min(self.code_bits // max(self.digit_width - 3, 1), self._wanted_code_lanes())
        return max(lanes for lanes in range(1, most + 1) if self.lanes % lanes == 0)

    def _wanted_code_lanes(self) -> int:
        """Half of the lanes, or as many as eight clocks bring near memory."""
        return min(self.lanes, max(-(-self.lanes // 2), 8 * self.near_lanes))

    @property
    def replays(self) -> bool:
        """Whether a vector can be followed by replay groups."""
        return self.exponent_policy == "layer" and self.overflow_policy == "replay"

    @property
    def has_lengths(self) -> bool:
        """Whether lines of a spool differ in length, so that a table holds it: streams do, and where groups replay."""
        return self.link_form == "compressed" or self.replays

    @property
    def weight_width(self) -> int:
        """Bits of a weight at a multiplier: 16, or ``F + 2`` for aligned weights."""
        return 16 if self.weight_form == "float" else self.fraction_bits + 2

    @property
    def weight_mantissa_width(self) -> int:
        """Bits of a weight's significand, hidden one included."""
        return 11 if self.weight_format == "float16" else 8

    @property
    def weight_bias(self) -> int:
        """Exponent bias of the weight format."""
        return 15 if self.weight_format == "float16" else 127

    @property
    def weight_exponent_width(self) -> int:
        """Bits of the weight format's exponent field."""
        return 5 if self.weight_format == "float16" else 8

    @property
    def weight_lsb(self) -> int:
        """Exponent of the least bit a float weight of the declared range can set (-24 for all of FP16)."""
        return self.weight_exponent_min - (self.weight_mantissa_width - 1)

    @property
    def tile_words(self) -> int:
        """Sums that a column of the array keeps of a tile in each row: of T positions, n channels."""
        return self.tile_positions * -(-self.lanes // self.columns)

    @property
    def record_clocks(self) -> int:
        """Clocks in which a record of weights comes into its buffer, as far as memory gives words.

        Fewer take as many more look-up tables; where words are wide, so is the array, and weights bind.
        """
        return 4 if self.memory_width < 256 else 2

    @property
    def state_bits(self) -> int:
        """Bits of a state element."""
        return self.state_width if self.state_format == "fixed" else 16

    @property
    def words_per_vector(self) -> int:
        """Memory words of the state of one vector."""
        return self.lanes // self.memory_lanes

    @property
    def closed_loop(self) -> bool:
        """Whether a machine of these parameters can have the closed loop."""
        return not self._closed_loop_fault()

    @property
    def masks(self) -> bool:
        """Whether the machine has the dataflow sign_mask."""
        return "sign_mask" in self.dataflows

    @property
    def scale_buffer(self) -> int:
        """Records of factors and shifts that are held behind the array, with the dataflow sign_mask."""
        return -(-self.norm_buffer // self.lanes)

    def _closed_loop_fault(self) -> str:
        wanted = {"weight_form": "aligned", "state_format": "fixed", "exponent_policy": "group"}
        if self.masks:  # what products send may have static exponents, all that is emitted chooses by group
            del wanted["exponent_policy"]
            wanted |= {"mask_operand": "digits"}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                return f"{name} must be {value} for the closed loop, not {getattr(self, name)}"
        if self.lanes % self.near_lanes:
            return f"near_lanes must divide lanes = {self.lanes} for the closed loop, not {self.near_lanes}"
        return ""

    def check_closed_loop(self) -> None:
        """Refuse, by a ValueError, what the closed loop cannot be built from."""
        fault = self._closed_loop_fault()
        if fault:
            raise ValueError(fault)

    def with_settings(self, settings: typing.Iterable[str]) -> "Parameters":
        """Apply ``key=value`` texts, all at once.

        Raises
        ------
        ValueError
            If a text is not ``key=value``, the key is unknown, or the value breaks a rule.
        """
        values: dict[str, Any] = {"schema": self._schema}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise ValueError(f"A setting must be key=value, not {setting!r}")
            values[key.strip()] = _parse(text.strip())
        return self.from_dict(values, base=self)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


PRESETS: dict[str, Parameters] = {
    "tiny": Parameters(
        digit_width=3,
        lanes=4,
        outliers=1,
        fraction_bits=10,
        rows=1,
        columns=2,
        memory_lanes=2,
        link_width=32,
        link_form="compressed",
    ),
    "edge": Parameters(),
    "edge25": Parameters(outliers=0),
    "ulx3s": Parameters(
        digit_width=3,
        lanes=32,
        outliers=0,
        fraction_bits=10,
        rows=4,
        columns=8,
        memory_lanes=4,
        link_width=128,
        near_lanes=8,
        norm_buffer=2048,
        memory_width=256,
        tile_positions=32,
    ),
    "paper": Parameters(
        digit_width=3,
        lanes=60,
        outliers=4,
        exponent_policy="layer",
        overflow_policy="saturate",
        weight_form="float",
        accumulator_width=48,
        output_passes=1,
        state_width=24,
        memory_lanes=12,
        link_width=256,
        link_form="compressed",
        rows=128,
        columns=128,
    ),
}
"""Named machines: ``tiny`` for tests and the iCEBreaker, ``edge`` the default, ``edge25`` the same without outliers for
the smallest ECP5, ``ulx3s`` and the published shape."""

DEFAULT_PRESET = "edge"


def preset(name: str) -> Parameters:
    """Parameters of a named preset.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    return known.lookup("Preset", name, PRESETS)
