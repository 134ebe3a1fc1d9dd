"""Records in memory as streams of items: words of the bus come and go, however records lie in them.

A *record* is one item or several, packed from bit 0 and padded to whole bytes with zeros. Records follow each other
without gaps, and their addresses are multiples of their size from a unit of memory.

Words are cut into *chunks*, the least power of two bits that an item fits in: so what moves bits by any distance is as
wide as an item, not as a word.
"""

import math
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import choose, multiply_constant, named, take
from hw.arith.shift import shift_left
from hw.bus.ports import ADDRESS_WIDTH, BYTES_WIDTH, REGION_WIDTH, UNIT_BYTES, MemoryRead, MemoryWrite
from hw.stream.fifo import Fifo
from hw.stream.skid_buffer import SkidBuffer

RECORDS_WIDTH = 24
"""Bits of a number of records."""


def record_span() -> data.StructLayout:
    """Records that follow each other in a region, at least 1; `address` is in bytes from the region's base."""
    return data.StructLayout({"region": REGION_WIDTH, "address": ADDRESS_WIDTH, "records": RECORDS_WIDTH})


class ReadRecords(wiring.Signature):
    """Port of a part that reads records by a `RecordReader` which others read by, too.

    Parameters
    ----------
    bits : int
        Bits of an item.

    Members
    -------
    i : Out(stream of `record_span`)
        Records to read.
    o : In(stream of `bits` bits)
        Their items.
    """

    def __init__(self, bits: int):
        super().__init__({"i": Out(stream.Signature(record_span())), "o": In(stream.Signature(bits))})


class WriteRecords(wiring.Signature):
    """Port of a part that writes records by a `RecordWriter` which others write by, too.

    Parameters
    ----------
    bits : int
        Bits of an item.

    Members
    -------
    i : Out(stream of `record_span`)
        Records to write.
    items : Out(stream of `bits` bits)
        Their items.
    idle : In(1)
        All of `i` has arrived in memory.
    """

    def __init__(self, bits: int):
        span, items = stream.Signature(record_span()), stream.Signature(bits)
        super().__init__({"i": Out(span), "items": Out(items), "idle": In(1)})


