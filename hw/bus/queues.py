"""Words on their way between a bus and many ports: all queues of one direction share a block RAM."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import choose, named, one_of
from hw.bus.axi import MAX_BEATS
from hw.bus.bursts import LENGTH_WIDTH
from hw.bus.ports import MemoryWrite
from hw.bus.round_robin import RoundRobin
from hw.bus.write_master import burst_word
from hw.memory import Ram
from hw.stream.fifo import Fifo

__all__ = ["ReadQueues", "WriteQueues", "check_depth"]


def check_depth(depth: int) -> None:
    """Refuse a depth of queues that is none."""
    if not isinstance(depth, int):
        raise TypeError(f"depth must be an integer, not {depth!r}")
    if depth < MAX_BEATS or depth & (depth - 1):
        raise ValueError(f"depth must be a power of two, at least {MAX_BEATS}, not {depth}")


class _Queues(wiring.Component):
    """What queues of both directions share: how places of ports lie in the memory."""

    def __init__(self, width: int, ports: int, depth: int):
        check_depth(depth)
        self._width, self._ports, self._depth = width, ports, depth
        super().__init__(self._members())

    def _members(self) -> dict[str, wiring.Member]:
        """Ports of the queues."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _counts(self, name: str) -> list[Signal]:
        """By port, how many words came to some point, modulo twice the depth."""
        return [Signal(range(2 * self._depth), name=f"{name}{port}") for port in range(self._ports)]

    def _row(self, m: Module, name: str, port: Value, counts: list[Signal]) -> Value:
        """Row of the memory that the port's next word lies in."""
        count = choose(m, name, port, counts)
        return Cat(count[: (self._depth - 1).bit_length()], port)

    def _difference(self, m: Module, name: str, later: Signal, earlier: Signal) -> Value:
        """Words between two points."""
        return named(m, name, (later - earlier)[: len(later)])

    def _ram(self, m: Module, width: int) -> Ram:
        m.submodules.rows = ram = Ram(width, self._depth << (self._ports - 1).bit_length())
        return ram


