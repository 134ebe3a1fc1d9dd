"""The player: a simulation top that plays files of vectors through a unit at the speed of the simulator.

Python only starts a run and reads its outcome, so that it need not wake up every clock. The unit's streams are found
from its signature: a `stream_source` feeds each input, a `stream_sink` checks each output; every other input is a
setting, every other output a status bit.
"""

from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from rtl_gen.verilog.emission import Emitted

__all__ = ["FOLDER", "Interface", "MemoryPorts", "Port", "Stream", "interface", "top"]

FOLDER = Path(__file__).parent
"""Where the player's SystemVerilog is."""


@dataclass(frozen=True)
class Stream:
    """A stream of a unit, or a plain port (`Port`)."""

    name: str
    shape: ShapeLike

    @property
    def width(self) -> int:
        """Bits of the payload."""
        return Shape.cast(self.shape).width


Port = Stream


@dataclass(frozen=True)
class MemoryPorts:
    """Which streams of a unit belong to a memory; `memory.sv` serves them in place of sources and sinks.

    Members
    -------
    request, response, write : str
        Names of the streams: ``{address}``, a word, and ``{address, data}``.
    """

    request: str
    response: str
    write: str


@dataclass(frozen=True)
class Interface:
    """What a unit has at its boundary.

    Members
    -------
    inputs, outputs : tuple of Stream
        Streams.
    settings, status : tuple of Port
        Other inputs and outputs.
    memory : MemoryPorts or None
        The streams of its memory, which are not among the others.
    word : Stream or None
        A word of that memory.
    """

    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]
    settings: tuple[Port, ...]
    status: tuple[Port, ...]
    memory: MemoryPorts | None = None
    word: Stream | None = None


def interface(signature: wiring.Signature, memory: MemoryPorts | None = None) -> Interface:
    """Sort the members of a signature (as the unit sees them).

    Raises
    ------
    ValueError
        If a member is an array of ports.
    """
    found: dict[str, list[Stream]] = {"inputs": [], "outputs": [], "settings": [], "status": []}

    def walk(signature: wiring.Signature, prefix: str) -> None:
        for name, member in signature.members.items():
            if member.dimensions:
                raise ValueError(f"Members of a unit must be single ports, not an array as {prefix}{name} is")
            out = member.flow == Out
            if member.is_port:
                found["status" if out else "settings"].append(Port(prefix + name, member.shape))
            elif isinstance(member.signature, stream.Signature):
                # The flow of a stream member is that of its payload.
                payload = member.signature.members["payload"].shape
                found["outputs" if out else "inputs"].append(Stream(prefix + name, payload))
            else:
                # The signature of an input member comes flipped, its flows are those of the whole unit.
                walk(member.signature, f"{prefix}{name}__")

    walk(signature, "")
    word = None
    if memory is not None:
        word = next(port for port in found["inputs"] if port.name == memory.response)
        for kind in ("inputs", "outputs"):
            theirs = (memory.request, memory.response, memory.write)
            found[kind] = [port for port in found[kind] if port.name not in theirs]
    return Interface(**{kind: tuple(streams) for kind, streams in found.items()}, memory=memory, word=word)


def _connections(unit: Emitted, member: str, wire: str) -> list[str]:
    """Connections of the ports that one member of the unit's signature has become."""
    found = [port for port in unit.ports if port.member == member.replace("__", ".")]
    if len(found) == 1:
        return [f".{found[0].name}({wire})"]
    return [f".{port.name}({wire}[{port.parts[0][0]}+:{port.width}])" for port in found]


