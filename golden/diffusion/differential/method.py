"""How a network is executed: one frozen object, checked once, and the named ones."""

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from golden.common import names
from golden.common.checked import Range, Rule, Stored, described
from golden.diffusion.cost.flows import MethodFlow
from golden.diffusion.layers import Layer, Role
from golden.diffusion.networks.graph import Network
from golden.parameters import PRESETS, Parameters

SENDING: tuple[MethodFlow, ...] = ("raw", "diffy", "sign_mask", "closed_loop")
"""Flows that send something: where every member acts that `ACTS_IN` does not name."""

ACTS_IN: dict[str, tuple[MethodFlow, ...]] = {
    "output_width": ("closed_loop",),
    "output_bits": ("closed_loop",),
    "output_allocation": ("closed_loop",),
    "layer_output_bits": ("closed_loop",),
    "tensor_scale": ("raw",),
    "refresh": ("diffy", "sign_mask", "closed_loop"),
    "norm": ("sign_mask",),
    "attention": ("sign_mask", "closed_loop"),
    "against": ("closed_loop",),
    "chains": ("closed_loop",),
    "weight_form": ("raw", "diffy", "sign_mask"),
    "exponent_policy": ("diffy", "sign_mask"),
    "overflow_policy": ("diffy", "sign_mask"),
    "mask_operand": ("sign_mask",),
    "mask_width": ("sign_mask",),
    "flip_repair": ("sign_mask",),
    "state_format": ("sign_mask",),
    "state_width": ("raw", "diffy", "sign_mask", "closed_loop"),
}
"""Flows in which a member of a `Method` or of its machine acts; elsewhere it has to keep its default."""

_WITH_CHAINS = ("exponent_policy", "overflow_policy", "flip_repair")
"""Members that act in the closed loop too, with chains."""

_PASSES = ("passes", "early_passes", "last_passes", "input_passes", "mix_passes")

_IDLE: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "tensor_scale true": (
        "tensor_scale",
        True,
        (*_PASSES, "first_passes", "early_steps", "late_steps", "layer_passes"),
    ),
}
"""Members without effect beside a value of another one: by its text that one, the value, and the members."""