class _Records(wiring.Component):
    """What reading and writing records share: how items, records, chunks and words lie in each other."""

    def __init__(self, width: int, bits: int, per_record: int = 1, *, clocks: int = 1, chunk: int | None = None):
        for name, value in [("width", width), ("bits", bits), ("per_record", per_record), ("clocks", clocks)]:
            if not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        if width < 8 or width & (width - 1):
            raise ValueError(f"width must be a power of two, at least 8, not {width}")
        if bits < 1:
            raise ValueError(f"bits must be at least 1, not {bits}")
        if per_record < 1:
            raise ValueError(f"per_record must be at least 1, not {per_record}")
        if clocks < 1:
            raise ValueError(f"clocks must be at least 1, not {clocks}")
        self._width, self._bits, self._per_record = width, bits, per_record
        if self.record_bytes >= 1 << BYTES_WIDTH - RECORDS_WIDTH:
            limit = (1 << BYTES_WIDTH - RECORDS_WIDTH) - 1
            raise ValueError(f"bits * per_record must be at most {limit} bytes, not {self.record_bytes}")
        self._chunk = self._least_chunk(clocks) if chunk is None else chunk
        if not isinstance(self._chunk, int):
            raise TypeError(f"chunk must be an integer, not {chunk!r}")
        if not 8 <= self._chunk <= width or self._chunk & (self._chunk - 1):
            raise ValueError(f"chunk must be a power of two from 8 to width = {width}, not {chunk}")
        super().__init__({"i": In(stream.Signature(record_span()))} | self._members())

    def _members(self) -> dict[str, Any]:
        """What a reader or a writer has besides."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return -(-self._bits * self._per_record // 8)

    @property
    def _most_bytes(self) -> int:
        """Bytes of a span at most."""
        return ((1 << RECORDS_WIDTH) - 1) * self.record_bytes

    @property
    def _padding(self) -> int:
        """Bits that fill the last byte of a record."""
        return -self._bits * self._per_record % 8

    @property
    def _piece(self) -> int:
        """Bits that an item is moved in at a time: so many that the last of them and the padding fit in a chunk."""
        if self._bits + self._padding <= self._chunk:
            return self._bits
        return self._chunk - 8 if self._padding else self._chunk

    def _least_chunk(self, clocks: int) -> int:
        """Least chunk of which an item takes at most so many, or a word."""
        self._chunk = 8
        while self._chunk < self._width and not (self._piece and self._pieces <= clocks):
            self._chunk *= 2
        return self._chunk

    @property
    def _pieces(self) -> int:
        """Pieces of an item."""
        return -(-self._bits // self._piece)

    @property
    def _steps(self) -> list[int]:
        """By how many bits the position moves: past a piece, an item's last piece, a record's last piece."""
        rest = self._bits - (self._pieces - 1) * self._piece
        return [self._piece, rest, rest + self._padding]

    @property
    def _grain(self) -> int:
        """Every position is a multiple of so many bits, a power of two."""
        first, last_of_item, last_of_record = self._steps
        steps = [last_of_record]
        if self._pieces > 1:
            steps.append(first)
        if self._per_record > 1:
            steps.append(last_of_item)
        return math.gcd(8 * UNIT_BYTES, *steps)

    @property
    def _grains(self) -> int:
        """Positions in a chunk."""
        return self._chunk // self._grain

    def _count(self, m: Module, moves: Value) -> tuple[Value, Value, Value, Value]:
        """Number of the next piece; whether it ends an item, and a record; how many grains the one after it has."""
        piece, item = Signal(range(self._pieces)), Signal(range(self._per_record))
        ends_item, ends_record = self._ends(m, "", piece, item)
        next_piece = named(m, "next_piece", Mux(ends_item, 0, piece + 1)[: len(piece)])
        next_item = named(m, "next_item", Mux(ends_record, 0, item + ends_item)[: len(item)])
        with m.If(moves):
            m.d.sync += [piece.eq(next_piece), item.eq(next_item)]
        whole, last_of_item, last_of_record = (step // self._grain for step in self._steps)
        last_piece, last_item = self._ends(m, "next_", next_piece, next_item)
        return piece, ends_item, ends_record, Mux(last_item, last_of_record, Mux(last_piece, last_of_item, whole))

    def _ends(self, m: Module, prefix: str, piece: Value, item: Value) -> tuple[Value, Value]:
        """Whether a piece is the last of an item, and of a record."""
        ends_item = named(m, f"{prefix}ends_item", piece == self._pieces - 1)
        return ends_item, named(m, f"{prefix}ends_record", ends_item & (item == self._per_record - 1))

    @property
    def _first(self) -> int:
        """Grains of a record's first piece."""
        return self._steps[0 if self._pieces > 1 else 1 if self._per_record > 1 else 2] // self._grain

    def _place(self, address: Value) -> tuple[Value, Value]:
        """Where an address lies: the chunk of its word, and the grain of that chunk."""
        bits = Cat(Const(0, 3), address)
        chunk = self._chunk.bit_length() - 1
        return bits[chunk : self._width.bit_length() - 1], bits[self._grain.bit_length() - 1 : chunk]

    def _fits(self, position: Value) -> Value:
        """A position past a chunk's beginning, as one in the chunk."""
        return position[: (self._grains - 1).bit_length()]


