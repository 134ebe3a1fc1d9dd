"""The parameters of a machine: one frozen object, validated once, that golden, hardware and reports all take."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, Literal

from golden.common import names as known

SCHEMA = 1
"""Version of the JSON configuration files; see ``docs/formats.md``."""

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


def read_json(what: str, path: Path | str) -> Any:
    """Content of a JSON file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not JSON, nested too deeply, or has a key twice; the sentence begins with `what`. Or if its ``schema``
        is no integer.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"{what} must be JSON, not {str(path)!r}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} must be JSON, not {str(path)!r}: {error}") from error
    schema = found.get("schema", SCHEMA) if isinstance(found, dict) else SCHEMA
    if type(schema) is not int:
        raise ValueError(f"{what} must have an integer as schema, not {schema!r}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice")
        found[key] = value
    return found


def _number(low: int, high: int, default: int, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def _choice(default: str, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of a machine. ``docs/architecture.md`` explains each; ``metadata["help"]`` says it in a line.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is outside its range, or two values exclude each other.
    """

    digit_width: int = _number(2, 8, 3, "k, bits of a digit")
    lanes: int = _number(4, 64, 16, "n, lanes of a group")
    outliers: int = _number(0, 8, 1, "m, outliers a group can carry")
    exponent_policy: Literal["group", "layer"] = _choice("group", "who chooses the exponent: each group, or the layer")
    overflow_policy: Literal["saturate", "replay"] = _choice(
        "saturate", "what happens to the overflows past the m-th (exponent_policy layer only)"
    )
    weight_format: Literal["float16", "bfloat16"] = _choice("float16", "format the weights come in")
    weight_form: Literal["float", "aligned"] = _choice("aligned", "weights enter as floats, or aligned to a group")
    fraction_bits: int = _number(7, 16, 12, "F, fraction bits of aligned weights")
    weight_exponent_min: int = _number(-126, 127, -14, "declared least exponent of a weight (float form)")
    weight_exponent_max: int = _number(-126, 127, 15, "declared largest exponent of a weight (float form)")
    accumulator_width: int = _number(16, 128, 32, "W, bits of an accumulator")
    output_passes: int = _number(1, 4, 4, "passes in which output deltas leave the array; the joint form takes none")
    mask_operand: Literal["digits", "values"] = _choice("digits", "what the sign mask masks")
    mask_width: int = _number(1, 4, 1, "s, bits of a mask: 1 sign mask, 2 to 4 segment mask")
    flip_repair: bool = dataclasses.field(
        default=False, metadata={"help": "send exact corrections for elements whose mask changed"}
    )
    state_format: Literal["fixed", "float16"] = _choice("fixed", "format of the state near memory")
    state_width: int = _number(16, 24, 24, "bits of a fixed-point state element")
    memory_lanes: int = _number(1, 64, 4, "state elements in a memory word; divides lanes")
    link_width: int = _number(32, 512, 64, "bits of a word on the compressed link; a power of two")
    pipeline_depth: int = _number(1, 16, 16, "at most this many register stages in a unit")
    rows: int = _number(1, 128, 2, "rows (positions) of the array")
    columns: int = _number(1, 128, 4, "columns (output channels) of the array")

    def __post_init__(self) -> None:
        """Check every rule, once."""
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        self._check_together()

    def _check_together(self) -> None:
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
        if self.lanes % self.memory_lanes:
            raise ValueError(f"memory_lanes must divide lanes = {self.lanes}, not {self.memory_lanes}")
        if self.link_width & (self.link_width - 1):
            raise ValueError(f"link_width must be a power of two, not {self.link_width}")

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
    def replays(self) -> bool:
        """Whether a vector can be followed by replay groups."""
        return self.exponent_policy == "layer" and self.overflow_policy == "replay"

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
    def state_bits(self) -> int:
        """Bits of a state element."""
        return self.state_width if self.state_format == "fixed" else 16

    @property
    def words_per_vector(self) -> int:
        """Memory words of the state of one vector."""
        return self.lanes // self.memory_lanes

    # JSON -----------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a mapping with ``schema``, ready for JSON."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, mapping: Any, *, base: "Parameters | None" = None) -> "Parameters":
        """Read a mapping; keys left out keep the value of `base` (default: the class's defaults).

        Raises
        ------
        TypeError
            If `mapping` is no mapping or a value has the wrong type.
        ValueError
            If ``schema`` is missing or not 1, a key is unknown, or a rule is broken.
        """
        if not isinstance(mapping, dict):
            raise TypeError(f"A configuration must be a JSON object, not {type(mapping).__name__}")
        values = dict(mapping)
        schema = values.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:  # True is 1, too
            raise ValueError(f"schema of a configuration must be {SCHEMA}, not {schema!r}")
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ValueError(known.unknown("Key of a configuration", key, names))
        return dataclasses.replace(base or cls(), **values)

    @classmethod
    def from_file(cls, path: Path | str) -> "Parameters":
        """Read a JSON configuration file (``docs/formats.md``).

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError, TypeError
            If it is not JSON or breaks a rule.
        """
        return cls.from_dict(read_json("A configuration file", path))

    def with_settings(self, settings: typing.Iterable[str]) -> "Parameters":
        """Apply ``key=value`` texts, all at once.

        Raises
        ------
        ValueError
            If a text is not ``key=value``, the key is unknown, or the value breaks a rule.
        """
        values: dict[str, Any] = {"schema": SCHEMA}
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


def _check(field: dataclasses.Field, value: Any) -> None:
    if field.type is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{field.name} must be an integer, not {value!r}")
        low, high = field.metadata["low"], field.metadata["high"]
        if not low <= value <= high:
            raise ValueError(f"{field.name} must be in {low}..{high}, not {value}")
    elif field.type is bool:
        if not isinstance(value, bool):
            raise TypeError(f"{field.name} must be true or false, not {value!r}")
    else:
        choices = typing.get_args(field.type)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{field.name} must be {' or '.join(choices)}, not {value!r}")


PRESETS: dict[str, Parameters] = {
    "tiny": Parameters(
        digit_width=3, lanes=4, outliers=1, fraction_bits=10, rows=1, columns=2, memory_lanes=2, link_width=32
    ),
    "edge": Parameters(),
    "ulx3s": Parameters(
        digit_width=3, lanes=32, outliers=0, fraction_bits=10, rows=4, columns=8, memory_lanes=4, link_width=128
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
        memory_lanes=12,
        link_width=256,
        rows=128,
        columns=128,
    ),
}
"""Named machines: ``tiny`` for tests and the iCEBreaker, ``edge`` the default, ``ulx3s`` and the published shape."""

DEFAULT_PRESET = "edge"


def preset(name: str) -> Parameters:
    """Parameters of a named preset.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    return known.lookup("Preset", name, PRESETS)
