"""Carrying out the commands of a program: shadow registers, loops, and operations for the queues of the engines."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.command import (
    CLOSED_LOOP,
    COMMAND_WORDS,
    ENGINES,
    REGISTERS,
    VERSION,
    End,
    Interrupt,
    Loop,
    Operand,
    Operation,
    Stamp,
    Stop,
    Wait,
    layout,
    operations,
)
from hw.arith.bits import one_of
from hw.bus.ports import REGION_WIDTH
from hw.control.engine import CAUSE_WIDTH, OFFSET_WIDTH, cause, operand
from hw.memory import Ram, Rom

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

    Throughput: 8 clocks a command; an operation takes as many more as it has registers, and 6; the end of a turn 13,
    and what it takes to read from another place.

    Parameters
    ----------
    dataflows : sequence of str
        What the machine is built for (`golden.machine.command.DATAFLOWS`).

    Members
    -------
    start : In(1)
        Begin with command 0; only when `ready`.
    halt : In(1)
        Take no further command.
    words, position, fault : In
        See `CommandFetch`.
    jump, target : Out(1), Out(32)
        Fetch from another place.
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

    def __init__(self, dataflows: tuple[str, ...] = CLOSED_LOOP):
        self._dataflows = dataflows
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
        # By depth: the moves of the regions; of the loop that leads there, its first command and the turns to go.
        m.submodules.moves = moves = Ram(_MOVE_WIDTH, _REGIONS * 2 * Loop.DEPTH)
        m.submodules.begins = begins = Ram(32, Loop.DEPTH, distributed=True)
        m.submodules.lefts = lefts = Ram(16, Loop.DEPTH, distributed=True)
        m.d.comb += [ram.read_enable.eq(1) for ram in (shadow, moves, begins, lefts)]

        opcode = Signal(8)
        version = Signal(4)
        engine = Signal(4)
        low = Signal(32)
        index = Signal(range(COMMAND_WORDS))
        bad = Signal()
        fault = Signal(CAUSE_WIDTH)
        row = Signal(range(2 * len(ENGINES) * REGISTERS))
        depth = Signal(range(Loop.DEPTH + 1))
        below = Signal(range(Loop.DEPTH))
        m.d.comb += below.eq(depth - 1)
        moving = Signal(data.ArrayLayout(_REGIONS, Loop.DEPTH))
        word = self.words.payload

        kinds = {kind: opcode == kind.opcode for kind in operations(self._dataflows)}
        is_operation = Signal()
        own = Signal(range(len(ENGINES)))
        length = Signal(range(REGISTERS))
        m.d.comb += [
            is_operation.eq(Cat(kinds.values()).any()),
            own.eq(one_of([(chosen, Value.cast(ENGINES.index(kind.engine))) for kind, chosen in kinds.items()])),
            length.eq(one_of([(chosen, Value.cast(_words(kind, self._dataflows))) for kind, chosen in kinds.items()])),
        ]
        # Of a command that is carried out, these stand long before.
        own_queue, words_left = Signal.like(own), Signal.like(length)
        m.d.sync += [own_queue.eq(own), words_left.eq(length)]
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
                too_many = steps[3:].any() | (steps[:3] > Loop.STEPS)
                m.d.sync += [
                    count.eq(steps),
                    low.eq(word),
                    bad.eq(bad | ~word[:16].any() | too_many | (depth == Loop.DEPTH)),
                ]
            with m.Elif(is_step):
                m.d.sync += [bad.eq(bad | (step.offset == 0) | (taken & region).any()), taken.eq(taken | region)]
                m.d.comb += [
                    shadow.write_enable.eq(1),
                    shadow.write_address.eq(_stride(step.region, depth)),
                    shadow.write_data.eq(word),
                ]
            with m.Elif((opcode == Wait.opcode) & (place == 0)):
                m.d.sync += [low.eq(word), bad.eq(bad | word[len(ENGINES) :].any())]
            with m.Else():
                m.d.sync += bad.eq(bad | word.any())

        # An operation on its way: a register is read; the move of its region is read, and waits; their sum is queued.
        field = Signal(range(REGISTERS))
        read, moving_word, moved = Signal(), Signal(), Signal()
        read_field = Signal.like(field)
        read_register, register = Signal(32), Signal(32)
        read_operand, is_operand = Signal(), Signal()
        read_last, last = Signal(), Signal()
        source = data.View(operand(), shadow.read_data)
        m.submodules.rules = rules = Rom(_rules(self._dataflows))
        m.d.comb += [rules.enable.eq(1), rules.addresses[0].eq(Cat(field[:4], opcode[:3], own))]
        rule = rules.words[0]
        no_choice = _is_no_choice(kinds, self._dataflows, read_field, shadow.read_data)
        refused = (shadow.read_data & rule[:32]).any() | no_choice
        offset = Signal(OFFSET_WIDTH)
        m.d.sync += [
            read.eq(0),
            moving_word.eq(read),
            moved.eq(moving_word),
            read_last.eq(read_field == words_left - 1),
            last.eq(read_last),
            read_register.eq(shadow.read_data),
            register.eq(read_register),
            read_operand.eq(rule[32]),
            is_operand.eq(read_operand),
        ]

        # Regions that a loop moves, one after the other: a stride and a move are read, their sum is written. Going
        # into a loop, the moves around it are copied: they remain when it is over.
        turn = Signal(range(_REGIONS + 3))
        adding = Signal()
        added, waits, adds = Signal(), Signal(), Signal()
        added_region, waits_region, adds_region = (Signal(REGION_WIDTH) for _ in range(3))
        m.d.sync += [
            added.eq(0),
            waits.eq(added),
            adds.eq(waits),
            added_region.eq(turn),
            waits_region.eq(added_region),
            adds_region.eq(waits_region),
        ]
        # One adder for operands and for moves. A move that was lost, or is now, stays so.
        move = Signal(signed(_MOVE_WIDTH))
        m.d.sync += move.eq(moves.read_data)
        addend = Signal(signed(_MOVE_WIDTH))
        total = Signal(signed(_MOVE_WIDTH + 1))
        lost, clears = Signal(), Signal()
        m.d.comb += [
            addend.eq(Cat(register[:OFFSET_WIDTH], (adding & register[OFFSET_WIDTH - 1]).replicate(REGION_WIDTH))),
            total.eq(move + addend),
            lost.eq((total[-1] != total[-2]) | ~total[: _MOVE_WIDTH - 1].any() & total[-2] | (move == _LOST)),
            offset.eq(total | total[OFFSET_WIDTH:].any().replicate(OFFSET_WIDTH)),
            moves.write_data.eq(Mux(clears, 0, Mux(lost, _LOST, total))),
            begins.write_address.eq(below),
            begins.write_data.eq(self.position),
            begins.read_address.eq(below),
            lefts.write_address.eq(below),
            lefts.write_data.eq(low),
            lefts.read_address.eq(below),
            self.target.eq(begins.read_data),
        ]

        with m.FSM(name="carry"):
            with m.State("CLEAR"):
                m.d.comb += [
                    shadow.write_enable.eq(1),
                    shadow.write_address.eq(row),
                    clears.eq(1),
                    moves.write_enable.eq(1),
                    moves.write_address.eq(row),
                ]
                m.d.sync += row.eq(row + 1)
                with m.If(row.all()):
                    m.next = "READY"

            with m.State("READY"):
                m.d.comb += self.ready.eq(1)
                with m.If(self.start):
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
                    shadow.read_address.eq(Cat(field, own_queue)),
                    moves.read_address.eq(_move(source.region, depth)),
                    self.queue.valid.eq(moved),
                    self.queue.p.word.eq(Mux(is_operand, Cat(offset, register[OFFSET_WIDTH:]), register)),
                    self.queue.p.last.eq(last),
                ]
                with m.If(field != words_left):
                    m.d.sync += [field.eq(field + 1), read.eq(1), read_field.eq(field)]
                with m.If(read & refused):
                    # The last word, which would make an operation of the others, is not among those that were sent.
                    m.d.sync += [read.eq(0), moving_word.eq(0), moved.eq(0)]
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

            with m.State("ENTER"):
                with m.If(turn == 0):
                    m.d.comb += [begins.write_enable.eq(1), lefts.write_enable.eq(1)]
                    m.d.sync += moving[below].eq(taken)
                m.d.comb += [
                    shadow.read_address.eq(_NOTHING),
                    moves.read_address.eq(_move(added_region, below)),
                    moves.write_enable.eq(adds),
                    moves.write_address.eq(_move(adds_region, depth)),
                ]
                self._walk(m, turn, added)

            with m.State("TURN"):
                with m.If(lefts.read_data == 1):
                    m.d.sync += depth.eq(depth - 1)
                    m.next = "NEXT"
                with m.Else():
                    m.d.comb += [
                        self.jump.eq(1),
                        lefts.write_enable.eq(1),
                        lefts.write_data.eq(lefts.read_data - 1),
                    ]
                    m.next = "TURN_MOVES"

            with m.State("TURN_MOVES"):
                m.d.comb += [
                    adding.eq(1),
                    shadow.read_address.eq(_stride(turn, below)),
                    moves.read_address.eq(_move(added_region, depth)),
                    moves.write_enable.eq(adds & (moving[below] >> adds_region)[0]),
                    moves.write_address.eq(_move(adds_region, depth)),
                ]
                self._walk(m, turn, added)

        m.d.comb += self.queue.p.engine.eq(own_queue)
        return m

    @staticmethod
    def _walk(m: Module, turn: Signal, added: Signal) -> None:
        """From region to region; three clocks after the last one was read all is written."""
        m.d.sync += [turn.eq(turn + 1), added.eq(~turn[REGION_WIDTH])]
        with m.If(turn == _REGIONS + 2):
            m.next = "NEXT"


def _words(kind: type[Operation], dataflows: tuple[str, ...]) -> int:
    return layout(kind, dataflows)[-1].word + 1


_RULE_ROWS = 1 << 9
_IS_OPERAND = 1 << 32


def _rule_row(kind: type[Operation], register: int) -> int:
    return ENGINES.index(kind.engine) << 7 | (kind.opcode & 7) << 4 | register


def _rules(dataflows: tuple[str, ...]) -> list[int]:
    """What registers of operations may hold, by `_rule_row`: their reserved bits, and whether they are operands."""
    rows = [0] * _RULE_ROWS
    for kind in operations(dataflows):
        for register in range(_words(kind, dataflows)):
            own = [slot for slot in layout(kind, dataflows) if slot.word == register]
            used = sum((1 << slot.width) - 1 << slot.low for slot in own)
            rows[_rule_row(kind, register)] = (1 << 32) - 1 - used | (own[0].kind is Operand) * _IS_OPERAND
    return rows


def _is_no_choice(
    kinds: dict[type[Operation], Value], dataflows: tuple[str, ...], field: Value, register: Value
) -> Value:
    """Whether a register of an operation holds a choice that is not offered."""
    return Cat(
        chosen & (field == slot.word) & (register[slot.low : slot.low + slot.width] >= len(slot.kind))
        for kind, chosen in kinds.items()
        for slot in layout(kind, dataflows)
        if isinstance(slot.kind, tuple) and len(slot.kind) < 1 << slot.width
    ).any()


def _stride(region: Value, depth: Value) -> Value:
    """Row of a stride in the memory of the shadow registers, by the depth around its loop."""
    return Cat(region[:REGION_WIDTH], depth[:2], Const(0b100, 3))


_NOTHING = 2 * len(ENGINES) * REGISTERS - 1
"""Row of that memory that stays 0."""


def _move(region: Value, depth: Value) -> Value:
    """Row of a region's move, by the depth."""
    return Cat(region[:REGION_WIDTH], depth)
