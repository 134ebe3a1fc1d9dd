"""Vectors of states on their way between memory and parts that share one reader, or one writer."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring

from golden.parameters import Parameters
from hw.bus.ports import MemoryRead, MemoryWrite
from hw.control.engine import Engine
from hw.stream.records import ReadRecords, RecordReader, RecordWriter, WriteRecords


def ports_to_memory(part: Engine) -> dict[str, wiring.Member]:
    """Ports to memory that a part needs, by name: its own, and for each port of vectors one."""
    found = {}
    for name, member in part.signature.members.items():
        signature = member.signature if member.is_signature else None
        if isinstance(signature, ReadRecords):
            found[name] = Engine.read(part.parameters)
        elif isinstance(signature, WriteRecords):
            found[name] = Engine.write(part.parameters)
        elif isinstance(signature, MemoryRead | MemoryWrite):
            found[name] = member
    return found


def join_memory(m: Module, name: str, port: Any, signature: wiring.Signature, parameters: Parameters) -> Any:
    """What parts' ports of this name and signature are joined to.

    Parameters
    ----------
    m : Module
        Module to add a reader or a writer to, if the ports are ones of vectors.
    name : str
        What it is called.
    port : interface
        Port to memory, as seen inside the component.
    signature : Signature
        Signature of the parts' ports.
    parameters : Parameters
        The machine's parameters.
    """
    unit = {ReadRecords: RecordReader, WriteRecords: RecordWriter}.get(type(signature))
    if unit is None:
        return port
    u = parameters.near_lanes
    m.submodules[name] = records = unit(parameters.memory_width, u * parameters.state_width, parameters.lanes // u)
    wiring.connect(m, records.port, wiring.flipped(port))
    return records
