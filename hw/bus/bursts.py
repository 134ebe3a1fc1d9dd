"""Bursts: what they are, how spans are cut into them, and how a master asks for them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.bus.axi import MAX_BEATS, Burst
from hw.bus.round_robin import RoundRobin
from hw.memory import Ram
from hw.stream.fifo import Fifo

LENGTH_WIDTH = (MAX_BEATS - 1).bit_length()
"""Bits of the length of a burst, which is its beats minus 1."""


def word_address_width(width: int, address_width: int) -> int:
    """Bits of the number of a word of `width` bits, where addresses in bytes have `address_width`."""
    return address_width - (width // 8 - 1).bit_length()


def burst(width: int, address_width: int, tag_width: int) -> data.StructLayout:
    """A burst: its first word, its beats minus 1, and what comes back with it.

    It stays within a block of `MAX_BEATS` words whose number is a multiple of that, so it crosses no
    `hw.bus.axi.BOUNDARY`.
    """
    number = word_address_width(width, address_width)
    return data.StructLayout({"address": number, "length": LENGTH_WIDTH, "tag": tag_width})


def places(width: int, address_width: int, port_width: int) -> data.StructLayout:
    """Words of a span of a port: numbers of its first one and its last one."""
    number = word_address_width(width, address_width)
    return data.StructLayout({"port": port_width, "first": number, "last": number})


class BurstCutter(wiring.Component):
    """Cuts the spans of many ports into bursts, a port after the other.

    A burst ends where a block of `MAX_BEATS` words ends, so one comparison finds its length, and no burst crosses a
    boundary of 4 KiB. A port whose next burst does not fit its queue is passed over until that changes.

    Latency: 5 clocks from a span to its first burst. Throughput: a burst in 3 clocks, of a port alone in 4.

    Parameters
    ----------
    width : int
        Bits of a word.
    address_width : int
        Bits of an address in bytes.
    ports : int
        How many ports, at least 2.

    Members
    -------
    span : In(places), valid : In(1)
        A span of a port that has at most one.
    enable : In(1)
        Whether bursts may be cut.
    port, length : Out
        A burst that might be cut in this clock: its port, and its beats minus 1.
    fits : In(1)
        Whether the queue of that port is ready for it.
    cuts : Out(1)
        It is cut.
    moved : In(ports)
        The queue of a port may be ready for what it was not ready for.
    bursts : Out(stream of `burst`)
        Bursts; their tag is the port.
    ended : Out(ports)
        The last burst of the port's oldest span was cut in this clock.
    """

    def __init__(self, width: int, address_width: int, ports: int):
        self._ports = ports
        port_width = (ports - 1).bit_length()
        self._place = places(width, address_width, port_width)
        super().__init__(
            {
                "span": In(self._place),
                "valid": In(1),
                "enable": In(1),
                "port": Out(port_width),
                "length": Out(LENGTH_WIDTH),
                "fits": In(1),
                "cuts": Out(1),
                "moved": In(ports),
                "bursts": Out(stream.Signature(burst(width, address_width, port_width))),
                "ended": Out(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.next = chooser = RoundRobin(self._ports)
        number = self._place["first"].width
        # What a span is, and the block that its next burst lies in; the first burst may start in the middle of one.
        words = data.StructLayout({"first": number, "last": number})
        m.submodules.spans = spans = Ram(words, 2 << len(self.port), distributed=True)
        m.submodules.blocks = blocks = Ram(number - LENGTH_WIDTH, self._ports, distributed=True)
        # Each port has two places: which of them is filled next, and which is cut.
        active = Signal(self._ports)
        twice = Signal(self._ports)
        filled = Signal(self._ports)
        emptied = Signal(self._ports)
        begun = Signal(self._ports)
        blocked = Signal(self._ports)

        begins = Signal(self._ports)
        with m.If(self.valid):
            m.d.comb += begins.eq(1 << self.span.port)

        # A clock to choose a port, one to read its span, one to look at it, and one to see whether its queue is ready,
        # in which the next port is chosen.
        reads = Signal()
        looks = Signal()
        decides = Signal()
        chosen = Signal(self._ports)
        free = named(m, "free", ~self.bursts.valid | self.bursts.ready)
        chooses = named(m, "chooses", ~reads & ~looks & self.enable)
        m.d.comb += [
            chooser.wants.eq(active & ~blocked & ~(chosen & decides.replicate(self._ports))),
            chooser.moves.eq(chooses),
            spans.write_enable.eq(self.valid),
            spans.write_address.eq(Cat(self.span.port, (filled & begins).any())),
            spans.write_data.first.eq(self.span.first),
            spans.write_data.last.eq(self.span.last),
            spans.read_enable.eq(reads),
            spans.read_address.eq(Cat(self.port, (emptied & chosen).any())),
            blocks.read_enable.eq(reads),
            blocks.read_address.eq(self.port),
        ]
        # The burst before must have left: the next one takes its place when its span is looked at.
        m.d.sync += [
            reads.eq(Mux(reads, ~free, chooses & chooser.wants.any())),
            looks.eq(reads & free),
            decides.eq(looks),
        ]
        with m.If(chooses):
            m.d.sync += [chosen.eq(chooser.grant), self.port.eq(chooser.number)]

        span = spans.read_data
        goes_on = named(m, "goes_on", (begun & chosen).any())
        block = named(m, "block", Mux(goes_on, blocks.read_data, span.first[LENGTH_WIDTH:]))
        start = named(m, "start", Mux(goes_on, 0, span.first[:LENGTH_WIDTH]))
        ends_here = named(m, "ends_here", block == span.last[LENGTH_WIDTH:])
        final = Signal()
        address = self.bursts.payload.address
        with m.If(looks):
            m.d.sync += [
                final.eq(ends_here),
                self.length.eq(Mux(ends_here, span.last[:LENGTH_WIDTH], MAX_BEATS - 1) - start),
                address.eq(Cat(start, block)),
            ]
        fails = named(m, "fails", decides & ~self.fits)
        m.d.comb += [
            self.cuts.eq(decides & self.enable & self.fits),
            self.ended.eq(chosen & (self.cuts & final).replicate(self._ports)),
            blocks.write_enable.eq(self.cuts),
            blocks.write_address.eq(self.port),
            blocks.write_data.eq(address[LENGTH_WIDTH:] + 1),
            self.bursts.payload.length.eq(self.length),
        ]
        m.d.sync += [
            active.eq(begins | twice | (active & ~self.ended)),
            twice.eq((twice | (begins & active)) & ~self.ended),
            filled.eq(filled ^ begins),
            emptied.eq(emptied ^ self.ended),
            begun.eq((begun | (chosen & self.cuts.replicate(self._ports))) & ~self.ended),
            blocked.eq((blocked | (chosen & fails.replicate(self._ports))) & ~self.moved),
        ]
        with m.If(free):
            m.d.sync += [self.bursts.valid.eq(self.cuts), self.bursts.payload.tag.eq(self.port)]
        return m


class Asking:
    """The channel of addresses of a master, and the order in which its bursts come back.

    Parameters
    ----------
    m : Module
        Where it is described.
    prefix : str
        ``"ar"`` or ``"aw"``.
    bus : interface
        The bus.
    bursts : stream interface
        What to ask for.
    pending : Signal
        Bursts that have been taken and have not ended.
    outstanding : int
        At most so many, a power of two, and one.

    Attributes
    ----------
    ended : Signal
        To be driven: the oldest burst has ended in this clock.
    valid : Value
        Whether there is an oldest burst.
    tag, address : Value
        Of the oldest burst.
    """

    def __init__(self, m: Module, prefix: str, bus: object, bursts: stream.Interface, pending: Value, outstanding: int):
        asked = bursts.payload
        kept = data.StructLayout({"tag": asked.tag.shape(), "address": asked.address.shape()})
        m.submodules.order = order = Fifo(kept, outstanding)
        valid, ready = getattr(bus, f"{prefix}valid"), getattr(bus, f"{prefix}ready")
        word_bits = len(getattr(bus, f"{prefix}addr")) - len(asked.address)
        free = named(m, "free", ~valid | ready)
        taken = named(m, "taken", bursts.valid & bursts.ready)
        self.ended = Signal(name="ended")
        self.valid, self.tag, self.address = order.o.valid, order.o.payload.tag, order.o.payload.address
        m.d.comb += [
            bursts.ready.eq(free & order.i.ready),
            order.i.valid.eq(bursts.valid & free),
            order.i.payload.tag.eq(asked.tag),
            order.i.payload.address.eq(asked.address),
            order.o.ready.eq(self.ended),
            getattr(bus, f"{prefix}size").eq(word_bits),
            getattr(bus, f"{prefix}burst").eq(Burst.INCR),
        ]
        with m.If(free):
            m.d.sync += [
                valid.eq(taken),
                getattr(bus, f"{prefix}addr").eq(Cat(Const(0, word_bits), asked.address)),
                getattr(bus, f"{prefix}len").eq(asked.length),
            ]
        m.d.sync += pending.eq(pending + taken - self.ended)
