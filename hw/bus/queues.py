"""Words on their way between a bus and many ports: all queues of one direction share a block RAM."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named, one_of
from hw.bus.axi import MAX_BEATS
from hw.bus.bursts import LENGTH_WIDTH
from hw.bus.ports import MemoryWrite
from hw.bus.round_robin import RoundRobin
from hw.bus.write_master import burst_word
from hw.memory import Ram, RegisterFile
from hw.stream.fifo import Fifo


def check_depth(depth: int) -> None:
    """Refuse a depth of queues that is none."""
    if not isinstance(depth, int):
        raise TypeError(f"depth must be an integer, not {depth!r}")
    # One burst comes while another is asked for; and no burst makes a difference of counts go round.
    least = 2 * MAX_BEATS
    if depth < least or depth & (depth - 1):
        raise ValueError(f"depth must be a power of two, at least {least}, not {depth}")


class _Queues(wiring.Component):
    """What queues of both directions share.

    Words of a port pass three points; the count of those that passed a point, modulo twice the depth, is kept for all
    ports in one register file, which is cleared after a reset, a port in a clock.
    """

    def __init__(self, width: int, ports: int, depth: int):
        check_depth(depth)
        self._width, self._ports, self._depth = width, ports, depth
        self._port_width = (ports - 1).bit_length()
        members = {
            "ready": Out(1),
            "burst_port": In(self._port_width),
            "length": In(LENGTH_WIDTH),
            "fits": Out(1),
            "cuts": In(1),
            "moved": Out(ports),
        }
        super().__init__(members | self._members())

    def _members(self) -> dict[str, wiring.Member]:
        """Ports of the queues besides those that a `hw.bus.bursts.BurstCutter` has too."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _clear(self, m: Module) -> Value:
        """Go through all ports after a reset; returns the port that is cleared while not `ready`."""
        port = Signal(self._port_width)
        with m.If(~self.ready):
            m.d.sync += [port.eq(port + 1), self.ready.eq(port == self._ports - 1)]
        return port

    def _ram(self, m: Module, width: int) -> Ram:
        m.submodules.rows = ram = Ram(width, self._depth << self._port_width)
        return ram

    def _row(self, count: Value, port: Value) -> Value:
        """Row of the memory that the word behind so many words of a port lies in."""
        return Cat(count[: (self._depth - 1).bit_length()], port)


class _Count:
    """How many words of each port passed a point: moved on for one port in a clock, read for some."""

    def __init__(self, m: Module, name: str, queues: _Queues, cleared: Value, readers: list[Value]):
        self._m, self._queues, self._cleared = m, queues, cleared
        width = (2 * queues._depth - 1).bit_length()
        self._file = RegisterFile(width, queues._ports, len(readers))
        m.submodules[name] = self._file
        self.of = [row for row in self._file.read_data]
        m.d.comb += [address.eq(port) for address, port in zip(self._file.read_addresses, readers, strict=True)]

    def move(self, moves: Value, port: Value, count: Value) -> None:
        """Where `moves`, the count of `port` becomes `count`."""
        ready = self._queues.ready
        self._m.d.comb += [
            self._file.write_enable.eq(moves | ~ready),
            self._file.write_address.eq(Mux(ready, port, self._cleared)),
            self._file.write_data.eq(Mux(ready, count, 0)),
        ]


