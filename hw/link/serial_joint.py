"""The joint stream coded and decoded: first digits a plane at a time, what is finer a lane at a time."""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named, pack, take
from hw.link.bits import BitReader, BitWriter
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH, BlockQueue
from hw.link.checks import with_checks, without_checks
from hw.link.delta_code import START, Code
from hw.link.serial import GROUPS_WIDTH, LENGTH_WIDTH, MARKER_WIDTH, BlockDecoder, plane_states
from hw.memory import Ram
from hw.stream import Fifo

_MARKER = 0xD8
"""Low byte of a block's header, but for its lowest bit: whether blocks have checks."""

_FLOORS = 2
"""Tiles whose words may wait on one side."""


class _Joint(wiring.Component):
    """What coder and decoder share: the code of first digits, and how many finer bits follow.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = p = parameters
        digits = dataclasses.replace(p, outliers=0, exponent_policy="group", overflow_policy="saturate")
        self._code = Code(digits)
        self._window = p.code_bits
        fits = self._window // max(self._code.rest_width, 1)
        self._lanes = max(lanes for lanes in range(1, min(fits, p.lanes) + 1) if p.lanes % lanes == 0)
        self._finer_max = p.joint_width - p.digit_width
        self._longest = self._code.longest + p.lanes * self._finer_max
        self._marker = Const(_MARKER + p.link_checks, MARKER_WIDTH)
        self._finer_width = max(self._finer_max.bit_length(), 1)
        self._words, self._vectors = (
            stream.Signature(shape(p)) for shape in (payloads.joint_word, payloads.joint_part)
        )
        super().__init__(self._members())

    def _members(self) -> dict:
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _finer(self, m: Module, exponent: Value, floor: Value) -> Value:
        """Finer bits of each lane of a group."""
        above = named(m, "above_floor", exponent - floor)
        whole = Mux(above > self._finer_max, self._finer_max, above)
        return named(m, "finer_now", Mux(exponent < ZERO_GROUP, whole, 0)[: self._finer_width])


class SerialJointCoder(_Joint):
    """Packs joint vectors into blocks, without loss.

    ::

        i -> digits, rows -> exponent | planes | rests | signs | finer bits, lane by lane
                                                |
                                           bit writer -> block queue -> o

    Throughput: a vector takes n/u clocks, and 3 while the one before it is coded; with digits one for each plane that
    has bits, and n for finer bits. Planes of more than 32 bits take several clocks.
    Numerics: lossless; ``docs/formats.md``, joint delta stream.

    Members
    -------
    i : In(stream of `payloads.joint_part`)
        Vectors; `end` ends a stream.
    o : Out(stream of `payloads.joint_word`)
        Words.
    """

    def _members(self) -> dict:
        return {"i": In(self._vectors), "o": Out(self._words)}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, code, i = self._parameters, self._code, self.i.p
        n, u, k, rest = p.lanes, p.near_lanes, p.digit_width, code.rest_width
        lanes, window = self._lanes, self._window
        m.submodules.writer = writer = BitWriter(p.link_width, window)
        m.submodules.blocks = blocks = BlockQueue(
            p.link_width, -(-(HEADER_WIDTH + BLOCK_GROUPS * self._longest) // p.link_width)
        )
        wiring.connect(m, writer.o, blocks.i)
        m.submodules.floors = floors = Fifo(EXPONENT_WIDTH, _FLOORS)
        item, header, coded = writer.i.p, blocks.headers, with_checks(m, p, blocks.o)

        # A vector is taken while the one before it is coded: first digits in a register, all integers in rows.
        shape = {"digits": n * k, "exponent": EXPONENT_WIDTH, "finer": self._finer_width, "final": 1}
        taken, held = (Signal(data.StructLayout(shape), name=name) for name in ("taken", "held"))
        row, lane, put = Signal(range(n // u)), Signal(range(u)), Signal(range(n // u))
        m.submodules.rows = rows = Ram(i.values.shape(), 2 << len(row), distributed=True)
        half, full, begins, starts = Signal(), Signal(), Signal(init=1), Signal()
        digits, exponent, finer, final = held.digits, held.exponent, held.finer, held.final
        finer_now = self._finer(m, i.exponent, i.floor)
        border = named(m, "border", (Const(1) << finer_now)[1:])
        firsts = [
            take(m, f"first{each}", named(m, f"rounded{each}", value + border), finer_now, k)
            for each, value in enumerate(i.values)
        ]
        takes, fine = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~full & (~begins | floors.i.ready)),
            takes.eq(self.i.valid & self.i.ready),
            floors.i.payload.eq(i.floor),
            floors.i.valid.eq(self.i.valid & ~full & begins),
            rows.write_enable.eq(takes),
            rows.write_address.eq(Cat(put, half)),
            rows.write_data.eq(i.values),
            rows.read_enable.eq(1),
            self.o.p.data.eq(coded.p.data),
            self.o.p.last.eq(coded.p.last),
            self.o.p.floor.eq(floors.o.payload),
            self.o.valid.eq(coded.valid & floors.o.valid),
            coded.ready.eq(self.o.ready & floors.o.valid),
            floors.o.ready.eq(coded.valid & self.o.ready & self.o.p.last),
        ]
        with m.If(takes):
            m.d.sync += [
                taken.digits.eq(Cat(taken.digits, *firsts)[u * k :]),
                taken.exponent.eq(i.exponent),
                taken.finer.eq(finer_now),
                taken.final.eq(i.end),
                begins.eq(i.end),
                put.eq(Mux(i.last, 0, put + 1)),
                full.eq(i.last),
            ]
        with m.If(starts & full):
            m.d.sync += [held.eq(taken), full.eq(0), half.eq(~half)]

        step = Signal(range(n // lanes))
        ends = named(m, "ends", step == n // lanes - 1)
        values = [digits[each * k : (each + 1) * k].as_signed() for each in range(lanes)]
        magnitudes = [
            named(m, f"magnitude{each}", Mux(value < 0, -value, value)[: k - 1]) for each, value in enumerate(values)
        ]
        heights = [magnitude >> rest for magnitude in magnitudes]
        plane_bits, mask = Signal(lanes), Signal(lanes)
        packed, length = pack(m, "plane", list(plane_bits), list(mask))
        number, block_length, predictor = Signal(GROUPS_WIDTH), Signal(LENGTH_WIDTH), Signal(EXPONENT_WIDTH)
        closes = named(m, "closes", final | (number == BLOCK_GROUPS - 1))
        prefix, prefix_length = code.prefix(m, exponent, Const(0, 1), predictor, Const(0, 1))
        integer = rows.read_data.as_value().word_select(lane, p.joint_width)
        m.d.comb += [
            header.p.header.eq(Cat(self._marker, number, block_length)),
            header.p.last.eq(final),
        ]
        sent = named(m, "sent", writer.i.valid & writer.i.ready)
        with m.If(sent):
            m.d.sync += block_length.eq(block_length + item.length)

        def send(bits: Value, amount: Value) -> None:
            """In a state: so many of the bits."""
            m.d.comb += [writer.i.valid.eq(1), item.bits.eq(bits), item.length.eq(amount)]

        def send_lanes(bits: Value, amount: Value, following: str) -> None:
            """In a state: bits of the lanes of a step, all steps."""
            send(bits, amount)
            with m.If(sent):
                m.d.sync += [step.eq(Mux(ends, 0, step + 1)), digits.eq(Cat(digits[lanes * k :], digits[: lanes * k]))]
                with m.If(ends):
                    m.next = following

        with m.FSM(name="code"):
            with m.State("load"):
                m.d.comb += starts.eq(1)
                with m.If(full):
                    m.next = "exponent"
                    with m.If(~number.any() & ~block_length.any()):
                        m.next = "header"
            with m.State("header"):
                m.d.sync += predictor.eq(START)
                send(Const(0, 1), Const(min(window, HEADER_WIDTH)))
                m.d.sync += block_length.eq(0)
                with m.If(sent):
                    m.next = "exponent" if window == HEADER_WIDTH else "header_end"
            if window < HEADER_WIDTH:
                with m.State("header_end"):
                    send(Const(0, 1), Const(HEADER_WIDTH - window))
                    m.d.sync += block_length.eq(0)
                    with m.If(sent):
                        m.next = "exponent"
            with m.State("exponent"):
                send(prefix[:10], prefix_length)
                with m.If(sent):
                    m.next = "end"
                    with m.If(exponent < ZERO_GROUP):
                        m.d.sync += predictor.eq(exponent)
                        m.next = "plane0"
            for plane, (name, following) in enumerate(plane_states(code).items()):
                with m.State(name):
                    m.d.comb += [
                        plane_bits.eq(Cat(height > plane for height in heights)),
                        mask.eq(Cat(height >= plane for height in heights)),
                    ]
                    send_lanes(packed, length, following)
            if rest:
                with m.State("rests"):
                    send_lanes(Cat(magnitude[:rest] for magnitude in magnitudes), Const(lanes * rest), "signs")
            with m.State("signs"):
                m.d.comb += [
                    plane_bits.eq(Cat(value < 0 for value in values)),
                    mask.eq(Cat(one.any() for one in magnitudes)),
                ]
                send_lanes(packed, length, "fine")
                with m.If(sent & ends & (finer == 0)):
                    m.next = "end"
            with m.State("fine"):
                # The row of the next lane is read while a lane is sent.
                last_lane = named(m, "last_lane", lane == u - 1)
                m.d.comb += fine.eq(1)
                send((integer & ~(Const(-1, p.joint_width) << finer)[: p.joint_width])[:window], finer)
                with m.If(sent):
                    m.d.sync += lane.eq(Mux(last_lane, 0, lane + 1))
                    with m.If(last_lane):
                        m.d.sync += row.eq(Mux(row == n // u - 1, 0, row + 1))
                        with m.If(row == n // u - 1):
                            m.next = "end"
            with m.State("end"):
                # A block ends with an item of no bits.
                m.d.comb += [
                    item.closes.eq(1),
                    writer.i.valid.eq(closes & header.ready),
                    header.valid.eq(closes & writer.i.ready),
                ]
                with m.If(~closes):
                    m.d.sync += number.eq(number + 1)
                    m.next = "load"
                with m.Elif(writer.i.ready & header.ready):
                    m.d.sync += [number.eq(0), block_length.eq(0)]
                    m.next = "load"
        turns = fine & sent & (lane == u - 1)
        read = named(m, "row_read", Mux(turns, Mux(row == n // u - 1, 0, row + 1), row)[: len(row)])
        m.d.comb += rows.read_address.eq(Cat(read, ~half))
        return m


class SerialJointDecoder(_Joint):
    """Unpacks the stream of `SerialJointCoder`.

    It ends at the first damage (``docs/formats.md`` lists what is refused): after that no vector comes and no word is
    taken until a reset.

    ::

        i -> bit reader -> header | exponent | planes | rests | signs | finer bits, lane by lane -> o

    Throughput: a vector takes a clock, and one for each part; with digits one for each plane, and one for each lane. A
    block takes 2 and the padding at its end. Planes of more than 32 bits take several clocks.
    Numerics: lossless; ``docs/formats.md``, joint delta stream.

    Members
    -------
    i : In(stream of `payloads.joint_word`)
        Words; `last` ends the stream.
    o : Out(stream of `payloads.joint_part`)
        Vectors; `end` marks the final one of each stream.
    error : Out(1)
        Something was refused; until a reset.
    """

    def _members(self) -> dict:
        return {"i": In(self._words), "o": Out(self._vectors), "error": Out(1)}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, code, o = self._parameters, self._code, self.o.p
        n, u, k = p.lanes, p.near_lanes, p.digit_width
        lanes, width = self._lanes, self._window
        m.submodules.reader = reader = BitReader(p.link_width, width)
        m.submodules.floors = floors = Fifo(EXPONENT_WIDTH, _FLOORS)
        window, floor = reader.window, floors.o.payload
        fresh, words = Signal(init=1), stream.Signature(payloads.link_word(p)).create(path=("words",))
        wiring.connect(m, without_checks(m, p, words, self._marker, self._longest), reader.i)
        room = named(m, "room", ~fresh | floors.i.ready)
        m.d.comb += [
            words.p.data.eq(self.i.p.data),
            words.p.last.eq(self.i.p.last),
            words.valid.eq(self.i.valid & room),
            self.i.ready.eq(words.ready & room),
            floors.i.payload.eq(self.i.p.floor),
            floors.i.valid.eq(self.i.valid & words.ready & fresh),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += fresh.eq(self.i.p.last)

        block = BlockDecoder(m, code, reader, lanes, width, self.error)
        moves, inside, refuses, receive = block.moves, block.inside, block.refuses, block.receive
        digits, groups_left = block.digits, block.groups_left
        predictor, exponent = Signal(EXPONENT_WIDTH), Signal(EXPONENT_WIDTH)
        found, unknown, prefix_length = block.exponent(predictor)
        finer, lane, row = Signal(self._finer_width), Signal(range(u)), Signal(range(n // u))
        finer_found = self._finer(m, found, floor)

        # An integer is its digit and the bits under it, which are signed themselves.
        low = named(m, "low", window & ~(Const(-1, width) << finer)[:width])
        sign = named(m, "sign", (Cat(Const(0, 1), window).bit_select(finer, 1)) & finer.any())
        first = digits[:k].as_signed()
        high = Signal(signed(p.joint_width), name="high")
        m.d.comb += high.eq((first - sign) << finer)
        integer = named(m, "integer", high | low[: p.joint_width])
        parts = Signal(u * p.joint_width)
        final_part = named(m, "final_part", row == n // u - 1)
        final = named(m, "final", final_part & ~groups_left.any())
        m.d.comb += [
            Value.cast(o.values).eq(parts),
            o.exponent.eq(exponent),
            o.last.eq(final_part),
            o.floor.eq(floor),
            floors.o.ready.eq(self.o.valid & self.o.ready & o.end),
        ]

        def begin() -> None:
            m.d.sync += [predictor.eq(START), row.eq(0)]

        with m.FSM(name="decode"):
            block.header(self._marker, begin)
            with m.State("exponent"):
                m.d.comb += [inside.eq(1), refuses.eq(unknown | ((found < ZERO_GROUP) & (found < floor)))]
                receive(prefix_length)
                with m.If(moves):
                    m.d.sync += [digits.eq(0), exponent.eq(found), finer.eq(finer_found), parts.eq(0)]
                    m.next = "part"
                    with m.If(found < ZERO_GROUP):
                        m.d.sync += predictor.eq(found)
                        m.next = "plane0"
            block.planes("fine")
            with m.State("fine"):
                m.d.comb += inside.eq(1)
                receive(finer)
                with m.If(moves):
                    m.d.sync += [
                        digits.eq(Cat(digits[k:], Const(0, k))),
                        parts.eq(Cat(parts, integer)[p.joint_width :]),
                        lane.eq(Mux(lane == u - 1, 0, lane + 1)),
                    ]
                    with m.If(lane == u - 1):
                        m.next = "part"
            with m.State("part"):
                with m.If(final):
                    m.next = "end"
                with m.Else():
                    m.d.comb += self.o.valid.eq(~self.error)
                    with m.If(self.o.valid & self.o.ready):
                        m.d.sync += row.eq(Mux(final_part, 0, row + 1))
                        with m.If(final_part):
                            m.d.sync += groups_left.eq(groups_left - 1)
                            m.next = "exponent"
                        with m.Elif(exponent < ZERO_GROUP):
                            m.next = "fine"
            with m.State("end"):
                m.d.comb += o.end.eq(reader.ended)
                block.finish(self.o)
        return m
