"""Records against Python's integers: any width, any place, any number, while both sides hesitate."""

import random
import re

import pytest
from amaranth.sim import Simulator

from hw.stream.records import RecordReader, RecordWriter
from tests.hw.lint import complaints
from tests.hw.streams import PATTERNS, refusal

pytestmark = pytest.mark.unit

KINDS = {
    "state of tiny": (18, 4),
    "state of edge": (2 * 18, 8),
    "state of ulx3s": (8 * 18, 4),
    "one element of 17 bits": (17, 5),
    "parts near a power of two": (63, 4),
    "sums": (128, 1),
    "entries": (32, 1),
    "weights of tiny": (9 + 4 * 12, 1),
    "weights of edge": (9 + 16 * 14, 1),
    "wide items with padding between": (190, 3),
    "bits": (1, 12),
}
WIDTHS = [32, 64, 128, 256]
CASES = [(name, width) for name in KINDS for width in WIDTHS]
SEEDS = random.Random(20261128)


def record_bytes(bits, per_record):
    return -(-bits * per_record // 8)


def packed(items, bits, per_record):
    """Bytes of records."""
    size = record_bytes(bits, per_record)
    text = b""
    for first in range(0, len(items), per_record):
        record = sum(item << bits * number for number, item in enumerate(items[first : first + per_record]))
        text += record.to_bytes(size, "little")
    return text


def spans(draw, bits, per_record, count=6):
    """Random spans of records in one region, apart from each other, and their items."""
    size, at, found = record_bytes(bits, per_record), 0, []
    for _ in range(count):
        first = draw.randrange(4)
        address = -(-at // 32) * 32 + first * size
        records = draw.choice([1, 1, 2, 3, draw.randrange(1, 20)])
        at = address + records * size
        found.append((address, records, [draw.getrandbits(bits) for _ in range(records * per_record)]))
    return found, at


def words_of(address, count, width):
    """Numbers of the words that hold a span."""
    size = width // 8
    return range(address // size, (address + count - 1) // size + 1)


class Bench:
    """Processes around a reader or a writer; `hesitates` draws how often each side waits."""

    def __init__(self, dut, pattern, seed):
        self.dut, self.draw = dut, random.Random(seed)
        self.idle = 0.5 if pattern in ("idle", "both") else 0
        self.pressure = 0.5 if pattern in ("back_pressure", "both") else 0

    async def send(self, ctx, stream, values, chance):
        """Offer payloads that stay until they are taken."""
        for value in values:
            while self.draw.random() < chance:
                await ctx.tick()
            ctx.set(stream.payload, value)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    async def collect(self, ctx, stream, chance, sink, stop):
        """Take payloads until `stop`, each with the number of its clock; what waits must stay as it is."""
        held, clock = None, 0
        while not stop():
            ready = self.draw.random() >= chance
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            clock += 1
            assert clock < 50_000, "hangs"
            assert held is None or (valid and payload == held), "a waiting payload changed"
            held = payload if valid and not ready else None
            if valid and ready:
                sink.append((clock, payload))

    def run(self, *processes):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        for process in processes[:-1]:
            simulator.add_testbench(process, background=True)
        simulator.add_testbench(processes[-1])
        simulator.run()


def read(width, bits, per_record, wanted, memory, pattern="none", seed=1, **moved):
    """Items that a reader delivers, and the clocks in which they came."""
    dut = RecordReader(width, bits, per_record, **moved)
    bench, asked, items = Bench(dut, pattern, seed), [], []
    total = sum(len(values) for _, _, values in wanted)

    async def ask(ctx):
        requests = [{"region": 5, "address": address, "records": records} for address, records, _ in wanted]
        await bench.send(ctx, dut.i, requests, bench.idle)

    async def requests(ctx):
        await bench.collect(ctx, dut.port.request, bench.pressure, asked, lambda: False)

    async def serve(ctx):
        served = 0
        while True:
            if served == len(asked):
                await ctx.tick()
                continue
            _, request = asked[served]
            assert request.region == 5
            words = [
                int.from_bytes(memory[word * width // 8 : (word + 1) * width // 8], "little")
                for word in words_of(request.address, request.bytes, width)
            ]
            served += 1
            await bench.send(ctx, dut.port.data, words, bench.idle)

    async def take(ctx):
        await bench.collect(ctx, dut.o, bench.pressure, items, lambda: len(items) == total)
        ctx.set(dut.o.ready, 1)
        for _ in range(30):
            *_, valid, data = await ctx.tick().sample(dut.o.valid, dut.port.data.ready & dut.port.data.valid)
            assert not valid and not data, "more than was asked for"

    bench.run(ask, requests, serve, take)
    assert [(request.address, request.bytes) for _, request in asked] == [
        (address, records * record_bytes(bits, per_record)) for address, records, _ in wanted
    ]
    return [item for _, item in items], [clock for clock, _ in items]


@pytest.mark.parametrize("name, width", CASES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_reads_what_memory_holds(name, width, pattern):
    seed = SEEDS.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    wanted, size = spans(draw, *KINDS[name])
    memory = bytearray(draw.randbytes(size + 64))
    for address, _, items in wanted:
        text = packed(items, *KINDS[name])
        memory[address : address + len(text)] = text
    items, _ = read(width, *KINDS[name], wanted, memory, pattern, seed)
    assert items == [item for _, _, values in wanted for item in values]


def write(width, bits, per_record, wanted, memory, pattern="none", seed=1, **moved):
    """Memory after the spans have been written into it; returns the clocks in which items were taken."""
    dut = RecordWriter(width, bits, per_record, **moved)
    bench, asked, words, taken = Bench(dut, pattern, seed), [], [], []
    size = width // 8

    async def ask(ctx):
        requests = [{"region": 2, "address": address, "records": records} for address, records, _ in wanted]
        await bench.send(ctx, dut.i, requests, bench.idle)

    async def put(ctx):
        await bench.send(ctx, dut.items, [item for _, _, values in wanted for item in values], bench.idle)

    async def watch(ctx):
        clock = 0
        async for _, _, moves in ctx.tick().sample(dut.items.valid & dut.items.ready):
            clock += 1
            if moves:
                taken.append(clock)

    async def requests(ctx):
        await bench.collect(ctx, dut.port.request, bench.pressure, asked, lambda: False)

    async def early(ctx):
        """No word without a request."""
        async for _, _, valid, request in ctx.tick().sample(dut.port.data.valid, dut.port.request.valid):
            needed = sum(len(words_of(span.address, span.bytes, width)) for _, span in asked)
            assert not valid or request or len(words) < needed

    async def take(ctx):
        counts = [
            len(words_of(address, records * record_bytes(bits, per_record), width)) for address, records, _ in wanted
        ]
        ctx.set(dut.port.idle, 1)
        assert not ctx.get(dut.idle) or not ctx.get(dut.i.valid)
        await bench.collect(ctx, dut.port.data, bench.pressure, words, lambda: len(words) == sum(counts))
        ctx.set(dut.port.data.ready, 1)
        ctx.set(dut.port.idle, 0)
        for _ in range(30):
            *_, valid, idle = await ctx.tick().sample(dut.port.data.valid, dut.idle)
            assert not valid and not idle
        ctx.set(dut.port.idle, 1)
        assert ctx.get(dut.idle)

    bench.run(ask, put, watch, requests, early, take)
    assert [(request.region, request.address, request.bytes) for _, request in asked] == [
        (2, address, records * record_bytes(bits, per_record)) for address, records, _ in wanted
    ]
    places = [word for _, span in asked for word in words_of(span.address, span.bytes, width)]
    for place, (_, word) in zip(places, words, strict=True):
        for byte in range(size):
            if word.strobe >> byte & 1:
                memory[place * size + byte] = word.data >> 8 * byte & 255
    return taken


@pytest.mark.parametrize("name, width", CASES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_writes_those_bytes_and_no_other(name, width, pattern):
    seed = SEEDS.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    wanted, size = spans(draw, *KINDS[name])
    before = draw.randbytes(-(-size // 64) * 64 + 64)
    expected, memory = bytearray(before), bytearray(before)
    for address, _, items in wanted:
        text = packed(items, *KINDS[name])
        expected[address : address + len(text)] = text
    write(width, *KINDS[name], wanted, memory, pattern, seed)
    assert memory == expected


NARROW = [("state of tiny", 64, 32), ("weights of edge", 128, 64), ("wide items with padding between", 256, 32)]


@pytest.mark.parametrize("name, width, chunk", NARROW)
def test_chunks_of_another_size(name, width, chunk):
    seed = SEEDS.randrange(1 << 32)
    print("seed", seed)
    wanted, size = spans(random.Random(seed), *KINDS[name])
    memory = bytearray(-(-size // 64) * 64 + 64)
    write(width, *KINDS[name], wanted, memory, "both", seed, chunk=chunk)
    items, _ = read(width, *KINDS[name], wanted, memory, "both", seed, chunk=chunk)
    assert items == [item for _, _, values in wanted for item in values]


@pytest.mark.parametrize(
    "name, width, clocks", [("weights of edge", 128, 8), ("sums", 128, 2), ("weights of tiny", 64, 3)]
)
def test_an_item_takes_no_more_clocks_than_there_are(name, width, clocks):
    bits, per_record = KINDS[name]
    draw = random.Random(5)
    wanted = [(96, 20, [draw.getrandbits(bits) for _ in range(20)])]
    memory = bytearray(21 * record_bytes(bits, per_record) + 128)
    taken = write(width, bits, per_record, wanted, memory, clocks=clocks)
    assert taken[-1] - taken[2] <= 17 * clocks
    items, came = read(width, bits, per_record, wanted, memory, clocks=clocks)
    assert items == wanted[0][2]
    assert 19 < came[-1] - came[0] <= 19 * clocks


@pytest.mark.parametrize("name, width", [case for case in CASES if KINDS[case[0]][0] <= case[1] - 7])
def test_an_item_every_clock(name, width):
    bits, per_record = KINDS[name]
    draw = random.Random(3)
    size = record_bytes(bits, per_record)
    wanted = [(32 * 5 + 3 * size, 40, [draw.getrandbits(bits) for _ in range(40 * per_record)])]
    memory = bytearray(43 * size + 32 * 8)
    taken = write(width, bits, per_record, wanted, memory)
    # Two may come before the span does.
    assert taken[-1] - taken[2] == 40 * per_record - 3
    items, came = read(width, bits, per_record, wanted, memory)
    assert items == wanted[0][2]
    assert came[-1] - came[0] == 40 * per_record - 1


@pytest.mark.parametrize("kind", [RecordReader, RecordWriter])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((48, 8), ValueError, "width must be a power of two, at least 8, not 48"),
        ((None, 8), TypeError, "width must be an integer, not None"),
        ((64, 0), ValueError, "bits must be at least 1, not 0"),
        ((64, "8"), TypeError, "bits must be an integer, not '8'"),
        ((64, 8, 0), ValueError, "per_record must be at least 1, not 0"),
        ((64, 8, 1, None, 0), ValueError, "clocks must be at least 1, not 0"),
        ((64, 8, 1, None, "2"), TypeError, "clocks must be an integer, not '2'"),
        ((64, 64, 32), ValueError, "bits * per_record must be at most 255 bytes, not 256"),
        ((64, 8, 1, 24), ValueError, "chunk must be a power of two from 8 to width = 64, not 24"),
        ((64, 8, 1, 128), ValueError, "chunk must be a power of two from 8 to width = 64, not 128"),
        ((64, 8, 1, 8.0), TypeError, "chunk must be an integer, not 8.0"),
    ],
)
def test_rejects(kind, arguments, error, message):
    def make(width, bits, per_record=1, chunk=None, clocks=1):
        return kind(width, bits, per_record, chunk=chunk, clocks=clocks)

    found = refusal(make, *arguments)
    assert type(found) is error
    assert re.fullmatch(re.escape(message), str(found))


@pytest.mark.synth
@pytest.mark.parametrize("kind", [RecordReader, RecordWriter])
@pytest.mark.parametrize(
    "name, width", [("state of edge", 128), ("sums", 128), ("weights of edge", 128), ("entries", 32), ("sums", 32)]
)
def test_verilog_is_clean(kind, name, width):
    assert not complaints(kind(width, *KINDS[name]))
