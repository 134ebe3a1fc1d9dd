"""Carrying out the commands of a program: shadow registers, loops, and operations for the queues of the engines."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import (
    COMMAND_WORDS,
    ENGINES,
    OPERATIONS,
    REGISTERS,
    VERSION,
    End,
    Interrupt,
    Loop,
    Operand,
    Operation,
    Slot,
    Stamp,
    Stop,
    Wait,
    layout,
)
from hw.arith.bits import one_of
from hw.bus.ports import REGION_WIDTH
from hw.control.engine import CAUSE_WIDTH, OFFSET_WIDTH, cause, operand
from hw.memory import Ram

__all__ = ["CommandDecoder", "head", "queue_word"]

_CONFIGURE = 0x08
_DATA_WORDS = COMMAND_WORDS - 2
_REGIONS = 1 << REGION_WIDTH
_MOVE_WIDTH = 32
_LOST = -(1 << _MOVE_WIDTH - 1)
"""A move that left what 32 bits hold; it stays so until its loop is over."""

_NOWHERE = (1 << OFFSET_WIDTH) - 1
"""An offset that no limit reaches."""


def head() -> data.StructLayout:
    """What the first word of an operation in a queue says of it."""
    return data.StructLayout({"opcode": 8, "pop": len(ENGINES), "push": len(ENGINES), "tag": 16})


def queue_word() -> data.StructLayout:
    """A word of an operation on its way to a queue: its `head`, its position in the program, then its fields."""
    return data.StructLayout({"engine": range(len(ENGINES)), "word": 32, "last": 1})


class CommandDecoder(wiring.Component):
    """Takes commands word by word and carries them out.

    After a reset the shadow registers are made 0; `ready` tells that they are. A command of which something is wrong
    fails when all operations before it are done, so that an error of one of these is told instead.

    Throughput: 8 clocks a command; an operation takes as many more as it has registers, and 5; the end of a turn 12,
    and what it takes to read from another place.

    Members
    -------
    start : In(1)
        Begin with command 0; only when `ready`.
    halt : In(1)
        Take no further command.
    words, position, fault : In
        See `CommandFetch`.
    jump, target : Out(1), Out(32)
        Where to fetch from.
    queue : Out(stream of `queue_word`)
        Operations. It must take every word of an operation once it has taken the first.
    queued : In(4)
        Engines that have operations to do, a bit each.
    ready : Out(1)
        A program may start.
    stopped, halted : Out(1)
        The program has come to its end, and every engine as well; no command is taken any more, because of `halt`.
    cause : Out(4)
        Why the command `at` fails; 0: it does not.
    at, tag : Out(32), Out(16)
        Number of the command under way, its tag.
    decoded, stamp, reached : Out(1)
        Events: a command was read; a Stamp, an Interrupt was carried out.
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "halt": In(1),
                "words": In(stream.Signature(32)),
                "position": In(32),
                "fault": In(CAUSE_WIDTH),
                "jump": Out(1),
                "target": Out(32),
                "queue": Out(stream.Signature(queue_word())),
                "queued": In(len(ENGINES)),
                "ready": Out(1),
                "stopped": Out(1),
                "halted": Out(1),
                "cause": Out(CAUSE_WIDTH),
                "at": Out(32),
                "tag": Out(16),
                "decoded": Out(1),
                "stamp": Out(1),
                "reached": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        # Shadow registers of the engines, then the strides of loops by depth and region.
        m.submodules.shadow = shadow = Ram(32, 2 * len(ENGINES) * REGISTERS)
        # By depth: the moves of the regions, then where the loop's turns begin and how many are left.
        m.submodules.moves = moves = Ram(_MOVE_WIDTH, 2 * _REGIONS * (Loop.DEPTH + 1))
        m.d.comb += [shadow.read_enable.eq(1), moves.read_enable.eq(1)]

        opcode = Signal(8)
        version = Signal(4)
        engine = Signal(4)
        low = Signal(32)
        index = Signal(range(COMMAND_WORDS))
        bad = Signal()
        fault = Signal(CAUSE_WIDTH)
        row = Signal(range(len(ENGINES) * REGISTERS))
        depth = Signal(range(Loop.DEPTH + 1))
        below = Signal(range(Loop.DEPTH))
        m.d.comb += below.eq(depth - 1)
        moving = Signal(data.ArrayLayout(_REGIONS, Loop.DEPTH))
        word = self.words.payload

        kinds = {kind: opcode == kind.opcode for kind in OPERATIONS}
        is_operation = Signal()
        own = Signal(range(len(ENGINES)))
        length = Signal(range(REGISTERS))
        m.d.comb += [
            is_operation.eq(Cat(kinds.values()).any()),
            own.eq(one_of([(chosen, Value.cast(ENGINES.index(kind.engine))) for kind, chosen in kinds.items()])),
            length.eq(one_of([(chosen, Value.cast(_words(kind))) for kind, chosen in kinds.items()])),
        ]
        known = (
            is_operation
            | Cat(
                opcode == code
                for code in (_CONFIGURE, *(kind.opcode for kind in (Stop, Wait, Stamp, Interrupt, Loop, End)))
            ).any()
        )

        # What a word after the second one may be: a register or a step, one of a few bits, or nothing.
        place = Signal(range(COMMAND_WORDS))
        step = data.View(operand(), word)
        region = Signal(_REGIONS)
        taken = Signal(_REGIONS)
        count = Signal(range(COMMAND_WORDS))
        is_step = Signal()
        m.d.comb += [
            place.eq(index - 2),
            region.eq(1 << step.region),
            is_step.eq((opcode == Loop.opcode) & (place > 0) & (place <= count)),
        ]

        def words() -> None:
            """Judge one word after the first, and keep what it holds."""
            with m.If(index == 1):
                m.d.sync += [low.eq(word), taken.eq(0), count.eq(word[8:16])]
                with m.If(opcode == _CONFIGURE):
                    last = word[:8] + word[8:]
                    m.d.sync += bad.eq(
                        bad | (engine >= len(ENGINES)) | (word[8:] == 0) | (word[8:] > _DATA_WORDS) | (last > REGISTERS)
                    )
                with m.Elif(is_operation):
                    itself = ((word[:4] | word[4:8]) >> own)[0]
                    m.d.sync += bad.eq(bad | (engine != own) | word[8:].any() | itself)
                with m.Else():
                    m.d.sync += bad.eq(bad | engine.any() | word.any())
            with m.Elif((opcode == _CONFIGURE) & (place < count)):
                m.d.comb += [
                    shadow.write_enable.eq(1),
                    shadow.write_address.eq(Cat((low + place)[:5], engine[:2])),
                    shadow.write_data.eq(word),
                ]
            with m.Elif((opcode == Loop.opcode) & (place == 0)):
                steps = word[16:]
                m.d.sync += [
                    count.eq(steps),
                    low.eq(word[:16] - 1),
                    bad.eq(bad | (word[:16] == 0) | (steps > Loop.STEPS) | (depth == Loop.DEPTH)),
                ]
            with m.Elif(is_step):
                m.d.sync += [bad.eq(bad | (step.offset == 0) | (taken & region).any()), taken.eq(taken | region)]
                m.d.comb += [
                    shadow.write_enable.eq(1),
                    shadow.write_address.eq(_stride(step.region, depth)),
                    shadow.write_data.eq(step.offset.as_signed()),
                ]
            with m.Elif((opcode == Wait.opcode) & (place == 0)):
                m.d.sync += [low.eq(word), bad.eq(bad | word[len(ENGINES) :].any())]
            with m.Else():
                m.d.sync += bad.eq(bad | word.any())

        # An operation on its way: a register is read; its move is read; what it has become is queued.
        field = Signal(range(REGISTERS))
        read, moved = Signal(), Signal()
        read_field, moved_field = Signal.like(field), Signal.like(field)
        register = Signal(32)
        is_operand = Signal()
        source = data.View(operand(), shadow.read_data)
        refused, operand_read = _rules(m, kinds, read_field, shadow.read_data)
        sum_of_move = Signal(range(_LOST, 1 << _MOVE_WIDTH))
        offset = Signal(OFFSET_WIDTH)
        m.d.sync += [
            read.eq(0),
            moved.eq(read),
            moved_field.eq(read_field),
            register.eq(shadow.read_data),
            is_operand.eq(operand_read),
        ]
        m.d.comb += [
            sum_of_move.eq(register[:OFFSET_WIDTH] + moves.read_data.as_signed()),
            offset.eq(Mux((sum_of_move < 0) | (sum_of_move > _NOWHERE), _NOWHERE, sum_of_move)),
        ]

        # A region's move in a turn: the strides of the loop are added, one region after the other.
        turn = Signal(range(_REGIONS + 1))
        turn_region = Signal(range(_REGIONS))
        added = Signal()
        total = Signal(signed(_MOVE_WIDTH + 1))
        m.d.sync += [added.eq(0), turn_region.eq(turn)]
        now = moves.read_data.as_signed()
        m.d.comb += total.eq(now + shadow.read_data.as_signed())
        lost = (now == _LOST) | (total <= _LOST) | (total >= -_LOST)
        left = Signal(16)

        with m.FSM(name="carry"):
            with m.State("CLEAR"):
                m.d.comb += [
                    shadow.write_enable.eq(1),
                    shadow.write_address.eq(row),
                    moves.write_enable.eq(1),
                    moves.write_address.eq(row[:REGION_WIDTH]),
                ]
                m.d.sync += row.eq(row + 1)
                with m.If(row.all()):
                    m.next = "READY"

            with m.State("READY"):
                m.d.comb += self.ready.eq(1)
                with m.If(self.start):
                    m.d.comb += self.jump.eq(1)
                    m.next = "NEXT"

            with m.State("NEXT"):
                m.d.sync += [index.eq(1), self.at.eq(self.position)]
                with m.If(self.halt):
                    m.d.comb += self.halted.eq(1)
                with m.Elif(self.fault.any()):
                    m.d.sync += [fault.eq(self.fault), self.tag.eq(0)]
                    m.next = "FAIL"
                with m.Else():
                    m.d.comb += self.words.ready.eq(1)
                    with m.If(self.words.valid):
                        m.d.sync += [opcode.eq(word[:8]), version.eq(word[8:12]), engine.eq(word[12:16])]
                        m.d.sync += [self.tag.eq(word[16:]), bad.eq(0), fault.eq(cause("command"))]
                        m.next = "WORDS"

            with m.State("WORDS"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.words.valid):
                    m.d.sync += index.eq(index + 1)
                    words()
                    with m.If(index == COMMAND_WORDS - 1):
                        m.d.comb += self.decoded.eq(1)
                        m.next = "CARRY_OUT"

            with m.State("CARRY_OUT"):
                m.d.sync += [field.eq(0), turn.eq(0)]
                m.d.comb += moves.read_address.eq(_left(depth))
                m.next = "NEXT"
                with m.If(bad | ~known | (version != VERSION)):
                    m.next = "FAIL"
                with m.Elif(is_operation):
                    m.next = "HEAD"
                with m.Elif(opcode == Stop.opcode):
                    m.next = "STOP"
                    with m.If(depth.any()):
                        m.next = "FAIL"
                with m.Elif(opcode == Wait.opcode):
                    m.next = "WAIT"
                with m.Elif(opcode == Stamp.opcode):
                    m.d.comb += self.stamp.eq(1)
                with m.Elif(opcode == Interrupt.opcode):
                    m.d.comb += self.reached.eq(1)
                with m.Elif(opcode == Loop.opcode):
                    m.d.sync += depth.eq(depth + 1)
                    m.next = "ENTER"
                with m.Elif(opcode == End.opcode):
                    m.next = "TURN"
                    with m.If(~depth.any()):
                        m.next = "FAIL"

            with m.State("HEAD"):
                begin = data.View(head(), self.queue.p.word)
                m.d.comb += [
                    self.queue.valid.eq(1),
                    begin.opcode.eq(opcode),
                    begin.pop.eq(low[:4]),
                    begin.push.eq(low[4:8]),
                    begin.tag.eq(self.tag),
                ]
                with m.If(self.queue.ready):
                    m.next = "POSITION"

            with m.State("POSITION"):
                m.d.comb += [self.queue.valid.eq(1), self.queue.p.word.eq(self.at)]
                m.next = "FIELDS"

            with m.State("FIELDS"):
                m.d.comb += [
                    shadow.read_address.eq(Cat(field, own)),
                    moves.read_address.eq(_move(source.region, depth)),
                    self.queue.valid.eq(moved),
                    self.queue.p.word.eq(Mux(is_operand, Cat(offset, register[OFFSET_WIDTH:]), register)),
                    self.queue.p.last.eq(moved_field == length - 1),
                ]
                with m.If(field != length):
                    m.d.sync += [field.eq(field + 1), read.eq(1), read_field.eq(field)]
                with m.If(read & refused):
                    # The last word, which would make an operation of the others, is not among those that were sent.
                    m.d.sync += [read.eq(0), moved.eq(0)]
                    m.next = "FAIL"
                with m.Elif(moved & self.queue.p.last):
                    m.next = "NEXT"

            with m.State("WAIT"):
                with m.If(~(self.queued & low[: len(ENGINES)]).any()):
                    m.next = "NEXT"

            with m.State("STOP"):
                m.d.comb += self.stopped.eq(~self.queued.any())

            with m.State("FAIL"):
                with m.If(~self.queued.any()):
                    m.d.comb += self.cause.eq(fault)

            # The moves of the loop around are copied; they are what remains when this one is over.
            with m.State("ENTER"):
                m.d.comb += [
                    moves.read_address.eq(_move(turn, below)),
                    moves.write_enable.eq(added),
                    moves.write_address.eq(_move(turn_region, depth)),
                    moves.write_data.eq(moves.read_data),
                ]
                m.d.sync += [turn.eq(turn + 1), added.eq(~turn[REGION_WIDTH]), moving[below].eq(taken)]
                with m.If(turn == _REGIONS):
                    m.next = "ENTER_BEGIN"

            with m.State("ENTER_BEGIN"):
                m.d.comb += [
                    moves.write_enable.eq(1),
                    moves.write_address.eq(_begin(depth)),
                    moves.write_data.eq(self.position),
                ]
                m.next = "ENTER_LEFT"

            with m.State("ENTER_LEFT"):
                m.d.comb += [
                    moves.write_enable.eq(1),
                    moves.write_address.eq(_left(depth)),
                    moves.write_data.eq(low[:16]),
                ]
                m.next = "NEXT"

            with m.State("TURN"):
                m.d.comb += moves.read_address.eq(_begin(depth))
                m.d.sync += left.eq(moves.read_data - 1)
                with m.If(moves.read_data[:16].any()):
                    m.next = "TURN_BEGIN"
                with m.Else():
                    m.d.sync += depth.eq(depth - 1)
                    m.next = "NEXT"

            with m.State("TURN_BEGIN"):
                m.d.comb += [
                    self.jump.eq(1),
                    self.target.eq(moves.read_data),
                    moves.write_enable.eq(1),
                    moves.write_address.eq(_left(depth)),
                    moves.write_data.eq(left),
                ]
                m.next = "TURN_MOVES"

            with m.State("TURN_MOVES"):
                m.d.comb += [
                    moves.read_address.eq(_move(turn, depth)),
                    shadow.read_address.eq(_stride(turn[:REGION_WIDTH], below)),
                    moves.write_enable.eq(added & (moving[below] >> turn_region)[0]),
                    moves.write_address.eq(_move(turn_region, depth)),
                    moves.write_data.eq(Mux(lost, _LOST, total)),
                ]
                m.d.sync += [turn.eq(turn + 1), added.eq(~turn[REGION_WIDTH])]
                with m.If(turn == _REGIONS):
                    m.next = "NEXT"

        m.d.comb += self.queue.p.engine.eq(own)
        return m