class ReadQueues(_Queues):
    """Words that came from a bus, until their ports take them.

    Room is kept for words that are asked for, so whatever comes is taken at once, and no port waits for another.

    Latency: 3 clocks from a beat to its port. Throughput: a word a clock in, one a clock out, in 2 clocks to a port.

    Parameters
    ----------
    width : int
        Bits of a word.
    ports : int
        How many ports, at least 2.
    depth : int
        Words of a port's queue, a power of two.

    Members
    -------
    ready : Out(1)
        After a reset, once all is cleared. Nothing may come before.
    burst_port, length : In
        A burst that may be asked for: its port, and its words minus 1.
    fits : Out(1)
        There is room for it.
    cuts : In(1)
        It is asked for.
    moved : Out(ports)
        A port took a word.
    valid : In(1), port : In, word : In(width)
        A word that came.
    words : array of Out(stream of `width` bits)
        To the ports.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two, or below two bursts.
    """

    def _members(self) -> dict[str, wiring.Member]:
        return {
            "valid": In(1),
            "port": In(self._port_width),
            "word": In(self._width),
            "words": Out(stream.Signature(self._width)).array(self._ports),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.next = chooser = RoundRobin(self._ports)
        ram, cleared = self._ram(m, self._width), self._clear(m)
        asked = _Count(m, "asked", self, cleared, [self.burst_port])
        chosen = Signal.like(chooser.number)
        arrived = _Count(m, "arrived", self, cleared, [self.port, chosen])
        taken = _Count(m, "taken", self, cleared, [self.burst_port])

        next_asked = named(m, "next_asked", asked.of[0] + self.length + 1)
        held = named(m, "held", (next_asked - taken.of[0])[: len(taken.of[0])])
        m.d.comb += self.fits.eq(held <= self._depth)
        asked.move(self.cuts, self.burst_port, next_asked)

        arrived.move(self.valid, self.port, arrived.of[0] + 1)
        m.d.comb += [
            ram.write_enable.eq(self.valid),
            ram.write_address.eq(self._row(arrived.of[0], self.port)),
            ram.write_data.eq(self.word),
        ]

        # A port's word waits in a register of its own: it gets the next one when that is empty, or about to be.
        waits = Signal(self._ports)
        comes = Signal(self._ports)
        empty = Cat(~words.valid | words.ready for words in self.words)
        # Words that were taken count in registers, too: a grant is the late part of an address, and reads no file.
        counts = [Signal.like(taken.of[0], name=f"taken{port}") for port in range(self._ports)]
        count = named(m, "taken_count", one_of(list(zip(chooser.grant, counts, strict=True))))
        was_taken = Signal.like(count)
        now_taken = named(m, "now_taken", (was_taken + 1)[: len(count)])
        m.d.sync += [counts[port].eq(counts[port] + chooser.grant[port]) for port in range(self._ports)]
        taken.move(comes.any(), chosen, now_taken)
        m.d.comb += [
            chooser.wants.eq(waits & empty & ~comes),
            chooser.moves.eq(1),
            ram.read_enable.eq(1),
            ram.read_address.eq(self._row(count, chooser.number)),
            self.moved.eq(comes),
        ]
        # Whether that was the port's last word shows a clock later, in which no other word of it is taken.
        arrives = Signal(self._ports)
        with m.If(self.valid):
            m.d.comb += arrives.eq(1 << self.port)
        last = named(m, "last", now_taken == arrived.of[1])
        ends = named(m, "ends", comes & last.replicate(self._ports))
        m.d.sync += [
            chosen.eq(chooser.number),
            was_taken.eq(count),
            comes.eq(chooser.grant),
            waits.eq(waits & ~ends | arrives),
        ]
        for port, words in enumerate(self.words):
            with m.If(comes[port]):
                m.d.sync += [words.valid.eq(1), words.payload.eq(ram.read_data)]
            with m.Elif(words.ready):
                m.d.sync += words.valid.eq(0)
        return m


class WriteQueues(_Queues):
    """Words that ports write, until there are enough of them for a burst.

    Latency: 3 clocks from a burst to its first word. Throughput: a word a clock in, in 2 clocks from a port, and a word
    a clock out.

    Parameters
    ----------
    width, ports, depth
        As those of `ReadQueues`.

    Members
    -------
    ready : Out(1)
        After a reset, once all is cleared.
    words : array of In(stream of the words of `hw.bus.ports.MemoryWrite`)
        From the ports.
    burst_port, length : In
        A burst that may be written: its port, and its words minus 1.
    fits : Out(1)
        Its words are there.
    cuts : In(1)
        It is written.
    moved : Out(ports)
        A port gave a word.
    bursts : In(stream of port and length)
        Bursts in the order in which their words are to leave.
    burst_words : Out(stream of `hw.bus.write_master.burst_word`)
        Their words.

    Raises
    ------
    TypeError
        If `depth` is no integer.
    ValueError
        If `depth` is no power of two, or below two bursts.
    """

    def _members(self) -> dict[str, wiring.Member]:
        bursts = data.StructLayout({"port": self._port_width, "length": LENGTH_WIDTH})
        words = MemoryWrite(self._width).members["data"].signature
        return {
            "words": In(words).array(self._ports),
            "bursts": In(stream.Signature(bursts)),
            "burst_words": Out(stream.Signature(burst_word(self._width))),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.next = chooser = RoundRobin(self._ports)
        m.submodules.jobs = jobs = Fifo(self.bursts.payload.shape(), 4)
        wiring.connect(m, wiring.flipped(self.bursts), jobs.i)
        ram, cleared = self._ram(m, self._width * 9 // 8), self._clear(m)
        job, out = jobs.o.payload, self.burst_words
        # A port is chosen in one clock, and its word taken in the next one: no port's ready waits for another's valid.
        chosen = Signal(self._ports)
        number = Signal.like(chooser.number, name="chosen_port")
        gathered = _Count(m, "gathered", self, cleared, [number, self.burst_port])
        claimed = _Count(m, "claimed", self, cleared, [self.burst_port])
        left = _Count(m, "left", self, cleared, [job.port, number])

        next_claimed = named(m, "next_claimed", claimed.of[0] + self.length + 1)
        spare = named(m, "spare", (gathered.of[1] - next_claimed)[: len(claimed.of[0])])
        m.d.comb += self.fits.eq(~spare[-1])
        claimed.move(self.cuts, self.burst_port, next_claimed)

        full = Signal(self._ports)
        offered = Cat(words.valid for words in self.words)
        moves = named(m, "gathers", chosen & offered)
        takes = named(m, "takes", moves.any())
        next_gathered = named(m, "next_gathered", (gathered.of[0] + 1)[: len(gathered.of[0])])
        gathered.move(takes, number, next_gathered)
        m.d.sync += [chosen.eq(chooser.grant), number.eq(chooser.number)]
        m.d.comb += [
            chooser.wants.eq(offered & ~full & ~chosen & self.ready.replicate(self._ports)),
            chooser.moves.eq(1),
            ram.write_enable.eq(takes),
            ram.write_address.eq(self._row(gathered.of[0], number)),
            ram.write_data.eq(
                one_of([(chosen[port], words.payload.as_value()) for port, words in enumerate(self.words)])
            ),
            self.moved.eq(moves),
        ]
        for port, words in enumerate(self.words):
            m.d.comb += words.ready.eq(chosen[port])

        # The memory's register is the output.
        beat = Signal(LENGTH_WIDTH)
        final = named(m, "final", beat == job.length)
        reads = named(m, "reads", jobs.o.valid & (~out.valid | out.ready))
        left.move(reads, job.port, left.of[0] + 1)
        m.d.comb += [
            jobs.o.ready.eq(reads & final),
            ram.read_enable.eq(reads),
            ram.read_address.eq(self._row(left.of[0], job.port)),
            Cat(out.payload.data, out.payload.strobe).eq(ram.read_data),
        ]
        with m.If(reads):
            m.d.sync += [out.valid.eq(1), out.payload.last.eq(final), beat.eq(Mux(final, 0, beat + 1))]
        with m.Elif(out.ready):
            m.d.sync += out.valid.eq(0)

        leaves = Signal(self._ports)
        with m.If(reads):
            m.d.comb += leaves.eq(1 << job.port)
        fills = named(m, "fills", next_gathered == left.of[1] ^ self._depth)
        m.d.sync += full.eq((full | (moves & fills.replicate(self._ports))) & ~leaves)
        return m
