"""x of emissions against the interpreter on the same memory: random operations, errors, speed."""

import dataclasses
import functools
import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError, Region
from golden.machine.command import Emit, Operand, Rows
from golden.machine.work import HUB_CLOCKS, work
from golden.parameters import preset
from golden.units.near_memory_engine import poison_code
from golden.units.norm import Coefficients
from hw.near_memory.closed_loop.x_path import XPath
from sim import engine
from tests.hw.interpreter import interpreter
from tests.hw.near_memory.closed_loop.parts import WithFunctions, complaints, states, vectors, write

pytestmark = pytest.mark.cocotb

UNITS = 2048
STATE, TARGET, SETS, SCALES = 0, 512, 1024, 1280
REGIONS = [Region(0, UNITS)] * 4


@functools.cache
def component(p):
    return WithFunctions(XPath(p))


def machine(*settings):
    return preset("tiny").with_settings(["norm_buffer=64", "row_buffer=64", *settings])


TINY = machine()
WIDE = machine("lanes=6", "near_lanes=3", "state_width=20", "memory_width=64")
ONE = machine("near_lanes=1", "state_width=24", "memory_width=32")


def carry_out(golden, emit):
    """Parts of x that are sent; x in memory."""
    p = golden.parameters
    x, lost = golden._activated(emit)
    x = np.where(lost, poison_code(p), x)
    if emit.written:
        golden._write_x(emit, x)
    rows = (x.T if emit.along == "positions" else x).reshape(-1, emit.segment or row_of(emit))
    parts = np.pad(rows, ((0, 0), (0, -rows.shape[1] % p.lanes))).reshape(-1, p.near_lanes)
    return parts if emit.sent else parts[:0]


def row_of(emit):
    """Elements that are contracted."""
    return emit.lines * emit.width if emit.along == "positions" else emit.channels