Passes = Annotated[int, Range(1, 4)]
RawPasses = Annotated[int, Range(1, 8)]
Steps = Annotated[int, Range(0, 1000)]
_THREE = Rule("of three numbers, for early, middle and late steps", lambda value: len(value) == 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(Stored, noun="a method", schema=1):
    """A flow on a machine; ``metadata["help"]`` explains each member in a line.

    A sampling has a first step, early ones, middle ones and late ones; a step that is early and late counts as both.

    Raises
    ------
    TypeError
        If a value has the wrong type.
    ValueError
        If a value is outside its range, or two exclude each other.
    """

    flow: MethodFlow = described("closed_loop", "how activations travel, see FLOWS of the cost model")
    machine: Parameters = dataclasses.field(default_factory=Parameters, metadata={"help": "parameters of the machine"})
    passes: Passes = described(1, "passes of an input delta")
    first_passes: RawPasses = described(3, "passes of the first step and of every refresh, which send raw values")
    last_passes: Passes = described(2, "passes of the last steps")
    input_passes: RawPasses = described(3, "passes of the network's own input, where a product reads it as it is")
    mix_passes: Passes = described(1, "passes of what attention's mix reads: softmax and value")
    early_steps: Steps = described(4, "how many steps after the first take `early_passes`")
    early_passes: Passes = described(
        1, "passes of the steps after the first: what goes wrong early, the sampler carries on"
    )
    late_steps: Steps = described(1, "how many steps at the end take `last_passes`")
    layer_passes: Mapping[str, RawPasses | Annotated[tuple[RawPasses, ...], _THREE]] = described(
        {}, "passes of what layers read, by pattern of their names: a number, or three of early, middle and late steps"
    )
    output_width: Annotated[int, Range(2, 16)] = described(13, "bits of an output delta at most, one integer a lane")
    output_bits: Annotated[float, Range(1, 24)] = described(
        12, "output deltas are never finer than the largest state over 2^bits, on average"
    )
    output_allocation: Literal["even", "gain"] = described(
        "even",
        "the same bits for every layer (rounded), or dealt out by how much of a layer's errors reaches the image",
    )
    layer_output_bits: Mapping[str, Annotated[int, Range(1, 24)]] = described(
        {}, "bits of single layers instead of `output_bits`, by pattern of their names"
    )
    tensor_scale: bool = described(False, "flow raw: one real scale for a whole tensor, instead of group exponents")
    refresh: Steps = described(0, "send raw values every so many steps; 0: only in the first")
    norm: Literal["current", "calibrated"] = described("current", "whose deviation norms of the open loop divide by")
    attention: Literal["delta", "raw"] = described(
        "delta", "products of two activations: on deltas, or from raw values (sign_mask, closed_loop)"
    )
    against: Literal["held", "before"] = described(
        "held", "what deltas are taken against: what readers hold, or the value before, as in Diffy's dataflow"
    )

    chains: bool = described(
        False,
        "products stay deltas up to the next one, through a shift, a calibrated norm and the signs of the step before",
    )

    def check_together(self) -> None:
        """Check the rules between members."""
        self._check_effects()
        if self.chains and self.against != "before":
            raise ValueError(f"against must be before with chains, not {self.against}")
        if self.output_width < self.machine.digit_width:
            raise ValueError(
                f"output_width must be at least digit_width = {self.machine.digit_width}, not {self.output_width}"
            )
        static = self.machine.exponent_policy == "layer" and not self.chains  # with chains they send one pass
        if static and self.machine.overflow_policy == "saturate":
            counts = {name: getattr(self, name) for name in _PASSES}
            counts |= {f"layer_passes[{key!r}]": _most(count) for key, count in self.layer_passes.items()}
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
        chained = _WITH_CHAINS if self.chains else ()
        idle = [name for name in changed if self.flow not in ACTS_IN.get(name, SENDING) and name not in chained]
        refused = [(name, f"flow {self.flow}") for name in idle]
        for what, (name, value, without) in _IDLE.items():
            if members[name][1] == value:
                refused += [(one, what) for one in without if one in changed]
        for name, what in refused:
            default, value = (_text(one) for one in changed[name])
            raise ValueError(f"{name} must be {default} with {what}, not {value}")

    # What applies where ---------------------------------------------------------------------------------------------

    def output_bits_of(self, layer: str) -> int | None:
        """Bits that `layer_output_bits` gives to a layer: the least of all patterns that fit; None without one."""
        found = [bits for pattern, bits in self.layer_output_bits.items() if matches(pattern, (layer,))]
        return min(found, default=None)

    def passes_of(self, network: Network, source: str, step: int, steps: int | None) -> int:
        """Passes of a value's delta in a step, or of its raw values: the most that any rule asks for.

        Parameters
        ----------
        network : Network
            That is run.
        source : str
            The value.
        step : int
            From 0.
        steps : int or None
            Of the sampling; in a stream nobody knows, and no step is early or late.
        """
        readers = network.consumers(source)
        early = steps is not None and 0 < step <= self.early_steps
        late = steps is not None and step >= steps - self.late_steps
        parts = [index for index, holds in enumerate((early, not (early or late), late)) if holds]
        found = [self.passes, self.first_passes if self.refreshes(step) else 1]
        for pattern, count in self.layer_passes.items():
            if matches(pattern, (layer.name for layer in readers)):
                found += [count] if isinstance(count, int) else [count[part] for part in parts]
        if early:
            found.append(self.early_passes)
        if late:
            found.append(self.last_passes)
        if source == next(iter(network.inputs)):
            found.append(self.input_passes)
        if self.mix_passes > 1 and any(_mixes(network, layer) for layer in readers):
            found.append(self.mix_passes)
        return max(found)

    @property
    def most_passes(self) -> int:
        """The most passes of any delta or raw value."""
        tables = (_most(count) for count in self.layer_passes.values())
        return max(self.first_passes, *(getattr(self, name) for name in _PASSES), *tables)

    def refreshes(self, step: int) -> bool:
        """Whether a step sends raw values."""
        return step == 0 or self.flow == "raw" or bool(self.refresh and step % self.refresh == 0)

    @classmethod
    def named(cls, name: str) -> "Method":
        """One of `METHODS`, or that of a file whose name ends in ``.json``.

        Raises
        ------
        OSError
            If the file cannot be read.
        TypeError, ValueError
            If there is no such name, or the file is not one of a method.
        """
        if name.endswith(".json"):
            return cls.from_file(name)
        return names.lookup("Method", name, {key: value for key, (_, value) in METHODS.items()})


def _most(count: int | tuple[int, ...]) -> int:
    return count if isinstance(count, int) else max(count)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == {} else str(value)


def matches(pattern: str, consumers: Iterable[str]) -> bool:
    """Whether a pattern fits one of these names."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in consumers)


def _mixes(network: Network, layer: Layer) -> bool:
    """Whether a layer is the mix of an attention: a product of two activations, the first of them a softmax."""
    if not layer.bilinear:
        return False
    source = network.by_name.get(layer.inputs[0])
    while source is not None and source.role is Role.MOVE:
        source = network.by_name.get(source.inputs[0])
    return source is not None and source.role is Role.SOFTMAX


def _loop(k: int, outputs: int, **machine: Any) -> Parameters:
    return Parameters(
        digit_width=k, lanes=32, outliers=0, fraction_bits=10, output_passes=outputs, memory_lanes=4, **machine
    )


_PAPER = dataclasses.replace(PRESETS["paper"], rows=Parameters.rows, columns=Parameters.columns, link_form="direct")
"""The published groups, on as small an array and over the same link as those of the other methods."""

_FINER: dict[str, Any] = {
    "early_steps": 8,
    "early_passes": 2,
    "late_steps": 3,
    "last_passes": 2,
    "mix_passes": 2,
    "output_allocation": "gain",
    "output_width": 16,
}
_ONCE = {"passes": 1, "last_passes": 1, "input_passes": 1}

METHODS: dict[str, tuple[str, Method]] = {
    "dense": ("binary32, every step from scratch: the reference", Method(flow="dense")),
    "paper": (
        "published: open loop, sign mask, k = 3, layer exponent, saturation",
        Method(flow="sign_mask", machine=_PAPER, norm="calibrated", attention="raw", **_ONCE),
    ),
    "diffy": (
        "Diffy's dataflow on the published groups: raw values in and out, deltas taken in the core",
        Method(flow="diffy", machine=_PAPER, **_ONCE),
    ),
    "closed-int3": (
        "closed loop, k = 3, n = 32, no float multiplier",
        Method(machine=_loop(3, 4), first_passes=5, input_passes=3, output_bits=11.5, **_FINER),
    ),
    "closed-int4": (
        "closed loop, k = 4, n = 32, no float multiplier",
        Method(machine=_loop(4, 4), first_passes=4, input_passes=2, output_bits=12.75, **_FINER),
    ),
    "raw-int8": (
        "raw activations of 8 bits under group exponents, no state",
        Method(flow="raw", machine=_loop(8, 1, state_width=24), first_passes=1, input_passes=1, last_passes=1),
    ),
    "raw-int8-tensor": (
        "raw activations of 8 bits, one scale a tensor, no state",
        Method(flow="raw", machine=_loop(8, 1, state_width=24), tensor_scale=True),
    ),
}
"""Named methods: a line about each, and the method."""

PATTERNS = ("layer_passes", "layer_output_bits")
"""Members whose keys are patterns of names."""
