"""How a network is executed: one frozen object, validated once, and the named ones."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from golden.common import names
from golden.common.checked import read_json
from golden.diffusion.cost.flows import MethodFlow
from golden.parameters import Parameters

__all__ = [
    "ACTS_IN",
    "CONFIGURATIONS",
    "GENERAL",
    "PATTERNS",
    "SENDING",
    "Configuration",
    "configuration",
    "matches",
]

SCHEMA = 1

SENDING: tuple[MethodFlow, ...] = ("raw", "diffy", "sign_mask", "closed_loop")
"""Flows that send something: where every member acts that `ACTS_IN` does not name."""

ACTS_IN: dict[str, tuple[MethodFlow, ...]] = {
    "raw_passes": ("closed_loop",),
    "output_width": ("closed_loop",),
    "output_bits": ("closed_loop",),
    "output_allocation": ("closed_loop",),
    "layer_output_bits": ("closed_loop",),
    "tensor_scale": ("raw",),
    "refresh": ("diffy", "sign_mask", "closed_loop"),
    "norm": ("sign_mask",),
    "attention": ("sign_mask",),
    "choice": ("closed_loop",),
    "exponent_policy": ("diffy", "sign_mask"),
    "overflow_policy": ("diffy", "sign_mask"),
    "mask_operand": ("sign_mask",),
    "mask_width": ("sign_mask",),
    "flip_repair": ("sign_mask",),
    "state_format": ("sign_mask",),
    "state_width": ("raw", "sign_mask", "closed_loop"),
}
"""Flows in which a member of a `Configuration` or of its machine acts; elsewhere it has to keep its default."""

_PASSES = ("passes", "early_passes", "last_passes", "input_passes")

_IDLE: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "tensor_scale true": (
        "tensor_scale",
        True,
        (*_PASSES, "first_passes", "early_steps", "late_steps", "step_passes", "layer_passes"),
    ),
}
"""Members without effect beside a value of another one: by its text that one, the value, and the members."""


def _field(default: Any, help: str) -> Any:
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configuration:
    """A flow on a machine; ``metadata["help"]`` explains each member in a line.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is outside its range, or two exclude each other.
    """

    flow: MethodFlow = _field("closed_loop", "how activations travel, see METHOD_FLOWS of the cost model")
    machine: Parameters = dataclasses.field(default_factory=Parameters, metadata={"help": "parameters of the machine"})
    passes: int = _field(1, "passes of an input delta")
    first_passes: int = _field(3, "passes of the first step and of every refresh, which send raw values")
    last_passes: int = _field(2, "passes of the last steps")
    input_passes: int = _field(3, "passes of the network's own input, where a product reads it as it is")
    raw_passes: int = _field(3, "passes of an operand that is sent raw in every step, as `choice` may have it")
    early_steps: int = _field(4, "how many steps after the first take `early_passes`")
    early_passes: int = _field(1, "passes of the steps after the first: what goes wrong early, the sampler carries on")
    late_steps: int = _field(1, "how many steps at the end take `last_passes`")
    step_passes: Mapping[int, int] = _field({}, "passes of single steps, by number")
    layer_passes: Mapping[str, int] = _field({}, "passes of what layers read, by pattern of their names")
    output_width: int = _field(13, "bits of an output delta at most, one integer a lane")
    output_bits: float = _field(12, "output deltas are never finer than the largest state over 2^bits, on average")
    output_allocation: Literal["even", "gain"] = _field(
        "even",
        "the same bits for every layer (rounded), or dealt out by how much of a layer's errors reaches the image",
    )
    layer_output_bits: Mapping[str, int] = _field(
        {}, "bits of single layers instead of `output_bits`, by pattern of their names"
    )
    tensor_scale: bool = _field(False, "flow raw: one real scale for a whole tensor, instead of group exponents")
    refresh: int = _field(0, "send raw values every so many steps; 0: only in the first")
    norm: Literal["current", "calibrated"] = _field("current", "whose deviation norms of the open loop divide by")
    attention: Literal["delta", "raw"] = _field(
        "delta", "products of two activations in the open loop: on deltas, or from raw values"
    )
    choice: Literal["delta", "cost"] = _field(
        "delta", "per tensor: always deltas, or raw values where the cost model finds two measured steps cheaper"
    )

    def __post_init__(self) -> None:
        """Check every rule, once."""
        if not isinstance(self.machine, Parameters):
            raise TypeError(f"machine must be Parameters, not {type(self.machine).__name__}")
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), get_args(field.type)
            if choices and not isinstance(field.type, type) and all(isinstance(one, str) for one in choices):
                if value not in choices:
                    raise ValueError(f"{field.name} must be {' or '.join(choices)}, not {value!r}")
            elif field.type is bool and not isinstance(value, bool):
                raise TypeError(f"{field.name} must be true or false, not {value!r}")
        for name, low, high in (
            ("passes", 1, 4),
            ("first_passes", 1, 8),
            ("early_steps", 0, 1000),
            ("early_passes", 1, 4),
            ("late_steps", 0, 1000),
            ("last_passes", 1, 4),
            ("input_passes", 1, 8),
            ("raw_passes", 1, 8),
            ("output_width", 2, 16),
            ("refresh", 0, 1000),
        ):
            _integer(name, getattr(self, name), low, high)
        if not isinstance(self.output_bits, int | float) or isinstance(self.output_bits, bool):
            raise TypeError(f"output_bits must be a number, not {self.output_bits!r}")
        if not 1 <= self.output_bits <= 24:
            raise ValueError(f"output_bits must be in 1..24, not {self.output_bits}")
        for name, low, high in (
            ("step_passes", 1, 8),
            ("layer_passes", 1, 8),
            ("layer_output_bits", 1, 24),
        ):
            table = getattr(self, name)
            if not isinstance(table, Mapping):
                raise TypeError(f"{name} must be a mapping, not {table!r}")
            for key, value in table.items():
                if name == "step_passes" and (not isinstance(key, int) or isinstance(key, bool)):
                    raise TypeError(f"Key of {name} must be an integer, not {key!r}")
                if name == "step_passes" and key < 0:
                    raise ValueError(f"Key of step_passes must be at least 0, not {key}")
                if name != "step_passes" and not isinstance(key, str):
                    raise TypeError(f"Key of {name} must be a pattern of names, not {key!r}")
                _integer(f"{name}[{key!r}]", value, low, high)
        self._check_effects()
        if self.output_width < self.machine.digit_width:
            raise ValueError(
                f"output_width must be at least digit_width = {self.machine.digit_width}, not {self.output_width}"
            )
        if self.machine.exponent_policy == "layer" and self.machine.overflow_policy == "saturate":
            counts = {name: getattr(self, name) for name in _PASSES}
            for name in ("step_passes", "layer_passes"):
                counts |= {f"{name}[{key!r}]": count for key, count in getattr(self, name).items()}
            for name, count in counts.items():
                if count > 1:
                    raise ValueError(
                        f"{name} must be 1 with overflow_policy saturate (a saturated lane leaves no residual), "
                        f"not {count}"
                    )

    def _check_effects(self) -> None:
        """Refuse what would change nothing."""
        members = {}
        for owner in (self, self.machine):
            for field in dataclasses.fields(owner):
                default = {} if field.default is dataclasses.MISSING else field.default
                members[field.name] = default, getattr(owner, field.name)
        del members["flow"], members["machine"]
        changed = {name: pair for name, pair in members.items() if pair[0] != pair[1]}
        refused = [(name, f"flow {self.flow}") for name in changed if self.flow not in ACTS_IN.get(name, SENDING)]
        for what, (name, value, idle) in _IDLE.items():
            if members[name][1] == value:
                refused += [(one, what) for one in idle if one in changed]
        for name, what in refused:
            default, value = (_text(one) for one in changed[name])
            raise ValueError(f"{name} must be {default} with {what}, not {value}")

    # What applies where ---------------------------------------------------------------------------------------------

    def output_bits_of(self, layer: str) -> int | None:
        """Bits that `layer_output_bits` gives to a layer: the least of all patterns that fit; None without one."""
        found = [bits for pattern, bits in self.layer_output_bits.items() if matches(pattern, (layer,))]
        return min(found, default=None)

    def passes_of(self, step: int, steps: int | None, consumers: tuple[str, ...], *, first_layer: bool) -> int:
        """Passes of a delta that these layers read in a step: the most that any rule asks for.

        Without a number of steps, as in a stream, no step is early or late.
        """
        found = [self.passes, self.step_passes.get(step, 1)]
        found += [passes for pattern, passes in self.layer_passes.items() if matches(pattern, consumers)]
        if steps is not None and 0 < step <= self.early_steps:
            found.append(self.early_passes)
        if steps is not None and step >= steps - self.late_steps:
            found.append(self.last_passes)
        if first_layer:
            found.append(self.input_passes)
        return max(found)

    def refreshes(self, step: int) -> bool:
        """Whether a step sends raw values."""
        return step == 0 or self.flow == "raw" or bool(self.refresh and step % self.refresh == 0)

    # JSON -----------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a mapping with ``schema``, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["machine"] = self.machine.to_dict()
        for name in ("step_passes", *PATTERNS):
            values[name] = {str(key): value for key, value in values[name].items()}
        return {"schema": SCHEMA, **values}

    @classmethod
    def from_dict(cls, mapping: Any) -> "Configuration":
        """Read a mapping; keys left out keep their defaults.

        Raises
        ------
        TypeError, ValueError
            If it is no mapping of schema 1, a key is unknown, or a rule is broken.
        """
        if not isinstance(mapping, dict):
            raise TypeError(f"A method must be a JSON object, not {type(mapping).__name__}")
        values = dict(mapping)
        schema = values.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:
            raise ValueError(f"schema of a method must be {SCHEMA}, not {schema!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(names.unknown("Key of a method", key, known))
        if "machine" in values:
            values["machine"] = Parameters.from_dict(values["machine"])
        if isinstance(values.get("step_passes"), dict):
            table = values["step_passes"]
            values["step_passes"] = {int(key) if key.isdecimal() else key: value for key, value in table.items()}
        return cls(**values)

    @classmethod
    def from_file(cls, path: Path | str) -> "Configuration":
        """Read a JSON file written from `to_dict`.

        Raises
        ------
        OSError
            If the file cannot be read.
        TypeError, ValueError
            If it is not JSON or breaks a rule.
        """
        return cls.from_dict(read_json("A method file", path))


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, not {value}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == {} else str(value)


def matches(pattern: str, consumers: Iterable[str]) -> bool:
    """Whether a pattern fits one of these names."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in consumers)