def lines_of(emit, p):
    """Lines of the spool, and vectors of each."""
    row, segment = row_of(emit), emit.segment or row_of(emit)
    of = row // segment * -(-segment // p.lanes)
    if emit.along == "positions":
        return {"lines": emit.channels // emit.across, "vectors": emit.across * of}
    return {"lines": emit.lines, "vectors": emit.width * of}


def compare(p, memory, emit, **options):
    found = engine.run(component(p), memory, REGIONS, [emit], **options)
    golden = interpreter(p, memory, REGIONS)
    parts = carry_out(golden, emit)
    assert found.error is None, found.sentence
    assert np.array_equal(found.streams["o"]["values"], parts)
    if emit.sent:
        each = p.lanes // p.near_lanes
        assert np.array_equal(found.streams["o"]["last"], np.arange(len(parts)) % each == each - 1)
        lines = lines_of(emit, p)
        begin = emit.line * lines["vectors"] * image.vector_bytes(p)
        assert found.streams["held"]["address"] == [begin]
        assert found.streams["held"]["records"] == [lines["lines"] * lines["vectors"]] == [len(parts) // each]
    assert np.array_equal(found.memory, golden.memory)
    assert {name: bool(found.status[name]) for name in golden.status} == golden.status
    for port in ("states_read", "tables_read", "states_written"):
        assert found.moved[port] == golden.counters[f"memory_{port}"], port
    return found


def divisors(number):
    return [one for one in range(1, number + 1) if number % one == 0]


def grouped(rng, emit):
    """The emission along positions or along channels, in segments or not."""
    if rng.random() < 0.7:
        across = int(rng.choice(divisors(emit.channels)))
        emit = dataclasses.replace(emit, along="positions", across=across, line=0)
    if rng.random() < 0.5:
        emit = dataclasses.replace(emit, segment=int(rng.choice(divisors(row_of(emit)))))
    return emit


def random_emit(rng, p, *, normed, narrow):
    n, w = p.lanes, p.state_width
    channels = int(rng.integers(1, n) if narrow else rng.integers(n, 30))
    line, lines, width = int(rng.integers(0, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 6))
    written = bool(rng.integers(2))
    if narrow and written:
        line = 0
    memory = rng.integers(0, 256, UNITS * 32).astype(np.uint8)
    write(memory, STATE, vectors(states(rng, ((line + lines) * width, channels), p), p, rng))
    set_channels = int(rng.choice([0, 1, 2, 3, 8, 100]))
    sets = 400
    first = int(rng.integers(0, 20))
    found = Coefficients(
        rng.integers(-(2 ** (w + 6)), 2 ** (w + 6), sets),
        rng.integers(2**16, 2**17, sets),
        rng.integers(-w - 2, 4, sets),
    )
    roots = image.Roots(found, rng.integers(0, 16, sets), rng.integers(0, 2, sets) > 0, rng.random(sets) < 0.05)
    write(memory, SETS, image.pack_coefficients(roots))
    gain, shift = rng.integers(1 - 2**17, 2**17, channels), rng.integers(1 - 2 ** (w + 1), 2 ** (w + 1), channels)
    table = np.concatenate([[rng.integers(12, 20)], np.stack([gain, shift], axis=1).ravel()])
    write(memory, SCALES, image.pack_entries(table))
    middle = int(rng.integers(-20, -8))
    return memory, Emit(
        state=Operand(0, STATE),
        target=Operand(1, TARGET),
        coefficients=Operand(2, SETS),
        scales=Operand(3, SCALES),
        line=line,
        lines=lines,
        width=width,
        channels=channels,
        first=first,
        set_channels=set_channels,
        normed=normed,
        second=bool(rng.integers(2)),
        sent=not written or bool(rng.integers(2)),
        written=written,
        function=str(rng.choice(["identity", "relu", "silu", "gelu", "erf_gelu"])),
        middle=middle,
        result=middle + int(rng.integers(-3, 4)),
    )


@pytest.mark.parametrize("p", [TINY, WIDE, ONE], ids=["tiny", "wide", "one"])
@pytest.mark.parametrize("normed", [False, True])
def test_random_operations(p, normed):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for turn in range(24):
        memory, emit = random_emit(rng, p, normed=normed, narrow=turn % 2 == 1)
        mode = str(rng.choice(["none", "idle", "back-pressure", "both", "reset"]))
        print(turn, mode, emit)
        compare(p, memory, emit, mode=mode, seed=int(rng.integers(1 << 30)), latency=int(rng.integers(1, 40)))


@pytest.mark.parametrize("p", [TINY, WIDE, ONE], ids=["tiny", "wide", "one"])
def test_groups_of_every_kind(p, fresh_seed):
    """Along positions and channels, in segments, with norms, as probabilities, written besides."""
    rng = np.random.default_rng(fresh_seed)
    for turn in range(32):
        if turn % 3 == 2:
            memory, emit = random_softmax(rng, p)
        else:
            memory, emit = random_emit(rng, p, normed=turn % 3 == 1, narrow=rng.random() < 0.3)
        emit = grouped(rng, dataclasses.replace(emit, sent=True))
        mode = str(rng.choice(["none", "idle", "back-pressure", "both", "reset"]))
        print(turn, mode, emit)
        compare(p, memory, emit, mode=mode, seed=int(rng.integers(1 << 30)), latency=int(rng.integers(1, 40)))


def random_softmax(rng, p):
    """Rows of scores with their records, some of them poisoned."""
    channels = int(rng.integers(1, 30))
    line, lines, width = int(rng.integers(0, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 6))
    memory = rng.integers(0, 256, UNITS * 32).astype(np.uint8)
    positions = (line + lines) * width
    # rows of fewer than n scores take whole vectors, too
    write(memory, STATE, vectors(states(rng, (positions, max(channels, p.lanes)), p), p, rng))
    root, exponent = int(rng.integers(2**16, 2**17)), int(rng.choice([-16, -20, -26, -31, 2]))
    golden = interpreter(p, memory, REGIONS)
    rows = Rows(
        state=Operand(0, STATE),
        result=Operand(2, SETS),
        rows=positions,
        channels=channels,
        root=root,
        exponent=exponent,
    )
    golden._rows(rows)
    emit = Emit(
        state=Operand(0, STATE),
        target=Operand(1, TARGET),
        coefficients=Operand(2, SETS),
        line=line,
        lines=lines,
        width=width,
        channels=channels,
        function="softmax",
        written=bool(rng.integers(2)),
        root=root,
        exponent=exponent,
        middle=int(rng.integers(-20, -8)),
        result=2 - p.state_width + int(rng.choice([0, 0, 0, -2, -1, 1, 5])),
    )
    return golden.memory, emit


@pytest.mark.parametrize("p", [TINY, WIDE, ONE], ids=["tiny", "wide", "one"])
def test_random_softmaxes(p, fresh_seed):
    rng = np.random.default_rng(fresh_seed)
    for _ in range(16):
        memory, emit = random_softmax(rng, p)
        mode = str(rng.choice(["none", "idle", "back-pressure", "both", "reset"]))
        compare(p, memory, emit, mode=mode, seed=int(rng.integers(1 << 30)), latency=int(rng.integers(1, 40)))


@pytest.mark.parametrize("change", [{"normed": True}, {"score": 7}, {"largest": 2**20}])
def test_what_is_no_softmax(change):
    """A norm besides; a score above the largest of its row; a largest score that no state holds."""
    rng = np.random.default_rng(16)  # the first row is not poisoned
    memory, emit = random_softmax(rng, TINY)
    emit = dataclasses.replace(emit, line=0, normed="normed" in change)
    record = memory[32 * SETS : 32 * SETS + 4].view("<i4")
    if "score" in change:
        write(memory, STATE, vectors(np.full((1, emit.channels), int(record[0]) + 1), TINY))
    record[:] = change.get("largest", record)
    with pytest.raises(MachineError) as error:
        interpreter(TINY, memory, REGIONS)._emit(emit)
    assert error.value.cause == "field"
    assert engine.run(component(TINY), memory, REGIONS, [emit]).error == "field"


def test_norms_and_softmaxes_one_after_the_other():
    rng = np.random.default_rng(13)
    memory, soft = random_softmax(rng, TINY)
    plain = dataclasses.replace(soft, function="silu", written=False)
    golden = interpreter(TINY, memory, REGIONS)
    operations = [soft, plain, soft]
    parts = [carry_out(golden, emit) for emit in operations]
    found = engine.run(component(TINY), memory, REGIONS, operations, seed=3)
    assert np.array_equal(found.streams["o"]["values"], np.concatenate(parts))
    assert np.array_equal(found.memory, golden.memory)


BROKEN = {
    "lines": ("field", {"lines": 0}),
    "width": ("field", {"width": 0}),
    "channels": ("field", {"channels": 0}),
    "nowhere": ("field", {"written": False}),
    "places": ("field", {"scales": Operand(3, SCALES + 16)}),
    "gain": ("field", {"scales": Operand(3, SCALES + 17)}),
    "shift": ("field", {"scales": Operand(3, SCALES + 18)}),
    "buffer": ("buffer", {"channels": 65}),
    "in a vector": ("field", {"line": 1, "width": 1, "channels": 3}),
    "region": ("region", {"state": Operand(0, UNITS - 1)}),
    "region of sets": ("region", {"coefficients": Operand(2, UNITS)}),
    "region of scales": ("region", {"scales": Operand(3, 2**29 - 1)}),
    "region of x": ("region", {"target": Operand(1, UNITS)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_errors(case):
    """What the interpreter refuses is refused for the same cause, and nothing is written."""
    cause, change = BROKEN[case]
    memory, emit = random_emit(np.random.default_rng(7), TINY, normed=True, narrow=False)
    for unit, entries in ((16, [31]), (17, [12, 2**17, 0]), (18, [12, 0, -(2 ** (TINY.state_width + 1))])):
        write(memory, SCALES + unit, image.pack_entries(entries))
    emit = dataclasses.replace(emit, **{"sent": False, "written": True, "line": 0} | change)
    golden = interpreter(TINY, memory, REGIONS)
    with pytest.raises(MachineError) as error:
        golden._emit(emit)
    assert error.value.cause == cause
    found = engine.run(component(TINY), memory, REGIONS, [emit])
    assert found.error == cause
    assert np.array_equal(found.memory, memory)


@pytest.mark.parametrize(("channels", "segment"), [(8, 4), (24, 8), (12, 12)])
def test_segments_of_whole_groups_change_nothing(channels, segment):
    memory, emit = random_emit(np.random.default_rng(15), TINY, normed=True, narrow=False)
    compare(TINY, memory, dataclasses.replace(emit, channels=channels, segment=segment, sent=True), seed=1)


UNEVEN = {
    "segment": ("field", {"segment": 8}),
    "segment of positions": ("field", {"along": "positions", "across": 4, "segment": 4}),
    "across": ("field", {"along": "positions", "across": 5}),
    "no across": ("field", {"along": "positions"}),
    "line": ("field", {"along": "positions", "across": 4, "line": 1}),
    "positions": ("buffer", {"along": "positions", "across": 4, "width": 22}),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_groups_that_cannot_be(case):
    cause, change = UNEVEN[case]
    memory, emit = random_emit(np.random.default_rng(8), TINY, normed=False, narrow=False)
    emit = dataclasses.replace(emit, **{"sent": True, "line": 0, "lines": 3, "width": 3, "channels": 12} | change)
    with pytest.raises(MachineError) as error:
        interpreter(TINY, memory, REGIONS)._emit(emit)
    assert error.value.cause == cause
    assert engine.run(component(TINY), memory, REGIONS, [emit]).error == cause


@pytest.mark.parametrize(("normed", "channels"), [(False, 64), (True, 64), (False, 3)])
def test_clocks_are_those_predicted(normed, channels):
    """With a memory of 40 clocks: a part a clock, an element a clock of a narrow tensor, and little else."""
    p = preset("edge")
    rng = np.random.default_rng(9)
    memory, emit = random_emit(rng, p, normed=normed, narrow=False)
    emit = dataclasses.replace(emit, lines=8, width=8, channels=channels, line=0, sent=True, written=False, first=0)
    write(memory, SETS, rng.integers(0, 256, 512).astype(np.uint8))
    table = np.concatenate([[14], rng.integers(-1000, 1000, 128)])
    write(memory, SCALES, image.pack_entries(table))
    emit = dataclasses.replace(emit, set_channels=8)
    found = compare(p, memory, emit, mode="none", latency=40)
    predicted = work(emit, p).clocks - 2 * HUB_CLOCKS
    print(found.clocks, predicted)
    assert abs(found.clocks[0] - predicted) < 0.02 * predicted


def test_operations_one_after_the_other():
    """Nothing of one operation is left in the next."""
    rng, p = np.random.default_rng(10), TINY
    memory, first = random_emit(rng, p, normed=True, narrow=False)
    rest = [dataclasses.replace(first, normed=False, channels=3, line=0, written=True, sent=True)]
    rest += [dataclasses.replace(first, set_channels=0, channels=4, written=True), first]
    golden = interpreter(p, memory, REGIONS)
    parts = [carry_out(golden, emit) for emit in (first, *rest)]
    found = engine.run(component(p), memory, REGIONS, [first, *rest], seed=3)
    assert np.array_equal(found.streams["o"]["values"], np.concatenate(parts))
    assert np.array_equal(found.memory, golden.memory)


def run_all(p, memory, emits, **options):
    """Emissions in one run, each with what the one before it left in the component."""
    golden = interpreter(p, memory, REGIONS)
    parts = [carry_out(golden, emit) for emit in emits]
    found = engine.run(component(p), memory, REGIONS, emits, **options)
    assert found.error is None, found.sentence
    assert np.array_equal(found.streams["o"]["values"], np.concatenate(parts))
    assert np.array_equal(found.memory, golden.memory)


@pytest.mark.parametrize("p", [TINY, WIDE, ONE], ids=["tiny", "wide", "one"])
def test_groups_of_every_kind_one_after_the_other(p, fresh_seed):
    rng = np.random.default_rng(fresh_seed)
    memory, first = random_emit(rng, p, normed=True, narrow=False)
    emits = []
    for _ in range(10):
        lines, width, channels = (int(rng.integers(1, most)) for most in (9, 9, first.channels))
        plain = dataclasses.replace(
            first, line=0, lines=lines, width=width, channels=channels, written=False, sent=True
        )
        emits.append(grouped(rng, dataclasses.replace(plain, normed=bool(rng.integers(2)))))
        print(emits[-1])
    run_all(p, memory, emits, mode=str(rng.choice(["none", "both"])), seed=fresh_seed)


def test_a_block_of_many_positions_behind_an_odd_number_of_short_ones():
    """Which half of its memory the last short one lay in does not matter."""
    memory, emit = random_emit(np.random.default_rng(17), TINY, normed=False, narrow=False)
    emit = dataclasses.replace(emit, sent=True, written=False, along="positions", line=0, across=1, channels=4)
    short, long = (dataclasses.replace(emit, lines=lines, width=5) for lines in (1, 10))
    run_all(TINY, memory, [short, long, short, short, long])


def test_padding_behind_the_last_segment_does_not_stay():
    """Five segments of 15 positions leave 5 elements of padding, which come when the last group has gone."""
    p = preset("edge")
    memory, emit = random_emit(np.random.default_rng(18), p, normed=False, narrow=False)
    emit = dataclasses.replace(emit, sent=True, written=False, along="positions", line=0, across=1, channels=16)
    cut = dataclasses.replace(emit, lines=3, width=25, segment=15)
    run_all(p, memory, [cut, cut, dataclasses.replace(emit, lines=3, width=10)], mode="none")


def test_lint():
    for p in (TINY, WIDE, preset("edge")):
        assert complaints(XPath(p)) == []
