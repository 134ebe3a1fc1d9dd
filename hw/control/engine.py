"""An engine: what carries out operations one after the other, and how their fields reach it."""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.machine.command import CLOSED_LOOP, DATAFLOWS, Operand, Operation, layout, operations
from golden.machine.registers import CAUSES
from golden.parameters import Parameters
from hw.bus.ports import REGION_WIDTH, MemoryRead, MemoryWrite
from hw.part import Part
from hw.stream.records import ReadRecords, WriteRecords

CAUSE_WIDTH = 4
"""Bits of an error's cause."""


OFFSET_WIDTH = 32 - REGION_WIDTH
"""Bits of an operand's offset, in units of memory."""


def operand() -> data.StructLayout:
    """An operand: units of memory from the base of a region."""
    return data.StructLayout({"offset": OFFSET_WIDTH, "region": REGION_WIDTH})


def cause(name: str) -> int:
    """Number of a cause of an error, as ``docs/machine.md`` lists them."""
    return CAUSES.index(name)


def words(engine: str, dataflows: tuple[str, ...] = CLOSED_LOOP) -> int:
    """Shadow registers that the operations of an engine use in a machine that is built for `dataflows`."""
    kinds = [kind for kind in operations(dataflows) if kind.engine == engine]
    return max(slot.word + 1 for kind in kinds for slot in layout(kind, dataflows))


def operation(engine: str, dataflows: tuple[str, ...] = CLOSED_LOOP) -> data.StructLayout:
    """An operation of an engine: its opcode, and the shadow registers that hold its fields."""
    return data.StructLayout({"opcode": 8, "words": data.ArrayLayout(32, words(engine, dataflows))})


class Fields:
    """Fields of an operation by name, as parts of the words that it came in.

    An operand has the fields ``region`` and ``offset`` (units of memory, loops counted in): ``fields.source.offset``.
    A choice is its number, a signed integer is signed. Fields lie where they do in every machine; those of a dataflow
    are there in a machine that has it.

    Parameters
    ----------
    payload : data.View
        An `operation`.
    kind : type
        Which operation it is taken for.

    Raises
    ------
    AttributeError
        If the operation has no such field.
    """

    def __init__(self, payload: data.View, kind: type[Operation]):
        self._payload = payload
        self._slots = {slot.name: slot for slot in layout(kind, DATAFLOWS)}
        self._opcode = kind.opcode

    @property
    def chosen(self) -> Value:
        """Whether the operation is of this kind."""
        return self._payload.opcode == self._opcode

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._slots:
            raise AttributeError(f"Fields must be one of {', '.join(self._slots)}, not {name}")
        slot = self._slots[name]
        bits = self._payload.words[slot.word][slot.low : slot.low + slot.width]
        if slot.kind is Operand:
            return data.View(operand(), bits)
        return bits.as_signed() if slot.signed else bits


class Engine(Part):
    """An engine, or one that carries out some of an engine's operations.

    An operation is *offered* as long as ``operation.valid``, and stays as it is. The engine may begin at once. It takes
    it (``ready``) in the clock when its last access is done: what follows, in this engine or by a token in another
    one, sees all that was written. An error comes instead, and stays until a reset.

    Members
    -------
    operation : In(stream of `operation`)
        What to do.
    error : Out(4)
        Number of a cause (`golden.machine.registers.CAUSES`), 0 for none: the operation cannot go on.
    overflow, poisoned : Out(1)
        Events: something was clamped, or was poisoned.
    """

    name: str
    """Of the engine, as `golden.machine.command.ENGINES` has it."""

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        """What every engine has; one adds what it has besides: memory ports (`read`, `write`), links."""
        return {
            "operation": In(stream.Signature(operation(self.name, parameters.dataflows))),
            "error": Out(CAUSE_WIDTH),
            "overflow": Out(1),
            "poisoned": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        raise NotImplementedError(f"{type(self).__name__} must define elaborate")

    @staticmethod
    def read(parameters: Parameters) -> Any:
        """Member for a port that reads memory."""
        return Out(MemoryRead(parameters.memory_width))

    @staticmethod
    def write(parameters: Parameters) -> Any:
        """Member for a port that writes memory."""
        return Out(MemoryWrite(parameters.memory_width))

    @staticmethod
    def read_vectors(parameters: Parameters) -> Any:
        """Member for a port that reads vectors of states, u elements at a time, by a reader that is shared."""
        return Out(ReadRecords(parameters.near_lanes * parameters.state_width))

    @staticmethod
    def write_vectors(parameters: Parameters) -> Any:
        """Member for a port that writes vectors of states, u elements at a time, by a writer that is shared."""
        return Out(WriteRecords(parameters.near_lanes * parameters.state_width))