class RecordReader(_Records):
    """Reads records from memory.

    Latency: 3 clocks from a word to its first item. Throughput: one item a clock as far as words come, one for each
    chunk where an item is wider; a clock more where the last item of a span lies in two chunks. Unless an item takes
    several clocks, no combinational path leads from `o` to `port`.

    Parameters
    ----------
    width : int
        Bits of a word of memory, a power of two.
    bits : int
        Bits of an item.
    per_record : int
        Items of a record.
    clocks : int
        Clocks that there are for an item: the more there are, the fewer bits are moved in one.
    chunk : int, optional
        Bits that are moved in a clock, a power of two; less than an item takes several clocks for each. Default: the
        least with which an item takes `clocks`.

    Members
    -------
    i : In(stream of `record_span`)
        Records to read. Several spans are taken ahead, and words of all of them asked for.
    port : Out(MemoryRead)
        Memory.
    o : Out(stream of `bits` bits)
        Items of all spans, one after the other.

    Raises
    ------
    TypeError
        If an argument is no integer.
    ValueError
        If `width` or `chunk` is no power of two, anything is too small, or a record has more than 255 bytes.
    """

    ahead = 8
    """Spans that are asked for before the first of them has been read."""

    def _members(self) -> dict[str, Any]:
        return {"port": Out(MemoryRead(self._width)), "o": Out(stream.Signature(self._bits))}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        select_width, position_width = (len(part) for part in self._place(Const(0, ADDRESS_WIDTH)))
        # Every word of a span is taken whole: chunks are counted, not bytes.
        most = -(-self._most_bytes // (self._chunk // 8)) + 1
        span = data.StructLayout(
            {"select": select_width, "start": position_width, "end": position_width, "chunks": most.bit_length()}
        )
        m.submodules.spans = spans = Fifo(span, self.ahead)
        self._ask(m, spans.i)

        # The window: the chunk that items are taken from, and the one after it, which also cuts the path to the port.
        # Where items are chunks, all of them begin and end alike.
        marks = {"first": 1, "last": 1, "start": position_width, "end": position_width} if position_width else {}
        m.submodules.chunks = chunks = SkidBuffer(data.StructLayout(marks | {"data": self._chunk}))
        self._cut(m, spans.o, chunks.i)
        high, high_valid = chunks.o.payload, chunks.o.valid
        low = Signal(high.shape())
        low_valid = Signal()
        # Where the next piece begins, and the one after it, in grains from the beginning of `low`.
        position = Signal(position_width)
        past = Signal(range(2 * self._grains), init=self._first)
        moves = Signal()

        piece, ends_item, _, step = self._count(m, moves)
        straddles = named(m, "straddles", past > self._grains)
        ends_low = ends_high = Const(0, 1)
        if marks:
            ends_low = named(m, "ends_low", low.last & ~straddles & (self._fits(past) == low.end))
            ends_high = named(m, "ends_high", high.last & straddles & (self._fits(past) == high.end))
        there = named(m, "there", low_valid & (high_valid | ~straddles))
        first = self._grain.bit_length() - 1
        taken = take(m, "taken", Cat(low.data, high.data), position, self._piece, first=first)
        if self._pieces == 1:
            m.submodules.items = items = SkidBuffer(self._bits)
            wiring.connect(m, items.o, wiring.flipped(self.o))
            m.d.comb += [
                items.i.valid.eq(there),
                items.i.payload.eq(taken),
                moves.eq(there & items.i.ready),
            ]
        else:
            m.d.comb += moves.eq(there & (~self.o.valid | self.o.ready))
            with m.If(self.o.ready):
                m.d.sync += self.o.valid.eq(0)
            with m.If(moves):
                m.d.sync += self.o.valid.eq(ends_item)
                for number in range(self._pieces):
                    with m.If(piece == number):
                        m.d.sync += self.o.payload[number * self._piece : (number + 1) * self._piece].eq(taken)

        shifts = named(m, "shifts", ~low_valid | (moves & ((past >= self._grains) | ends_low)))
        with m.If(moves):
            m.d.sync += [position.eq(self._fits(past)), past.eq(self._fits(past) + step)]
        with m.If(shifts):
            m.d.sync += [low.eq(high), low_valid.eq(high_valid & ~(moves & ends_high))]
            if marks:
                with m.If(high.first & ~(moves & ends_high)):
                    m.d.sync += [position.eq(high.start), past.eq(high.start + self._first)]

        m.d.comb += chunks.o.ready.eq(shifts)
        return m

    def _ask(self, m: Module, spans: stream.Interface) -> None:
        """Ask for the words of each span, and keep how it lies in them."""
        asked = Signal(record_span())
        size = Signal(range(self._most_bytes + 1))
        waits = Signal()
        request = self.port.request
        chunk_bytes, word_bytes = self._chunk // 8, self._width // 8
        in_chunk = asked.address[: chunk_bytes.bit_length() - 1]
        end = named(m, "end", in_chunk + size)
        select, start = self._place(asked.address)
        m.d.comb += [
            request.valid.eq(waits & spans.ready),
            request.payload.region.eq(asked.region),
            request.payload.address.eq(asked.address),
            request.payload.bytes.eq(size),
            spans.valid.eq(waits & request.ready),
            spans.payload.select.eq(select),
            spans.payload.start.eq(start),
            spans.payload.end.eq(self._place(end[: word_bytes.bit_length() - 1])[1]),
            spans.payload.chunks.eq((end + (chunk_bytes - 1))[chunk_bytes.bit_length() - 1 :]),
            self.i.ready.eq(~waits),
        ]
        with m.If(request.valid & request.ready):
            m.d.sync += waits.eq(0)
        with m.If(self.i.ready):
            m.d.sync += [
                waits.eq(self.i.valid),
                asked.eq(self.i.payload),
                size.eq(multiply_constant(self.i.payload.records, self.record_bytes)),
            ]

    def _cut(self, m: Module, spans: stream.Interface, chunks: stream.Interface) -> None:
        """Cut words into chunks, which know whether they are the first or the last of a span."""
        span = Signal(spans.payload.shape())
        begins = Signal()
        active = Signal()
        words = self.port.data
        # Known a clock before: whoever gives words waits for it.
        last = Signal(name="last_chunk")
        cut = named(m, "cut", chunks.valid & chunks.ready)
        ends_word = span.select == self._width // self._chunk - 1
        m.d.comb += [
            words.ready.eq(active & chunks.ready & (last | ends_word)),
            spans.ready.eq(~active | (cut & last)),
            chunks.valid.eq(active & words.valid),
            chunks.payload.data.eq(words.payload.word_select(span.select, self._chunk)),
        ]
        if self._grains > 1:
            m.d.comb += [
                chunks.payload.first.eq(begins),
                chunks.payload.last.eq(last),
                chunks.payload.start.eq(span.start),
                chunks.payload.end.eq(span.end),
            ]
        with m.If(spans.ready):
            m.d.sync += [
                active.eq(spans.valid),
                begins.eq(1),
                span.eq(spans.payload),
                last.eq(spans.payload.chunks == 1),
            ]
        with m.Elif(cut):
            m.d.sync += [
                begins.eq(0),
                span.select.eq(span.select + 1),
                span.chunks.eq(span.chunks - 1),
                last.eq(span.chunks == 2),
            ]


class RecordWriter(_Records):
    """Writes records to memory: whole bytes and nothing else, padding 0.

    Latency: 2 clocks from the item that ends a word to that word, 1 where an item takes several. Throughput: one item a
    clock as far as words go, one for each chunk where an item is wider; a clock more where a span ends in the middle of
    two chunks. Unless an item takes several clocks, no combinational path leads from `port` to `items`.

    Parameters
    ----------
    width, bits, per_record, clocks, chunk
        As those of `RecordReader`.

    Members
    -------
    i : In(stream of `record_span`)
        Records to write. The next span is taken while the one before is written.
    items : In(stream of `bits` bits)
        Items of all spans, one after the other.
    port : Out(MemoryWrite)
        Memory.
    idle : Out(1)
        All of `i` has arrived in memory.

    Raises
    ------
    TypeError
        If an argument is no integer.
    ValueError
        If `width` or `chunk` is no power of two, anything is too small, or a record has more than 255 bytes.
    """

    def _members(self) -> dict[str, Any]:
        return {"items": In(stream.Signature(self._bits)), "port": Out(MemoryWrite(self._width)), "idle": Out(1)}

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        span = Signal(record_span())
        active = Signal()
        closes = Signal()
        begins, waits = self._ask(m, span, ~active | closes)
        m.d.comb += self.idle.eq(~self.i.valid & ~waits & ~active & ~self.port.data.valid & self.port.idle)

        place, start = self._place(span.address)
        select = Signal(len(place))
        # Where the next piece goes, and the one after it, in grains from the beginning of the chunk.
        position = Signal(len(start))
        past = Signal(range(2 * self._grains), init=self._first)
        left = Signal(RECORDS_WIDTH)
        last = Signal()
        # Of the span's first chunk: grains that stay as they are.
        skipped = Signal(len(start))
        opens = Signal()
        flushes = Signal()
        items = self.items
        if self._pieces == 1:
            m.submodules.items = waiting = SkidBuffer(self._bits)
            wiring.connect(m, wiring.flipped(self.items), waiting.i)
            items = waiting.o
        # What there is of the chunk that is being filled: zeros from `position` on.
        low = Signal(self._chunk)
        word = self.port.data

        puts = Signal()
        piece, ends_item, ends_record, step = self._count(m, puts)
        fills = named(m, "fills", past >= self._grains)
        straddles = named(m, "straddles", past > self._grains)
        final = named(m, "final", ends_record & last)
        ready = named(m, "ready", active & ~flushes & (~word.valid | word.ready | ~(fills | final)))
        m.d.comb += [puts.eq(ready & items.valid), items.ready.eq(ready & ends_item)]

        pieces = [items.payload[at : at + self._piece] for at in range(0, self._bits, self._piece)]
        shifted = shift_left(
            m,
            "shifted",
            choose(m, "piece", piece, pieces),
            position,
            2 * self._chunk,
            first=self._grain.bit_length() - 1,
        )
        filled = named(m, "filled", low | Mux(flushes, 0, shifted))
        flushed = named(m, "flushed", flushes & (~word.valid | word.ready))
        m.d.comb += closes.eq(flushed | (puts & final & ~straddles))
        emits = named(m, "emits", flushed | (puts & (fills | final)))
        with m.If(puts):
            m.d.sync += [
                position.eq(self._fits(past)),
                past.eq(self._fits(past) + step),
                low.eq(Mux(fills, filled[self._chunk :], filled)),
            ]
            with m.If(ends_record):
                m.d.sync += [left.eq(left - 1), last.eq(left == 2)]
            with m.If(final & straddles):
                m.d.sync += flushes.eq(1)
        with m.If(closes):
            m.d.sync += [low.eq(0), flushes.eq(0), active.eq(0)]
        end = named(m, "end", Mux(flushes, position, past))
        strobe = [
            (self._byte(skipped) <= byte) & (~closes | (self._byte(end) > byte)) for byte in range(self._chunk // 8)
        ]
        chunks = self._width // self._chunk
        with m.If(word.ready):
            m.d.sync += word.valid.eq(0)
        with m.If(emits):
            m.d.sync += [
                word.valid.eq(closes | (select == chunks - 1)),
                select.eq(select + 1),
                skipped.eq(0),
                opens.eq(0),
            ]
            with m.If(opens | (select == 0)):
                m.d.sync += word.payload.strobe.eq(0)
            for number in range(chunks):
                with m.If(select == number):
                    m.d.sync += [
                        word.payload.data.word_select(number, self._chunk).eq(filled),
                        word.payload.strobe.word_select(number, self._chunk // 8).eq(Cat(strobe)),
                    ]
        with m.If(begins):
            m.d.sync += [
                active.eq(1),
                opens.eq(1),
                select.eq(place),
                position.eq(start),
                past.eq(start + self._first),
                skipped.eq(start),
                left.eq(span.records),
                last.eq(span.records == 1),
            ]
        return m

    def _byte(self, position: Value) -> Value:
        """The byte that a position lies in."""
        return Cat(Const(0, self._grain.bit_length() - 1), position)[3:]

    def _ask(self, m: Module, span: data.View, free: Value) -> tuple[Value, Value]:
        """Ask for the next span, and hold it in `span`; returns whether it begins, once that is `free`, and waits."""
        size = Signal(range(self._most_bytes + 1))
        waits = Signal()
        # Both may come first: the port takes the request, the span begins.
        requested = Signal()
        begun = Signal()
        request = self.port.request
        begins = named(m, "begins", waits & ~begun & free)
        takes = named(m, "takes", requested | request.ready)
        m.d.comb += [
            request.valid.eq(waits & ~requested),
            request.payload.region.eq(span.region),
            request.payload.address.eq(span.address),
            request.payload.bytes.eq(size),
            self.i.ready.eq(~waits),
        ]
        with m.If(waits):
            m.d.sync += [requested.eq(takes), begun.eq(begun | begins)]
            with m.If(takes & (begun | begins)):
                m.d.sync += [waits.eq(0), requested.eq(0), begun.eq(0)]
        with m.Else():
            m.d.sync += [
                waits.eq(self.i.valid),
                span.eq(self.i.payload),
                size.eq(multiply_constant(self.i.payload.records, self.record_bytes)),
            ]
        return begins, waits
