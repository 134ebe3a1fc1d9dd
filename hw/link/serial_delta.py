"""The delta stream coded and decoded plane by plane: few LUTs, several clocks for each group.

A plane takes a clock for each *step*: `Parameters.code_lanes` lanes.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from golden.parameters import EXPONENT_WIDTH, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import named, ones, pack
from hw.link.bits import BitReader, BitWriter
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH, BlockQueue
from hw.link.checks import with_checks, without_checks
from hw.link.delta_code import START, Code
from hw.link.serial import LENGTH_WIDTH, BlockDecoder, plane_states
from hw.memory import Ram
from hw.units.delta_compressor import PASSES_WIDTH, DeltaCompressor, delta_marker, link_ports
from hw.units.delta_decompressor import DeltaDecompressor


class _Predictors:
    """Exponent codes that groups of a pass are coded against: the last one of the pass in this block.

    A `Ram` holds them; which of them are of this block, bits tell.
    """

    def __init__(self, m: Module, passes: Value):
        m.submodules.predictors = self._ram = ram = Ram(EXPONENT_WIDTH, 1 << PASSES_WIDTH, distributed=True)
        self._m, self._passes = m, passes
        self._place, self._known = Signal(PASSES_WIDTH, name="place"), Signal(1 << PASSES_WIDTH, name="known")
        known = self._known.bit_select(self._place, 1)
        self.expected = named(m, "expected", Mux(known, ram.read_data, START))
        m.d.comb += [ram.read_enable.eq(1), ram.read_address.eq(self._place), ram.write_address.eq(self._place)]

    def begin(self) -> None:
        """At this clock edge a block begins."""
        self._m.d.sync += [self._place.eq(0), self._known.eq(0)]

    def follow(self, exponent: Value) -> None:
        """At this clock edge a group goes by; the next one comes two clocks later at the earliest."""
        m = self._m
        m.d.sync += self._place.eq(Mux(self._place == self._passes, 0, self._place + 1))
        m.d.comb += self._ram.write_data.eq(exponent)
        with m.If(exponent < ZERO_GROUP):
            m.d.comb += self._ram.write_enable.eq(1)
            m.d.sync += self._known.bit_select(self._place, 1).eq(1)


def _check(parameters: Parameters) -> None:
    if parameters.replays:
        raise ValueError("overflow_policy must be saturate for the serial forms of the delta stream, not replay")


class SerialDeltaCoder(wiring.Component):
    """Packs delta groups into blocks, as `DeltaCompressor` does, step by step.

    ::

        i -> exponent | count | plane 0 | plane 1 | plane 2 | rests | signs | lane, value of each outlier
                                      |
                                 bit writer -> block queue -> o

    Throughput: a group takes 2 clocks; with digits or outliers one more for their count, one for each step of each
    plane (rests and signs are planes), two for each outlier.
    Numerics: lossless; ``docs/formats.md``, delta stream.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters, without replay groups.

    Members
    -------
    i : In(stream of `payloads.stream_group`)
        Groups; `last` ends the stream.
    passes : In(3)
        Groups of a vector, minus 1; constant during a stream.
    o : Out(stream of `payloads.link_word`)
        Words; `last` marks the stream's final one.

    Raises
    ------
    ValueError
        If the configuration has replay groups.
    """

    def __init__(self, parameters: Parameters):
        _check(parameters)
        self._parameters = parameters
        super().__init__(link_ports(payloads.stream_group(parameters), payloads.link_word(parameters)))

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, code, group = self._parameters, Code(self._parameters), self.i.p.group
        lanes, width, rest = p.code_lanes, p.code_bits, code.rest_width
        block_words = -(-(HEADER_WIDTH + BLOCK_GROUPS * code.longest) // p.link_width)
        m.submodules.writer = writer = BitWriter(p.link_width, width)
        m.submodules.blocks = blocks = BlockQueue(p.link_width, block_words)
        wiring.connect(m, writer.o, blocks.i)
        wiring.connect(m, with_checks(m, p, blocks.o), wiring.flipped(self.o))
        predictors = _Predictors(m, self.passes)
        item = writer.i.p

        steps = p.lanes // lanes
        step = Signal(range(steps))
        digits = group.digits.as_value()
        now = digits.word_select(step, lanes * p.digit_width) if steps > 1 else digits
        values = [now[lane * p.digit_width : (lane + 1) * p.digit_width].as_signed() for lane in range(lanes)]
        magnitudes = [
            named(m, f"magnitude{lane}", Mux(value < 0, -value, value)[: p.digit_width - 1])
            for lane, value in enumerate(values)
        ]
        heights = [magnitude >> rest for magnitude in magnitudes]
        ends = named(m, "ends", step == steps - 1)
        slots = [group.outliers[index] for index in range(p.outliers)]
        count = ones(m, "outliers", [slot.valid for slot in slots]) if slots else Const(0, 1)

        # What a plane sends: a bit of each lane in its mask.
        plane_bits, mask = Signal(lanes), Signal(lanes)
        packed, length = pack(m, "plane", list(plane_bits), list(mask))
        number, block_length = Signal(range(BLOCK_GROUPS)), Signal(LENGTH_WIDTH)
        closes = named(m, "closes", self.i.p.last | (number == BLOCK_GROUPS - 1))
        prefix, prefix_length = code.prefix(m, group.exponent, Const(0, 1), predictors.expected, Const(0, 1))
        slot = Signal(range(max(p.outliers, 1)))
        header = blocks.headers
        m.d.comb += [
            header.p.header.eq(Cat(delta_marker(p, self.passes), number, block_length)),
            header.p.last.eq(self.i.p.last),
        ]

        sent = named(m, "sent", writer.i.valid & writer.i.ready)
        with m.If(sent):
            m.d.sync += block_length.eq(block_length + item.length)

        def send(bits: Value, amount: Value) -> None:
            """In a state: so many of the bits."""
            m.d.comb += [writer.i.valid.eq(self.i.valid), item.bits.eq(bits), item.length.eq(amount)]

        def send_plane(bits: list[Value], of: list[Value], following: str) -> None:
            """In a state: a bit of each lane of the mask, all steps."""
            m.d.comb += [plane_bits.eq(Cat(*bits)), mask.eq(Cat(*of))]
            send(packed, length)
            with m.If(sent):
                m.d.sync += step.eq(Mux(ends, 0, step + 1))
                with m.If(ends):
                    m.next = following

        with m.FSM(name="code"):
            with m.State("header"):
                m.d.sync += [number.eq(0), block_length.eq(0)]
                predictors.begin()
                send(Const(0, 1), Const(width))
                with m.If(sent):
                    m.next = "exponent" if width == HEADER_WIDTH else "header_end"
            if width < HEADER_WIDTH:
                with m.State("header_end"):
                    m.d.sync += block_length.eq(0)
                    send(Const(0, 1), Const(HEADER_WIDTH - width))
                    with m.If(sent):
                        m.next = "exponent"
            with m.State("exponent"):
                m.d.sync += slot.eq(0)
                send(prefix[:10], prefix_length)
                with m.If(sent):
                    predictors.follow(group.exponent)
                    with m.If(group.exponent >= ZERO_GROUP):
                        m.next = "end"
                    with m.Else():
                        m.next = "count" if p.outliers else "plane0"
            if p.outliers:
                with m.State("count"):
                    send(count, Const(code.count_width))
                    with m.If(sent):
                        m.next = "plane0"
            for plane, (name, following) in enumerate(plane_states(code).items()):
                with m.State(name):
                    of = [height >= plane for height in heights]
                    send_plane([height > plane for height in heights], of, following)
            if rest:
                with m.State("rests"):
                    send(Cat(magnitude[:rest] for magnitude in magnitudes), Const(lanes * rest))
                    with m.If(sent):
                        m.d.sync += step.eq(Mux(ends, 0, step + 1))
                        with m.If(ends):
                            m.next = "signs"
            with m.State("signs"):
                used = [magnitude.any() for magnitude in magnitudes]
                if p.outliers:
                    send_plane([value < 0 for value in values], used, "lane")
                    with m.If(sent & ends & ~slots[0].valid):
                        m.next = "end"
                else:
                    send_plane([value < 0 for value in values], used, "end")
            if p.outliers:
                chosen = group.outliers[slot]
                with m.State("lane"):
                    send(chosen.lane, Const(p.lane_width))
                    with m.If(sent):
                        m.next = "value"
                with m.State("value"):
                    send(chosen.value, Const(16))
                    with m.If(sent):
                        m.d.sync += slot.eq(slot + 1)
                        with m.If(slot + 1 == count):
                            m.next = "end"
                        with m.Else():
                            m.next = "lane"
            with m.State("end"):
                # The group is held until all of it has been sent; a block ends with an item of no bits.
                m.d.comb += [item.closes.eq(1), writer.i.valid.eq(closes & header.ready)]
                m.d.comb += header.valid.eq(closes & writer.i.ready)
                m.d.comb += self.i.ready.eq(~closes | (writer.i.ready & header.ready))
                with m.If(self.i.ready):
                    m.d.sync += number.eq(number + 1)
                    m.next = "exponent"
                    with m.If(closes):
                        m.next = "header"
        return m


class SerialDeltaDecoder(wiring.Component):
    """Unpacks the stream of `SerialDeltaCoder` or `DeltaCompressor`, step by step.

    It ends at the first damage (``docs/formats.md`` lists what is refused): after that no group comes and no word is
    taken until a reset.

    ::

        i -> bit reader -> header | exponent | count | plane 0 | plane 1 | plane 2 | rests | signs | outliers -> o

    Throughput: as that of the coder; a block takes 2 clocks more, and 1 for each 16 bits of its padding.
    Numerics: lossless; ``docs/formats.md``, delta stream.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters, without replay groups.

    Members
    -------
    i : In(stream of `payloads.link_word`)
        Words; `last` ends the stream.
    passes : In(3)
        Groups of a vector, minus 1; constant while the unit holds a stream. A block of another number is refused.
    o : Out(stream of `payloads.stream_group`)
        Groups; `last` marks the final group of each stream.
    error : Out(1)
        Something was refused; until a reset.

    Raises
    ------
    ValueError
        If the configuration has replay groups.
    """

    def __init__(self, parameters: Parameters):
        _check(parameters)
        self._parameters = parameters
        ports = link_ports(payloads.link_word(parameters), payloads.stream_group(parameters))
        super().__init__(ports | {"error": Out(1)})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, n, code = self._parameters, self._parameters.lanes, Code(self._parameters)
        width, marker = p.code_bits, delta_marker(p, self.passes)
        m.submodules.reader = reader = BitReader(p.link_width, width)
        wiring.connect(m, without_checks(m, p, wiring.flipped(self.i), marker, code.longest), reader.i)
        predictors = _Predictors(m, self.passes)
        window, group = reader.window, Signal(payloads.delta_group(p))

        block = BlockDecoder(m, code, reader, p.code_lanes, width, self.error)
        moves, inside, refuses, receive = block.moves, block.inside, block.refuses, block.receive
        exponent, unknown, prefix_length = block.exponent(predictors.expected)
        count, slot = Signal(range(p.outliers + 1)), Signal(range(max(p.outliers, 1)))
        with m.FSM(name="decode"):
            block.header(marker, predictors.begin)
            with m.State("exponent"):
                m.d.comb += [inside.eq(1), refuses.eq(unknown)]
                receive(prefix_length)
                m.d.sync += slot.eq(0)
                with m.If(moves):
                    predictors.follow(exponent)
                    m.d.sync += [block.digits.eq(0), group.exponent.eq(exponent)]
                    if p.outliers:
                        m.d.sync += group.outliers.eq(0)
                    with m.If(exponent >= ZERO_GROUP):
                        m.next = "end"
                    with m.Else():
                        m.next = "count" if p.outliers else "plane0"
            if p.outliers:
                with m.State("count"):
                    found = window[: code.count_width]
                    m.d.comb += [inside.eq(1), refuses.eq(found > p.outliers)]
                    receive(Const(code.count_width))
                    m.d.sync += count.eq(found)
                    with m.If(moves):
                        m.next = "plane0"
            block.planes("end", (count.any(), "lane") if p.outliers else None)
            if p.outliers:
                chosen = group.outliers[slot]
                before = Signal(p.lane_width)
                with m.State("lane"):
                    lane = window[: p.lane_width]
                    m.d.comb += [inside.eq(1), refuses.eq((lane >= n) | (slot.any() & (lane <= before)))]
                    receive(Const(p.lane_width))
                    with m.If(moves):
                        m.d.sync += [before.eq(lane), chosen.valid.eq(1), chosen.lane.eq(lane)]
                        m.next = "value"
                with m.State("value"):
                    m.d.comb += inside.eq(1)
                    receive(Const(16))
                    with m.If(moves):
                        m.d.sync += [chosen.value.eq(window[:16]), slot.eq(slot + 1)]
                        with m.If(slot + 1 == count):
                            m.next = "end"
                        with m.Else():
                            m.next = "lane"
            with m.State("end"):
                with m.If(block.groups_left.any()):
                    m.d.comb += self.o.valid.eq(~self.error)
                    with m.If(self.o.valid & self.o.ready):
                        m.d.sync += block.groups_left.eq(block.groups_left - 1)
                        m.next = "exponent"
                with m.Else():
                    m.d.comb += self.o.p.last.eq(reader.ended)
                    block.finish(self.o)
        m.d.comb += [self.o.p.group.eq(group), self.o.p.group.digits.eq(block.digits)]
        return m


def delta_coder(parameters: Parameters) -> SerialDeltaCoder | DeltaCompressor:
    """A coder for lines of a spool: serial where near memory is narrow."""
    return (SerialDeltaCoder if _serial(parameters) else DeltaCompressor)(parameters)


def delta_decoder(parameters: Parameters) -> SerialDeltaDecoder | DeltaDecompressor:
    """A decoder for lines of a spool, of the form of `delta_coder`."""
    return (SerialDeltaDecoder if _serial(parameters) else DeltaDecompressor)(parameters)


def _serial(parameters: Parameters) -> bool:
    return parameters.near_lanes < parameters.lanes and not parameters.replays  # no serial form knows replay groups
