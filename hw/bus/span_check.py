"""From the requests of many ports to places in memory, each checked against its region."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named, one_of
from hw.bus.bursts import places
from hw.bus.ports import ADDRESS_WIDTH, BYTES_WIDTH, REGION_WIDTH, UNIT_BYTES, span
from hw.bus.round_robin import RoundRobin

UNITS_WIDTH = 32
"""Bits of a number of units of memory: the base and the limit of a region."""

CHIP_REGION = 7
"""Region of the RAM on the chip, which has addresses of its own."""

_UNIT = UNIT_BYTES.bit_length() - 1


class Fault(enum.Enum, shape=2):
    """What can be wrong with an access."""

    NONE = 0
    REGION = 1
    BUS = 2


class Lookup(wiring.Signature):
    """Where a region lies: asked for by number, answered in the same clock.

    Members
    -------
    region : Out
        Its number.
    base, limit : In
        Its first unit of memory, and how many it has.
    """

    def __init__(self) -> None:
        super().__init__({"region": Out(REGION_WIDTH), "base": In(UNITS_WIDTH), "limit": In(UNITS_WIDTH)})


def asked_span(ports: int) -> data.StructLayout:
    """The bytes that a port asked for, if `valid`."""
    return data.StructLayout({"valid": 1, "port": (ports - 1).bit_length(), "bytes": BYTES_WIDTH})


class SpanCheck(wiring.Component):
    """Takes the requests of ports, two spans of a port at a time, and finds where they lie.

    A span past the limit of its region, or past the last address of its memory, goes nowhere: it is a fault. Places in
    the RAM on the chip have the highest bit set, of an address that is one bit longer then.

    Latency: 5 clocks. Throughput: a span a clock, of a port in three.

    Parameters
    ----------
    width : int
        Bits of a word.
    address_width : int
        Bits of an address in bytes.
    ports : int
        How many ports.
    chip_bytes : int
        Bytes of RAM on the chip; 0 for none.

    Members
    -------
    requests : array of In(stream of `hw.bus.ports.span`)
        What ports ask for.
    lookup : Out(Lookup)
        The table of regions.
    enable : In(1)
        Whether requests are taken; one may still be in the clock after.
    ended : In(ports)
        The oldest span of a port has been dealt with.
    busy : Out(ports)
        Ports that have spans on their way.
    asked : Out(`asked_span`)
        A span was taken: an event.
    span : Out(`places`), valid : Out(1)
        A span that lies where it may.
    fault : Out(Fault), port, unit : Out
        One that does not: what is wrong, whose it is, and its last unit (of its region, if it is past its limit).
    """

    def __init__(self, width: int, address_width: int, ports: int, *, chip_bytes: int = 0):
        self._width, self._address_width, self._ports = width, address_width, ports
        self._chip_bytes = chip_bytes
        port_width = (ports - 1).bit_length()
        super().__init__(
            {
                "requests": In(stream.Signature(span())).array(ports),
                "lookup": Out(Lookup()),
                "enable": In(1),
                "ended": In(ports),
                "busy": Out(ports),
                "asked": Out(asked_span(ports)),
                "span": Out(places(width, address_width + bool(chip_bytes), port_width)),
                "valid": Out(1),
                "fault": Out(Fault),
                "port": Out(port_width),
                "unit": Out(UNITS_WIDTH),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.next = chooser = RoundRobin(self._ports)
        # A port may have two spans on their way: the next is checked while the last bursts of one are cut.
        twice = Signal(self._ports)
        # Requests are seen in one clock, one is chosen in the next, and taken in the third: ports lie far away.
        offered = Signal(self._ports)
        chosen = Signal(self._ports)
        chosen_port = Signal.like(chooser.number)
        m.d.comb += [chooser.wants.eq(offered & ~twice & ~chosen), chooser.moves.eq(self.enable)]
        m.d.sync += [
            offered.eq(Cat(request.valid for request in self.requests) & ~chosen),
            chosen.eq(Mux(self.enable, chooser.grant, 0)),
            chosen_port.eq(chooser.number),
            self.busy.eq(chosen | twice | (self.busy & ~self.ended)),
            twice.eq((twice | (chosen & self.busy)) & ~self.ended),
        ]
        for index, request in enumerate(self.requests):
            m.d.comb += request.ready.eq(chosen[index])

        # The request, and the table's answer to it.
        asked = Signal(span())
        asked_port = Signal(len(chooser.number))
        asked_valid = Signal()
        payloads = [request.payload.as_value() for request in self.requests]
        m.d.sync += [
            asked.eq(one_of(list(zip(chosen, payloads, strict=True)))),
            asked_port.eq(chosen_port),
            asked_valid.eq(chosen.any()),
        ]
        m.d.comb += [
            self.lookup.region.eq(asked.region),
            self.asked.valid.eq(asked_valid),
            self.asked.port.eq(asked_port),
            self.asked.bytes.eq(asked.bytes),
        ]
        first = Signal(ADDRESS_WIDTH)
        last = Signal(ADDRESS_WIDTH + 1)
        base = Signal(UNITS_WIDTH)
        limit = Signal(UNITS_WIDTH)
        in_chip = Signal()
        port = Signal.like(asked_port)
        valid = Signal()
        m.d.sync += [
            first.eq(asked.address),
            last.eq(asked.address + (asked.bytes - 1)),
            base.eq(self.lookup.base),
            limit.eq(self.lookup.limit),
            in_chip.eq(asked.region == CHIP_REGION),
            port.eq(asked_port),
            valid.eq(asked_valid),
        ]

        # Where it lies.
        beyond = named(m, "beyond", last[_UNIT:] >= limit)
        start = named(m, "start", first + (base << _UNIT))
        end = named(m, "end", last + (base << _UNIT))
        word = (self._width // 8 - 1).bit_length()
        unreachable = named(m, "unreachable", Mux(in_chip, end >= self._chip_bytes, (end >> self._address_width) != 0))
        first_word, last_word = start[word : self._address_width], end[word : self._address_width]
        m.d.sync += [
            self.valid.eq(valid & ~beyond & ~unreachable),
            self.span.port.eq(port),
            self.span.first.eq(Cat(first_word, in_chip)),
            self.span.last.eq(Cat(last_word, in_chip)),
            self.fault.eq(Fault.NONE),
            self.port.eq(port),
            self.unit.eq(Mux(beyond, last, end)[_UNIT:]),
        ]
        with m.If(valid & beyond):
            m.d.sync += self.fault.eq(Fault.REGION)
        with m.Elif(valid & unreachable):
            m.d.sync += self.fault.eq(Fault.BUS)
        return m