def _loop(k: int, outputs: int, **machine: Any) -> Parameters:
    return Parameters(
        digit_width=k, lanes=32, outliers=0, fraction_bits=10, output_passes=outputs, memory_lanes=4, **machine
    )


_PAPER = Parameters(
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
)


_FINER: dict[str, Any] = {
    "early_steps": 8,
    "early_passes": 2,
    "late_steps": 3,
    "last_passes": 2,
    "layer_passes": {"*.mix": 2},
    "output_allocation": "gain",
    "output_width": 16,
}
_ONCE = {"passes": 1, "last_passes": 1, "input_passes": 1}

CONFIGURATIONS: dict[str, tuple[str, Configuration]] = {
    "dense": ("binary32, every step from scratch: the reference", Configuration(flow="dense")),
    "paper": (
        "published: open loop, sign mask, k = 3, layer exponent, saturation",
        Configuration(flow="sign_mask", machine=_PAPER, norm="calibrated", attention="raw", **_ONCE),
    ),
    "closed-int3": (
        "closed loop, k = 3, n = 32, no float multiplier",
        Configuration(
            machine=_loop(3, 4),
            first_passes=5,
            input_passes=3,
            output_bits=11.5,
            **_FINER,
        ),
    ),
    "closed-int4": (
        "closed loop, k = 4, n = 32, no float multiplier",
        Configuration(
            machine=_loop(4, 4),
            first_passes=4,
            input_passes=2,
            output_bits=12.75,
            **_FINER,
        ),
    ),
    "raw-int8": (
        "raw activations of 8 bits under group exponents, no state",
        Configuration(flow="raw", machine=_loop(8, 1), first_passes=1, input_passes=1, last_passes=1),
    ),
    "raw-int8-tensor": (
        "raw activations of 8 bits, one scale a tensor, no state",
        Configuration(flow="raw", machine=_loop(8, 1), tensor_scale=True),
    ),
}
"""Named configurations: a line about each, and the configuration."""

PATTERNS = ("layer_passes", "layer_output_bits")
"""Members whose keys are patterns of names."""

GENERAL = frozenset(
    pattern for _, one in CONFIGURATIONS.values() for member in PATTERNS for pattern in getattr(one, member)
)
"""Patterns of the named configurations, which fit every network: in one without such a layer they say nothing."""


def configuration(name: str) -> Configuration:
    """Named configuration, or the one of a file whose name ends in ``.json``.

    Raises
    ------
    ValueError
        If there is no such name.
    """
    if name.endswith(".json"):
        return Configuration.from_file(name)
    return names.lookup("Method", name, {key: value for key, (_, value) in CONFIGURATIONS.items()})
