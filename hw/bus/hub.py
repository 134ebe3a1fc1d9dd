"""The hub: many ports to memory on one AXI4 master."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named
from hw.bus.axi import AXI4, Response, check_range
from hw.bus.bursts import BurstCutter
from hw.bus.chip_memory import ChipMemory, check_chip
from hw.bus.ports import UNIT_BYTES, MemoryRead, MemoryWrite
from hw.bus.queues import ReadQueues, WriteQueues, check_depth
from hw.bus.read_master import ReadMaster
from hw.bus.span_check import UNITS_WIDTH, Fault, Lookup, SpanCheck, asked_span
from hw.bus.write_master import WriteMaster


def hub_error(ports: int) -> data.StructLayout:
    """The first access that went wrong: what, how the bus answered, whose it was, and where.

    `port` counts the ports that read, at least 2, then those that write; `unit` is a unit of memory, from the base of
    the region where the fault is that it lies past its limit.
    """
    return data.StructLayout(
        {"fault": Fault, "response": Response, "port": (ports - 1).bit_length(), "unit": UNITS_WIDTH}
    )


class Hub(wiring.Component):
    """Many ports that read and write memory, on one AXI4 master.

    * Each span is checked against its region, then cut into bursts of at most 16 beats. None crosses 4 KiB.
    * Ports take turns burst by burst. A burst is asked for when the queue of its port has room for all of it, and
      written when all of it is there: no port ever stalls the bus.
    * After an error no further access leaves. What has left is completed.

    Latency: 11 clocks from a request to its address on the bus, 3 from a beat to the port.
    Throughput: a beat a clock each way, a burst in 3 clocks.

    Parameters
    ----------
    width : int
        Bits of a word.
    reads, writes : sequence of str
        Names of the ports.
    address_width : int
        Bits of an address in bytes.
    depth : int
        Words of a port's queue, a power of two, at least 32.
    chip_bytes : int
        Bytes of RAM on the chip, which region 7 lies in; 0 for none. A multiple of a word, less than the bus reaches.

    Members
    -------
    (reads) : In(MemoryRead)
        Each under its name.
    (writes) : In(MemoryWrite)
        Each under its name.
    memory : Out(AXI4)
        The bus.
    lookup : Out(Lookup)
        The table of regions.
    error : Out(`hub_error`)
        The first error; stays until a reset.
    busy : Out(a bit for each port)
        Ports that have a span under way. Numbered as in `error`.
    asked : Out(`asked_span`)
        A port's span was taken: an event.
    moved : Out(1)
        A word came or went on the bus: an event.
    drain : In(1)
        No further access is to leave.
    drained : Out(1)
        That is so, and all that had left has ended: the hub may be reset.

    Raises
    ------
    TypeError
        If a number is no integer.
    ValueError
        If a number is out of its range.
    """

    def __init__(
        self,
        width: int,
        reads: Sequence[str],
        writes: Sequence[str],
        *,
        address_width: int = 32,
        depth: int = 32,
        chip_bytes: int = 0,
    ):
        self._width, self._address_width, self._depth, self._chip_bytes = width, address_width, depth, chip_bytes
        self._reads, self._writes = tuple(reads), tuple(writes)
        # Bases are units of memory.
        check_range("address_width", address_width, 12, UNITS_WIDTH + (UNIT_BYTES - 1).bit_length())
        check_depth(depth)
        if chip_bytes:
            check_chip(chip_bytes, width)
        n_ports = max(len(self._reads), 2) + max(len(self._writes), 2)
        super().__init__(
            {
                **{name: In(MemoryRead(width)) for name in self._reads},
                **{name: In(MemoryWrite(width)) for name in self._writes},
                "memory": Out(AXI4(address_width, width)),
                "lookup": Out(Lookup()),
                "error": Out(hub_error(n_ports)),
                "busy": Out(n_ports),
                "asked": Out(asked_span(n_ports)),
                "moved": Out(1),
                "drain": In(1),
                "drained": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width, address_width, depth = self._width, self._address_width, self._depth
        reads = [getattr(self, name) for name in self._reads]
        writes = [getattr(self, name) for name in self._writes]
        # A memory of one row is none: where there are fewer than two ports, a place stays empty.
        n_reads, n_writes = max(len(reads), 2), max(len(writes), 2)

        chip_bytes = self._chip_bytes
        m.submodules.check = check = SpanCheck(width, address_width, n_reads + n_writes, chip_bytes=chip_bytes)
        memory = self.memory
        if chip_bytes:
            m.submodules.chip = chip = ChipMemory(AXI4(address_width, width), chip_bytes)
            wiring.connect(m, chip.o, wiring.flipped(self.memory))
            memory = chip.i
            address_width += 1
        m.submodules.read_cutter = read_cutter = BurstCutter(width, address_width, n_reads)
        m.submodules.write_cutter = write_cutter = BurstCutter(width, address_width, n_writes)
        m.submodules.read_queues = read_queues = ReadQueues(width, n_reads, depth)
        m.submodules.write_queues = write_queues = WriteQueues(width, n_writes, depth)
        m.submodules.reader = reader = ReadMaster(width, address_width, len(read_queues.port))
        m.submodules.writer = writer = WriteMaster(width, address_width, len(write_queues.bursts.payload.port))

        ready = read_queues.ready & write_queues.ready
        goes = named(m, "goes", ready & ~self.drain & (self.error.fault == Fault.NONE))
        m.d.comb += [read_cutter.enable.eq(goes), write_cutter.enable.eq(goes)]
        # What is asked for waits in front of the cutters, and may do so a clock longer.
        m.d.sync += check.enable.eq(goes)
        wiring.connect(m, check.lookup, wiring.flipped(self.lookup))
        for first, ports in [(0, reads), (n_reads, writes)]:
            for number, port in enumerate(ports):
                wiring.connect(m, check.requests[first + number], wiring.flipped(port.request))
        for cutter, queues, first in [(read_cutter, read_queues, 0), (write_cutter, write_queues, n_reads)]:
            count = len(cutter.ended)
            m.d.comb += [
                queues.burst_port.eq(cutter.port),
                queues.length.eq(cutter.length),
                queues.cuts.eq(cutter.cuts),
                cutter.fits.eq(queues.fits),
                cutter.moved.eq(queues.moved),
                cutter.valid.eq(check.valid & (check.span.port >= first) & (check.span.port < first + count)),
                cutter.span.port.eq(check.span.port - first),
                cutter.span.first.eq(check.span.first),
                cutter.span.last.eq(check.span.last),
            ]
        m.d.comb += check.ended.eq(Cat(read_cutter.ended, write_cutter.ended))

        # Reads: what may be asked for is what there is room for, so all that comes is taken.
        m.d.comb += [
            reader.bursts.payload.eq(read_cutter.bursts.payload),
            reader.bursts.valid.eq(read_cutter.bursts.valid & goes),
            read_cutter.bursts.ready.eq(reader.bursts.ready & goes),
            reader.beats.ready.eq(1),
            read_queues.valid.eq(reader.beats.valid),
            read_queues.port.eq(reader.beats.payload.tag),
            read_queues.word.eq(reader.beats.payload.data),
        ]
        for number, port in enumerate(reads):
            wiring.connect(m, read_queues.words[number], wiring.flipped(port.data))

        # Writes: what may be written is what has been gathered.
        takes = named(m, "takes", writer.bursts.ready & write_queues.bursts.ready & goes)
        m.d.comb += [
            writer.bursts.payload.eq(write_cutter.bursts.payload),
            writer.bursts.valid.eq(write_cutter.bursts.valid & write_queues.bursts.ready & goes),
            write_queues.bursts.payload.port.eq(write_cutter.bursts.payload.tag),
            write_queues.bursts.payload.length.eq(write_cutter.bursts.payload.length),
            write_queues.bursts.valid.eq(write_cutter.bursts.valid & writer.bursts.ready & goes),
            write_cutter.bursts.ready.eq(takes),
            writer.answers.ready.eq(1),
        ]
        wiring.connect(m, write_queues.burst_words, writer.words)
        for number, port in enumerate(writes):
            wiring.connect(m, write_queues.words[number], wiring.flipped(port.data))
            unanswered = Signal.like(writer.pending, name=f"unanswered{number}")
            answered = writer.answers.valid & (writer.answers.payload.tag == number)
            cut = Signal(name=f"cut{number}")
            m.d.sync += cut.eq(write_cutter.cuts & (write_cutter.port == number))
            m.d.sync += unanswered.eq(unanswered + cut - answered)
            quiet = Signal(init=1, name=f"quiet{number}")
            m.d.sync += quiet.eq(~port.request.valid & ~check.busy[n_reads + number] & ~cut & (unanswered == 0))
            m.d.comb += port.idle.eq(~port.request.valid & quiet)

        for half in (reader.bus, writer.bus):
            for name, member in half.signature.members.items():
                inner, outer = getattr(half, name), getattr(memory, name)
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        m.d.comb += [
            self.busy.eq(check.busy),
            self.asked.eq(check.asked),
            self.moved.eq(reader.beats.valid | (writer.words.valid & writer.words.ready)),
        ]
        m.d.comb += self.drained.eq(self.drain & (reader.pending == 0) & (writer.pending == 0))
        self._find_errors(m, check, reader, writer, n_reads)
        return m

    def _find_errors(self, m: Module, check: SpanCheck, reader: ReadMaster, writer: WriteMaster, n_reads: int) -> None:
        """Keep the first error: of a span, of a beat that was read, of a burst that was written."""
        beat, answer = reader.beats.payload, writer.answers.payload
        to_unit = (UNIT_BYTES // (self._width // 8)).bit_length() - 1
        # Behind each other: what stands first counts, if there are several at once.
        none = self.error.fault == Fault.NONE
        with m.If(none & (check.fault != Fault.NONE)):
            m.d.sync += [
                self.error.fault.eq(check.fault),
                self.error.response.eq(Mux(check.fault == Fault.BUS, Response.DECERR, Response.OKAY)),
                self.error.port.eq(check.port),
                self.error.unit.eq(check.unit),
            ]
        with m.Elif(none & reader.beats.valid & (beat.response != Response.OKAY)):
            m.d.sync += [
                self.error.fault.eq(Fault.BUS),
                self.error.response.eq(beat.response),
                self.error.port.eq(beat.tag),
                self.error.unit.eq(beat.address >> to_unit),
            ]
        with m.Elif(none & writer.answers.valid & (answer.response != Response.OKAY)):
            m.d.sync += [
                self.error.fault.eq(Fault.BUS),
                self.error.response.eq(answer.response),
                self.error.port.eq(answer.tag + n_reads),
                self.error.unit.eq(answer.address >> to_unit),
            ]