class ReadQueues(_Queues):
    """Words that came from a bus, until their ports take them.

    Room is kept for words that are asked for, so whatever comes is taken at once, and no port waits for another.

    Latency: 3 clocks from a beat to its port. Throughput: a word a clock in, one a clock out, in 3 clocks to a port.

    Parameters
    ----------
    width : int
        Bits of a word.
    ports : int
        How many ports.
    depth : int
        Words of a port's queue, a power of two.

    Members
    -------
    room : Out(array)
        By port, words that may be asked for.
    asked : In(ports), length : In
        So many words and one are asked for by a port.
    valid : In(1), port : In, word : In(width)
        A word that came.
    words : array of Out(stream of `width` bits)
        To the ports.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two or below `hw.bus.axi.MAX_BEATS`.
    """

    def _members(self) -> dict[str, wiring.Member]:
        return {
            "room": Out(data.ArrayLayout(range(self._depth + 1), self._ports)),
            "asked": In(self._ports),
            "length": In(LENGTH_WIDTH),
            "valid": In(1),
            "port": In((self._ports - 1).bit_length()),
            "word": In(self._width),
            "words": Out(stream.Signature(self._width)).array(self._ports),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        ram = self._ram(m, self._width)
        m.submodules.next = chooser = RoundRobin(self._ports)
        asked, arrived, taken = (self._counts(name) for name in ("asked", "arrived", "taken"))

        m.d.comb += [
            ram.write_enable.eq(self.valid),
            ram.write_address.eq(self._row(m, "arrival", self.port, arrived)),
            ram.write_data.eq(self.word),
        ]
        # A port's word waits in a register of its own: it gets the next one when that is empty.
        comes = Signal(self._ports)
        waits = [(arrived[port] != taken[port]) & ~self.words[port].valid & ~comes[port] for port in range(self._ports)]
        m.d.comb += [
            chooser.wants.eq(Cat(waits)),
            chooser.moves.eq(1),
            ram.read_enable.eq(1),
            ram.read_address.eq(self._row(m, "departure", chooser.number, taken)),
        ]
        m.d.sync += comes.eq(chooser.grant)
        for port, words in enumerate(self.words):
            outstanding = self._difference(m, f"outstanding{port}", asked[port], taken[port])
            m.d.comb += self.room[port].eq(self._depth - outstanding)
            with m.If(self.asked[port]):
                m.d.sync += asked[port].eq(asked[port] + self.length + 1)
            with m.If(self.valid & (self.port == port)):
                m.d.sync += arrived[port].eq(arrived[port] + 1)
            with m.If(chooser.grant[port]):
                m.d.sync += taken[port].eq(taken[port] + 1)
            with m.If(comes[port]):
                m.d.sync += [words.valid.eq(1), words.payload.eq(ram.read_data)]
            with m.Elif(words.ready):
                m.d.sync += words.valid.eq(0)
        return m


class WriteQueues(_Queues):
    """Words that ports write, until there are enough of them for a burst.

    Latency: 3 clocks from a burst to its first word. Throughput: a word a clock in, one a clock out.

    Parameters
    ----------
    width, ports, depth
        As those of `ReadQueues`.

    Members
    -------
    words : array of In(stream of the words of `hw.bus.ports.MemoryWrite`)
        From the ports.
    available : Out(array)
        By port, words that are no part of a burst yet.
    cut : In(ports), length : In
        So many words of a port and one become a burst.
    bursts : In(stream of port and length)
        Bursts in the order in which their words are to leave.
    burst_words : Out(stream of `hw.bus.write_master.burst_word`)
        Their words.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two or below `hw.bus.axi.MAX_BEATS`.
    """

    def _members(self) -> dict[str, wiring.Member]:
        bursts = data.StructLayout({"port": (self._ports - 1).bit_length(), "length": LENGTH_WIDTH})
        words = MemoryWrite(self._width).members["data"].signature
        return {
            "words": In(words).array(self._ports),
            "available": Out(data.ArrayLayout(range(self._depth + 1), self._ports)),
            "cut": In(self._ports),
            "length": In(LENGTH_WIDTH),
            "bursts": In(stream.Signature(bursts)),
            "burst_words": Out(stream.Signature(burst_word(self._width))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        ram = self._ram(m, self._width * 9 // 8)
        m.submodules.next = chooser = RoundRobin(self._ports)
        m.submodules.jobs = jobs = Fifo(self.bursts.payload.shape(), 4)
        wiring.connect(m, wiring.flipped(self.bursts), jobs.i)
        gathered, claimed, left = (self._counts(name) for name in ("gathered", "claimed", "left"))
        job, out = jobs.o.payload, self.burst_words

        full = [
            self._difference(m, f"held{port}", gathered[port], left[port]) == self._depth for port in range(self._ports)
        ]
        m.d.comb += [
            chooser.wants.eq(Cat(words.valid & ~full[port] for port, words in enumerate(self.words))),
            chooser.moves.eq(1),
            ram.write_enable.eq(chooser.wants.any()),
            ram.write_address.eq(self._row(m, "arrival", chooser.number, gathered)),
            ram.write_data.eq(
                one_of([(chooser.grant[port], words.payload.as_value()) for port, words in enumerate(self.words)])
            ),
        ]

        # The memory's register is the output.
        number = Signal(LENGTH_WIDTH)
        final = named(m, "final", number == job.length)
        reads = named(m, "reads", jobs.o.valid & (~out.valid | out.ready))
        m.d.comb += [
            jobs.o.ready.eq(reads & final),
            ram.read_enable.eq(reads),
            ram.read_address.eq(self._row(m, "departure", job.port, left)),
            Cat(out.payload.data, out.payload.strobe).eq(ram.read_data),
        ]
        with m.If(reads):
            m.d.sync += [out.valid.eq(1), out.payload.last.eq(final), number.eq(Mux(final, 0, number + 1))]
        with m.Elif(out.ready):
            m.d.sync += out.valid.eq(0)

        for port, words in enumerate(self.words):
            m.d.comb += [
                words.ready.eq(chooser.grant[port]),
                self.available[port].eq(self._difference(m, f"free{port}", gathered[port], claimed[port])),
            ]
            with m.If(chooser.grant[port]):
                m.d.sync += gathered[port].eq(gathered[port] + 1)
            with m.If(self.cut[port]):
                m.d.sync += claimed[port].eq(claimed[port] + self.length + 1)
            with m.If(reads & (job.port == port)):
                m.d.sync += left[port].eq(left[port] + 1)
        return m
