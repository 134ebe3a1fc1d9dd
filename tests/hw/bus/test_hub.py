"""The hub between ports that ask at random and a memory on AXI4 that answers at random."""

import dataclasses
import random

import pytest
from amaranth.sim import Simulator

from hw.bus.axi import Response
from hw.bus.hub import Hub
from hw.bus.span_check import CHIP_REGION, Fault
from tests.hw.bus.axi_memory import AxiMemory
from tests.hw.lint import complaints
from tests.hw.streams import refusal

pytestmark = pytest.mark.unit

READS = ("alpha", "beta", "gamma")
WRITES = ("delta", "epsilon")
SEEDS = random.Random(1128)


@dataclasses.dataclass
class Region:
    base: int
    limit: int


async def until(ctx, signal):
    """Wait for the clock in which a signal is high; unlike Amaranth's own, it may be abandoned."""
    while True:
        _, _, high = await ctx.tick().sample(signal)
        if high:
            return


class HubBench:
    """A hub, its table of regions, its memory, and processes at its ports."""

    def __init__(self, width=64, *, seed=1, hesitates=0.3, latency=5, faults=None, size=1 << 16, **options):
        self.dut = Hub(width, READS, WRITES, **options)
        self.draw = random.Random(seed)
        self.memory = bytearray(self.draw.randbytes(size))
        self.chip = bytearray(options.get("chip_bytes", 0))
        self.bytes, self.hesitates = width // 8, hesitates
        self.axi = AxiMemory(
            self.dut.memory, self.memory, seed=seed, hesitates=hesitates, latency=latency, faults=faults
        )
        self.regions = [Region(self.draw.randrange(200), 256) for _ in range(8)]
        self.read = {name: [] for name in READS}
        self.failed = None

    def _pause(self):
        return self.draw.random() < self.hesitates

    async def table(self, ctx):
        async for region in ctx.changed(self.dut.lookup.region):
            (number,) = region
            ctx.set(self.dut.lookup.base, self.regions[number].base)
            ctx.set(self.dut.lookup.limit, self.regions[number].limit)

    def asking(self, name, spans):
        """A process that asks for spans at a port."""
        port = getattr(self.dut, name)

        async def ask(ctx):
            for region, address, size in spans:
                while self._pause():
                    await ctx.tick()
                ctx.set(port.request.payload, {"region": region, "address": address, "bytes": size})
                ctx.set(port.request.valid, 1)
                await until(ctx, port.request.ready)
                ctx.set(port.request.valid, 0)

        return ask

    def taking(self, name):
        """A process that takes what comes to a port that reads."""
        port = getattr(self.dut, name)

        async def take(ctx):
            held = None
            while True:
                ready = not self._pause()
                ctx.set(port.data.ready, ready)
                _, _, valid, word = await ctx.tick().sample(port.data.valid, port.data.payload)
                assert held is None or (valid and word == held), "a waiting word changed"
                held = word if valid and not ready else None
                if valid and ready:
                    self.read[name].append(word)

        return take

    def giving(self, name, words):
        """A process that offers words to a port that writes, once a request has been seen."""
        port = getattr(self.dut, name)

        async def give(ctx):
            await until(ctx, port.request.valid)
            for word, strobe in words:
                while self._pause():
                    await ctx.tick()
                ctx.set(port.data.payload, {"data": word, "strobe": strobe})
                ctx.set(port.data.valid, 1)
                await until(ctx, port.data.ready)
                ctx.set(port.data.valid, 0)

        return give

    def reading(self, spans):
        """Processes of all ports that read."""
        return [make for name in READS for make in (self.asking(name, spans[name]), self.taking(name))]

    def writing(self, spans, words):
        """Processes of all ports that write."""
        return [make for name in WRITES for make in (self.asking(name, spans[name]), self.giving(name, words[name]))]

    def span(self, most=300, regions=range(7)):
        """A random span inside a region."""
        region = self.draw.choice(regions)
        size = self.draw.choice([1, self.bytes, self.draw.randrange(1, most)])
        return region, self.draw.randrange(32 * self.regions[region].limit - size), size

    def words(self, span):
        """Numbers of the words of a span in memory."""
        region, address, size = span
        first = self.regions[region].base * 32 + address
        return range(first // self.bytes, (first + size - 1) // self.bytes + 1)

    def run(self, main, *processes):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        for process in (self.table, self.axi.run, *processes):
            simulator.add_testbench(process, background=True)
        simulator.add_testbench(main)
        simulator.run()

    def place(self, span, memory=None):
        """What a span lies in: memory, or the RAM on the chip."""
        return self.chip if span[0] == CHIP_REGION else self.memory if memory is None else memory

    def expected(self, spans, memory=None):
        """What ports that read are to get."""
        return {
            name: [
                int.from_bytes(self.place(span, memory)[word * self.bytes : (word + 1) * self.bytes], "little")
                for span in asked
                for word in self.words(span)
            ]
            for name, asked in spans.items()
        }

    def to_write(self, spans):
        """Random words for each span, with the strobes of its bytes, at random more of them off."""
        found = {}
        for name, asked in spans.items():
            found[name] = []
            for span in asked:
                first = self.regions[span[0]].base * 32 + span[1]
                for word in self.words(span):
                    places = range(word * self.bytes, (word + 1) * self.bytes)
                    strobe = sum(
                        (first <= place < first + span[2] and self.draw.random() < 0.9) << bit
                        for bit, place in enumerate(places)
                    )
                    found[name].append((self.draw.getrandbits(8 * self.bytes), strobe))
        return found

    def apply(self, memory, spans, words):
        """Write what ports write into a copy of memory, and into the RAM on the chip."""
        for name, asked in spans.items():
            places = [(self.place(span, memory), word) for span in asked for word in self.words(span)]
            for (target, place), (word, strobe) in zip(places, words[name], strict=True):
                for byte in range(self.bytes):
                    if strobe >> byte & 1:
                        target[place * self.bytes + byte] = word >> 8 * byte & 255


def seeded():
    seed = SEEDS.randrange(1 << 32)
    print("seed", seed)
    return seed


@pytest.mark.parametrize("hesitates", [0, 0.5])
@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_every_port_gets_its_words(width, hesitates):
    bench = HubBench(width, seed=seeded(), hesitates=hesitates)
    spans = {name: [bench.span() for _ in range(12)] for name in READS}
    expected = bench.expected(spans)

    async def main(ctx):
        for _ in range(20_000):
            await ctx.tick()
            if bench.read == expected:
                break
        for _ in range(50):
            await ctx.tick()
        assert bench.axi.quiet
        assert ctx.get(bench.dut.error.fault) == Fault.NONE

    bench.run(main, *bench.reading(spans))
    assert bench.read == expected


def apart(bench, ports, count, most=300):
    """Random spans of each port in a region that no other port writes."""
    bench.regions = [Region(256 * number + bench.draw.randrange(8), 200) for number in range(8)]
    return {name: [bench.span(most, [number]) for _ in range(count)] for number, name in enumerate(ports)}


@pytest.mark.parametrize("hesitates", [0, 0.5])
@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_memory_gets_the_words_of_every_port(width, hesitates):
    bench = HubBench(width, seed=seeded(), hesitates=hesitates)
    spans = apart(bench, WRITES, 12)
    words = bench.to_write(spans)
    expected = bytearray(bench.memory)
    bench.apply(expected, spans, words)

    async def main(ctx):
        idle = 0
        for _ in range(20_000):
            await ctx.tick()
            written = bench.axi.words_written
            all_idle = all(ctx.get(getattr(bench.dut, name).idle) for name in WRITES)
            assert not all_idle or bench.axi.quiet, "idle before all has arrived"
            idle = idle + 1 if all_idle else 0
            if idle == 100:
                break
        assert written == sum(len(found) for found in words.values())
        assert ctx.get(bench.dut.error.fault) == Fault.NONE

    bench.run(main, *bench.writing(spans, words))
    assert bench.memory == expected


def test_what_was_written_is_read_once_the_port_is_idle():
    bench = HubBench(seed=seeded(), latency=30)
    port = bench.dut.delta
    (span,) = apart(bench, ["delta"], 1)["delta"]
    spans = {"delta": [span]}
    words = bench.to_write(spans)
    memory = bytearray(bench.memory)
    bench.apply(memory, spans, words)

    async def main(ctx):
        await until(ctx, port.request.valid)
        await until(ctx, port.idle)
        bench.memory_then = bytes(bench.memory)
        await bench.asking("alpha", [span])(ctx)
        for _ in range(600):
            await ctx.tick()

    bench.run(main, *bench.writing(spans | {"epsilon": []}, words | {"epsilon": []}), bench.taking("alpha"))
    assert bench.memory_then == memory
    bench.memory[:] = memory
    assert bench.read["alpha"] == bench.expected({"alpha": [span]})["alpha"]


def test_no_word_is_left_behind():
    """A port that asks again only when all of its words have come: each of these words is a last one."""
    bench = HubBench(seed=seeded(), hesitates=0.4, latency=1)
    spans = [(0, 64 * number, 16 + 8 * (number % 3)) for number in range(80)]
    expected = bench.expected({"alpha": spans})["alpha"]

    async def main(ctx):
        count = 0
        for span in spans:
            await bench.asking("alpha", [span])(ctx)
            count += len(bench.words(span))
            for _ in range(300):
                if len(bench.read["alpha"]) == count:
                    break
                await ctx.tick()
            assert len(bench.read["alpha"]) == count

    bench.run(main, bench.taking("alpha"))
    assert bench.read["alpha"] == expected


@pytest.mark.parametrize("hesitates", [0, 0.4])
@pytest.mark.parametrize("width", [32, 128])
def test_ram_on_the_chip_is_a_region_like_others(width, hesitates):
    """Each port writes to memory and to a part of the RAM by turns; what is read then, by turns, is that."""
    bench = HubBench(width, seed=seeded(), hesitates=hesitates, latency=20, chip_bytes=4096)
    writes = apart(bench, WRITES, 8)
    bench.regions[CHIP_REGION] = Region(32, 64)
    for number, name in enumerate(WRITES):
        inside = [(CHIP_REGION, 1000 * number + bench.draw.randrange(700), 1 + 37 * part) for part in range(8)]
        writes[name] = [span for pair in zip(writes[name], inside, strict=True) for span in pair]
    words = bench.to_write(writes)
    memory = bytearray(bench.memory)
    bench.apply(memory, writes, words)
    reads = {name: [bench.span(regions=[number, CHIP_REGION]) for _ in range(12)] for number, name in enumerate(READS)}
    expected = bench.expected(reads, memory)
    ports = [getattr(bench.dut, name) for name in WRITES]

    async def main(ctx):
        quiet = 0
        while quiet < 60:
            await ctx.tick()
            quiet = quiet + 1 if all([ctx.get(port.idle) for port in ports]) else 0
        bench.written = bytes(bench.memory)
        for name in READS[1:]:
            bench.later.append(name)
        await bench.asking(READS[0], reads[READS[0]])(ctx)
        for _ in range(20_000):
            await ctx.tick()
            if bench.read == expected:
                break
        await ctx.tick().repeat(40)
        assert bench.axi.quiet

    bench.later = []
    processes = bench.writing(writes, words) + [bench.taking(name) for name in READS]
    for name in READS[1:]:

        async def ask(ctx, name=name):
            while name not in bench.later:
                await ctx.tick()
            await bench.asking(name, reads[name])(ctx)

        processes.append(ask)
    bench.run(main, *processes)
    assert bench.written == memory
    assert bench.read == expected


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_port_that_waits_holds_up_no_other(kind):
    """One port takes or gives nothing at all: the others have all they asked for nevertheless."""
    bench = HubBench(seed=seeded(), hesitates=0)
    writes = apart(bench, WRITES, 4, 2000)
    reads = {name: [bench.span(2000) for _ in range(4)] for name in READS}
    words = bench.to_write(writes)
    processes = bench.reading(reads) + bench.writing(writes, words)
    lazy = READS[1] if kind == "read" else WRITES[0]
    del processes[3 if kind == "read" else 2 * len(READS) + 1]
    expected = bench.expected(reads)

    async def main(ctx):
        for _ in range(8_000):
            await ctx.tick()
        for name in (*READS, *WRITES):
            if name in READS:
                assert (name == lazy) == (len(bench.read[name]) != len(expected[name])), name
            else:
                assert (name == lazy) == (not ctx.get(getattr(bench.dut, name).idle)), name

    bench.run(main, *processes)


@pytest.mark.parametrize("port", [*READS, *WRITES])
@pytest.mark.parametrize(
    "excess", ["one byte", "one unit", "far", "an empty region", "past the bus", "past the chip", "no chip"]
)
def test_a_span_past_its_region_goes_nowhere(port, excess):
    chip_bytes = 4096 if excess == "past the chip" else 0
    bench = HubBench(seed=seeded(), hesitates=0.2, address_width=20, chip_bytes=chip_bytes)
    region, address, size = bench.span(regions=[CHIP_REGION] if "chip" in excess else range(7))
    limit = 32 * bench.regions[region].limit
    if excess == "one byte":
        address = limit - size + 1
    elif excess == "one unit":
        address = limit - size + 32
    elif excess == "far":
        address = (1 << 35) - size
    elif excess == "an empty region":
        bench.regions[region].limit = 0
    elif excess == "past the bus":
        bench.regions[region] = Region((1 << 20 - 5) - (address + size) // 32, (1 << 32) - 1)
    elif excess == "past the chip":
        bench.regions[region] = Region((4096 >> 5) - (address + size) // 32, (1 << 32) - 1)
    reached = excess not in ("past the bus", "past the chip", "no chip")
    first = 0 if reached else bench.regions[region].base * 32
    other = getattr(bench.dut, READS[0] if port != READS[0] else READS[1])

    async def main(ctx):
        await bench.asking(port, [(region, address, size)])(ctx)
        for _ in range(10):
            await ctx.tick()
        # Nothing goes any more, however sound.
        ctx.set(other.request.payload, {"region": (region + 1) % 7, "address": 0, "bytes": 8})
        ctx.set(other.request.valid, 1)
        for _ in range(60):
            await ctx.tick()
        error = bench.dut.error
        assert ctx.get(error.fault) == (Fault.REGION if reached else Fault.BUS)
        assert ctx.get(error.response) == (Response.OKAY if reached else Response.DECERR)
        assert ctx.get(error.port) == [*READS, *WRITES].index(port)
        assert ctx.get(error.unit) == (first + address + size - 1) // 32 % (1 << 32)

    bench.run(main, *[bench.giving(name, [(0, 255)] * 100) for name in WRITES])
    assert not bench.axi.addresses, "an access left"


def traffic(bench, count=10):
    """Random spans of all ports, and the processes that drive them."""
    writes = apart(bench, WRITES, count)
    reads = {name: [bench.span() for _ in range(count)] for name in READS}
    return bench.reading(reads) + bench.writing(writes, bench.to_write(writes))


@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR])
@pytest.mark.parametrize("kind, number", [("read", beat) for beat in (0, 1, 7, 15, 40)] + [("write", 0), ("write", 5)])
def test_an_answer_that_is_an_error_stops_all(kind, number, response):
    bench = HubBench(seed=seeded(), faults={(kind, number): response.value})
    processes = traffic(bench)
    left = []

    async def main(ctx):
        error = bench.dut.error
        await until(ctx, error.fault != Fault.NONE)
        # What the address channels hold may still go; all that has left ends.
        before = len(bench.axi.addresses)
        for _ in range(400):
            await ctx.tick()
        left.extend(bench.axi.addresses[before:])
        assert bench.axi.quiet
        assert ctx.get(error.fault) == Fault.BUS
        assert ctx.get(error.response) == response
        kinds = [address for address in bench.axi.addresses if address[0] == kind]
        if kind == "write":
            assert ctx.get(error.unit) == kinds[number][1] // 32
            assert [*READS, *WRITES][ctx.get(error.port)] in WRITES
        else:
            beats = [address + bench.bytes * beat for _, address, count in kinds for beat in range(count)]
            assert ctx.get(error.unit) == beats[number] // 32
            assert [*READS, *WRITES][ctx.get(error.port)] in READS

    bench.run(main, *processes)
    assert len(left) <= 2


@pytest.mark.parametrize("clock", [3, 17, 40, 41, 90, 200])
def test_drained_means_that_nothing_is_outstanding(clock):
    bench = HubBench(seed=seeded(), latency=20)
    processes = traffic(bench, 30)

    async def main(ctx):
        for _ in range(clock):
            await ctx.tick()
        assert not ctx.get(bench.dut.drained)
        ctx.set(bench.dut.drain, 1)
        await until(ctx, bench.dut.drained)
        assert bench.axi.quiet
        before = len(bench.axi.addresses)
        for _ in range(100):
            assert ctx.get(bench.dut.drained)
            await ctx.tick()
        assert len(bench.axi.addresses) == before
        # As long as nobody resets it, it goes on where it was.
        ctx.set(bench.dut.drain, 0)
        await ctx.tick().repeat(100)
        assert len(bench.axi.addresses) > before

    bench.run(main, *processes)


def test_a_single_port():
    dut = Hub(64, ["alpha"], [])
    memory = AxiMemory(dut.memory, bytearray(range(256)))
    got = []

    async def main(ctx):
        ctx.set(dut.lookup.limit, 8)
        ctx.set(dut.alpha.request.payload, {"region": 3, "address": 12, "bytes": 9})
        ctx.set(dut.alpha.request.valid, 1)
        ctx.set(dut.alpha.data.ready, 1)
        await until(ctx, dut.alpha.request.ready)
        ctx.set(dut.alpha.request.valid, 0)
        for _ in range(40):
            _, _, valid, word = await ctx.tick().sample(dut.alpha.data.valid, dut.alpha.data.payload)
            if valid:
                got.append(word.to_bytes(8, "little"))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(memory.run, background=True)
    simulator.add_testbench(main)
    simulator.run()
    assert got == [bytes(range(8, 16)), bytes(range(16, 24))]


def test_bandwidth():
    """Ports together take nearly a word a clock, a single one half of one."""
    for names, least in [(READS, 0.95), (READS[:1], 0.47)]:
        bench = HubBench(seed=seeded(), hesitates=0, latency=20, size=1 << 16)
        bench.regions[0] = Region(0, 2048)
        spans = {name: [(0, 4096 * (number + 1), 4096)] if name in names else [] for number, name in enumerate(READS)}

        async def main(ctx, bench=bench, names=names):
            await ctx.tick().repeat(60)
            before = bench.axi.beats_read
            await ctx.tick().repeat(400)
            bench.rate = (bench.axi.beats_read - before) / 400

        bench.run(main, *bench.reading(spans))
        assert bench.rate >= least


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((64, ["a"], ["b"], 12), ValueError, "depth must be a power of two, at least 32, not 12"),
        ((64, ["a"], ["b"], 16), ValueError, "depth must be a power of two, at least 32, not 16"),
        ((64, ["a"], ["b"], 32, 38), ValueError, "address_width must be in 12..37, not 38"),
        ((64, ["a"], ["b"], 32, 32, 20), ValueError, "chip_bytes must be a multiple of 8, at least 16, not 20"),
        ((64, ["a"], ["b"], 32, 32, 8), ValueError, "chip_bytes must be a multiple of 8, at least 16, not 8"),
    ],
)
def test_rejects(arguments, error, message):
    def make(width, reads, writes, depth=32, address_width=32, chip_bytes=0):
        return Hub(width, reads, writes, depth=depth, address_width=address_width, chip_bytes=chip_bytes)

    found = refusal(make, *arguments)
    assert type(found) is error
    assert str(found) == message


@pytest.mark.synth
@pytest.mark.parametrize("names, chip", [((("a",), ()), 0), ((READS, WRITES), 0), ((READS, WRITES), 1024)])
def test_verilog_is_clean(names, chip):
    assert not complaints(Hub(64, *names, chip_bytes=chip))