def _words(kind: type[Operation]) -> int:
    return layout(kind)[-1].word + 1


def _rules(m: Module, kinds: dict[type[Operation], Value], field: Value, register: Value) -> tuple[Value, Value]:
    """Whether a register of an operation breaks a rule of its fields, and whether it is an operand."""
    reserved = Signal(32)
    choice = Signal()
    is_operand = Signal()
    for kind, chosen in kinds.items():
        slots = layout(kind)
        with m.If(chosen), m.Switch(field):
            for number in range(_words(kind)):
                own = [slot for slot in slots if slot.word == number]
                with m.Case(number):
                    used = sum((1 << slot.width) - 1 << slot.low for slot in own)
                    m.d.comb += [reserved.eq(~used), is_operand.eq(own[0].kind is Operand)]
                    m.d.comb += choice.eq(Cat(_is_no_choice(slot, register) for slot in own).any())
    refused = Signal()
    m.d.comb += refused.eq((register & reserved).any() | choice)
    return refused, is_operand


def _is_no_choice(slot: Slot, register: Value) -> Value | int:
    if not isinstance(slot.kind, tuple) or len(slot.kind) == 1 << slot.width:
        return Const(0)
    return register[slot.low : slot.low + slot.width] >= len(slot.kind)


def _stride(region: Value, depth: Value) -> Value:
    """Row of a stride in the memory of the shadow registers, by the depth around its loop."""
    return Cat(region, depth[:2], Const(0b100, 3))


def _move(region: Value, depth: Value) -> Value:
    """Row of a region's move."""
    return Cat(region[:REGION_WIDTH], Const(0, 1), depth)


def _begin(depth: Value) -> Value:
    """Row of the command that the turns of a loop begin with."""
    return Cat(Const(8, 4), depth)


def _left(depth: Value) -> Value:
    """Row of the turns that are left."""
    return Cat(Const(9, 4), depth)