def top(unit: Emitted, ports: Interface, *, mutants: bool = False) -> str:
    """SystemVerilog of the module ``player`` around an emitted unit.

    Parameters
    ----------
    unit : Emitted
        The unit.
    ports : Interface
        Its boundary.
    mutants : bool
        Whether it has mutants (`sim.mutants`) to choose by its input ``mutant``.
    """
    lines: list[str] = []
    declare = [
        "  input  logic        clk, rst, start, idle, stall, late, noise",
        "  input  logic [31:0] seed, patience, limit",
        "  output logic        done, hung",
        "  output logic [31:0] cycle",
    ]
    connect = [f".{port.name}({port.name})" for port in unit.ports if not port.member]
    if mutants:
        declare.append("  input  logic [31:0] mutant")
        connect.append(".mutant(mutant)")
    active, finished = [], []
    for salt, (port, source) in enumerate(
        [(port, True) for port in ports.inputs] + [(port, False) for port in ports.outputs], start=1
    ):
        name, width = port.name, port.width
        declare.append(f"  input  logic [31:0] {name}__first, {name}__count")
        declare.append(f"  output logic [31:0] {name}__taken, {name}__first_cycle, {name}__last_cycle")
        lines.append(f"  logic {name}__valid, {name}__ready, {name}__active, {name}__finished;")
        lines.append(f"  logic [{width - 1}:0] {name}__payload;")
        common = ["valid", "payload", "ready", "active", "finished", "first", "count"]
        common += ["taken", "first_cycle", "last_cycle"]
        if not source:
            declare.append(f"  output logic [31:0] {name}__wrong, {name}__wrong_index, {name}__wrong_cycle")
            declare.append(f"  output logic [{width - 1}:0] {name}__wrong_got, {name}__wrong_expected")
            declare.append(f"  output logic {name}__extra, {name}__unstable")
            common += ["wrong", "wrong_index", "wrong_cycle", "wrong_got", "wrong_expected", "extra", "unstable"]
        kind, pauses = ("stream_source", "idle), .noise(noise") if source else ("stream_sink", "stall), .late(late")
        wires = ", ".join(f".{member}({name}__{member})" for member in common)
        lines.append(f'  {kind} #(.WIDTH({width}), .FILE("{name}.bin"), .SALT({salt})) {name}__{kind} (')
        lines.append(f"    .clk, .start, .seed, .cycle, .pauses({pauses}), {wires});")
        for member in ("valid", "payload", "ready"):
            connect += _connections(unit, f"{name}__{member}", f"{name}__{member}")
        # A sink that has all it expects does not count as active, or an endless stream would never end the run.
        active.append(f"{name}__active" if source else f"({name}__active && !{name}__finished)")
        finished.append(f"{name}__finished")
    if ports.memory is not None:
        width = ports.word.width
        outputs = [("taken", 32), ("first_cycle", 32), ("last_cycle", 32), ("wrong", 32), ("wrong_address", 32)]
        outputs += [("wrong_got", width), ("wrong_expected", width), ("stray", 1), ("unstable", 1)]
        declare.append("  input  logic [31:0] memory__first, memory__count")
        declare += [f"  output logic [{bits - 1}:0] memory__{name}" for name, bits in outputs]
        wires = [".clk, .start, .seed, .idle, .stall, .late, .noise, .cycle, .settled(settled && !done && !start)"]
        wires += [f".{name}(memory__{name})" for name in ("first", "count", "active", "finished")]
        wires += [f".{name}(memory__{name})" for name, _ in outputs]
        lines.append("  logic memory__active, memory__finished;")
        for role in ("request", "response", "write"):
            name = getattr(ports.memory, role)
            lines.append(f"  logic {role}__valid, {role}__ready;")
            wires += [f".{role}_valid({role}__valid)", f".{role}_ready({role}__ready)"]
            for member in ("valid", "payload", "ready"):
                connect += _connections(unit, f"{name}__{member}", f"{role}__{member}")
        lines.append(f"  logic [31:0] request__payload;\n  logic [{width - 1}:0] response__payload;")
        lines.append(f"  logic [{width + 31}:0] write__payload;")
        wires += [".request_address(request__payload)", ".response_data(response__payload)"]
        wires += [".write_address(write__payload[31:0])", f".write_data(write__payload[32+:{width}])"]
        lines.append(f"  memory #(.WIDTH({width})) memory (\n    {', '.join(wires)});")
        active.append("memory__active")
        finished.append("memory__finished")
    for port in ports.settings:
        declare.append(f"  input  logic [{port.width - 1}:0] {port.name}")
        connect += _connections(unit, port.name, port.name)
    for port in ports.status:
        declare.append(f"  output logic [{port.width - 1}:0] {port.name}, {port.name}__seen")
        connect += _connections(unit, port.name, port.name)
        seen = f"{port.name}__seen <= start ? '0 : {port.name}__seen | {port.name}"
        lines.append(f"  always_ff @(posedge clk) {seen};")
    return "\n".join(
        [
            f"// Plays vectors through {unit.name}. Written by sim/player.",
            "module player (",
            ",\n".join(declare),
            ");",
            *lines,
            "",
            f"  {unit.name} unit (",
            ",\n".join(f"    {wire}" for wire in connect),
            "  );",
            "",
            "  // The run is over when every stream has what it expects and nothing more came for a while, or when",
            "  // nothing at all moved for `patience` clocks, or after `limit` clocks.",
            "  logic [31:0] quiet;",
            "  logic        complete, settled;",
            f"  assign complete = {' && '.join(finished)};",
            "  assign settled = complete && quiet >= 32'd64 || quiet >= patience || cycle >= limit;",
            "  always_ff @(posedge clk) begin",
            "    done <= !start && settled;",
            "    hung <= !start && settled && !(complete && quiet >= 32'd64);",
            "    cycle <= start ? 32'd0 : cycle + 32'd1;",
            f"    quiet <= start || {' || '.join(active)} ? 32'd0 : quiet + 32'd1;",
            "  end",
            "endmodule",
            "",
        ]
    )
