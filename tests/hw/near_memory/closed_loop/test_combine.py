"""Combines against the interpreter on the same memory: random operations, errors, speed."""

import dataclasses
import functools
import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError, Region
from golden.machine.command import Combine as Command
from golden.machine.command import Operand
from golden.machine.work import HUB_CLOCKS, work
from golden.parameters import preset
from hw.near_memory.closed_loop.combine import Combine
from sim import engine
from tests.hw.interpreter import interpreter
from tests.hw.near_memory.closed_loop.parts import WithFunctions, complaints, states, vectors, write

pytestmark = pytest.mark.cocotb

UNITS = 4096
SOURCES, STATE, COPY, TABLES, LIMITS, SUMS = (0, 256, 512), 768, 1024, (1280, 1792, 2304), 2816, 2900
FLOWS = ("states_read", "states_written", "tables_read", "sums_read", "sums_written")
REGIONS = [Region(0, UNITS)] * 4


@functools.cache
def component(p):
    return WithFunctions(Combine(p))


def machine(*settings):
    return preset("tiny").with_settings(["norm_buffer=64", *settings])


TINY = machine()
WIDE = machine("lanes=6", "near_lanes=3", "state_width=20", "memory_width=64")
ONE = machine("near_lanes=1", "state_width=24", "memory_width=32")


def compare(p, memory, *combines, **options):
    found = engine.run(component(p), memory, REGIONS, combines, **options)
    golden = interpreter(p, memory, REGIONS)
    for combine in combines:
        golden._combine(combine)
    assert found.error is None, found.sentence
    assert np.array_equal(found.memory, golden.memory)
    assert {name: bool(found.status[name]) for name in golden.status} == golden.status
    for flow in FLOWS:
        moved = sum(size for port, size in found.moved.items() if port.endswith(flow))
        assert moved == golden.counters[f"memory_{flow}"], flow
    return found


def random_combine(rng, p, *, narrow, form="sum"):
    n, w = p.lanes, p.state_width
    channels = int(rng.integers(1, n) if narrow else rng.integers(n, 5 * n))
    positions = int(rng.integers(1, 12))
    memory = rng.integers(0, 256, UNITS * 32).astype(np.uint8)
    for source in SOURCES:
        write(memory, source, vectors(states(rng, (positions, channels), p), p, rng))
    count = -(-channels // n) * positions if not narrow else -(-channels * positions // n)
    terms = 2 if form == "product" else int(rng.integers(1, 4))
    kinds = [str(kind) for kind in rng.choice(["one", "one", "channel", "position", "element"], 3)]
    places = int(rng.integers(0, 29)) + rng.integers(0, 17, 3)
    for at, h in zip(TABLES, places, strict=True):
        table = rng.integers(1 - 2**17, 2**17, 1 + count * n) >> rng.integers(0, 12)
        table[0] = rng.integers(10, 30) if form == "product" else h
        write(memory, at, image.pack_entries(table))
    low, high = np.sort(rng.integers(1 - 2 ** (w - 1), 2 ** (w - 1), 2))
    write(memory, LIMITS, image.pack_entries([low, high]))
    middle = int(rng.integers(-16, -6))
    return memory, Command(
        state=Operand(1, STATE),
        copy=Operand(1, COPY),
        **{f"source{i + 1}": Operand(0, at) for i, at in enumerate(SOURCES)},
        **{f"factor{i + 1}": Operand(2, at) for i, at in enumerate(TABLES)},
        **{f"kind{i + 1}": kind for i, kind in enumerate(kinds)},
        limits=Operand(2, LIMITS),
        sums=Operand(3, SUMS),
        vectors=count,
        terms=terms,
        form=form,
        function=str(rng.choice(["identity", "relu", "silu", "gelu", "erf_gelu"])),
        clamped=bool(rng.integers(2)),
        copied=bool(rng.integers(2)),
        summed=str(rng.choice(["no", "channel", "position"])),
        fresh=bool(rng.integers(2)),
        channels=channels,
        permuted=p.lanes % 2 == 0 and channels % 2 == 0 and bool(rng.integers(2)),
        middle=middle,
        result=middle + int(rng.integers(-2, 3)),
    )


@pytest.mark.parametrize("p", [TINY, WIDE, ONE], ids=["tiny", "wide", "one"])
@pytest.mark.parametrize("form", ["sum", "product"])
def test_random_operations(p, form):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for turn in range(40 if form == "sum" else 12):
        memory, combine = random_combine(rng, p, narrow=turn % 3 == 2, form=form)
        mode = str(rng.choice(["none", "idle", "back-pressure", "both", "reset"]))
        print(turn, mode, combine)
        compare(p, memory, combine, mode=mode, seed=int(rng.integers(1 << 30)), latency=int(rng.integers(1, 40)))


BROKEN = {
    "no terms": ("field", {"terms": 0}),
    "vectors": ("field", {"vectors": 0}),
    "channels": ("field", {"channels": 0}),
    "product of three": ("field", {"form": "product", "terms": 3}),
    "softmax": ("field", {"function": "softmax"}),
    "odd pairs": ("field", {"permuted": True, "channels": 5, "vectors": 2}),
    "places": ("field", {"factor1": Operand(2, TABLES[0] + 100)}),
    "places below 0": ("field", {"factor2": Operand(2, TABLES[0] + 101)}),
    "spread": ("field", {"factor3": Operand(2, TABLES[0] + 102)}),
    "factor": ("field", {"factor3": Operand(2, TABLES[0] + 103)}),
    "factor of a channel": ("field", {"factor3": Operand(2, TABLES[0] + 104), "kind3": "channel"}),
    "places of a product": ("field", {"factor1": Operand(2, TABLES[0] + 105), "form": "product", "terms": 2}),
    "limits": ("field", {"limits": Operand(2, LIMITS + 1), "clamped": True}),
    "limit": ("field", {"limits": Operand(2, LIMITS + 2), "clamped": True}),
    "buffer": ("buffer", {"kind2": "channel", "channels": 65, "vectors": 17}),
    "region of a source": ("region", {"source3": Operand(0, UNITS - 1)}),
    "region of factors": ("region", {"factor2": Operand(2, UNITS)}),
    "region of the result": ("region", {"state": Operand(1, UNITS)}),
    "region of the copy": ("region", {"copy": Operand(1, UNITS), "copied": True}),
    "region of limits": ("region", {"limits": Operand(2, UNITS), "clamped": True}),
}


def sound(rng):
    """An operation of three terms, none of which has a table."""
    memory, combine = random_combine(rng, TINY, narrow=False)
    change = {"terms": 3, "clamped": False, "copied": False, "permuted": False, "summed": "no"}
    for at, entries in [(100, [45]), (101, [-1]), (102, [44, 1]), (103, [0, 2**17])]:
        write(memory, TABLES[0] + at, image.pack_entries(entries))
    for at in TABLES:
        write(memory, at, image.pack_entries([10, 5, 1 - 2**17]))
    write(memory, TABLES[0] + 104, image.pack_entries([12, -(2**17), *[0] * 100]))
    write(memory, TABLES[0] + 105, image.pack_entries([64]))
    write(memory, LIMITS + 1, image.pack_entries([5, 4]))
    write(memory, LIMITS + 2, image.pack_entries([0, 2 ** (TINY.state_width - 1)]))
    return memory, dataclasses.replace(combine, kind1="one", kind2="one", kind3="one", **change)


@pytest.mark.parametrize("case", BROKEN)
def test_errors(case):
    """What the interpreter refuses is refused for the same cause, and nothing is written."""
    cause, change = BROKEN[case]
    memory, combine = sound(np.random.default_rng(11))
    combine = dataclasses.replace(combine, **change)
    with pytest.raises(MachineError) as error:
        interpreter(TINY, memory, REGIONS)._combine(combine)
    assert error.value.cause == cause
    found = engine.run(component(TINY), memory, REGIONS, [combine])
    assert found.error == cause
    if case not in ("region of a source", "region of the copy"):  # which are found when results are on their way
        assert np.array_equal(found.memory, memory)


@pytest.mark.parametrize("summed", ["no", "position", "channel"])
@pytest.mark.parametrize("table", [False, True])
def test_clocks_are_those_predicted(summed, table):
    """A gate and a residual, with a memory of 40 clocks: a part a clock, and little else."""
    p = preset("edge")
    rng = np.random.default_rng(13)
    memory = rng.integers(0, 256, 3 * UNITS * 32).astype(np.uint8)
    at = {"source1": 0, "source2": 600, "state": 1200, "factor1": 2000, "factor2": 2001, "sums": 2100}
    for source in (0, 600):
        write(memory, source, vectors(states(rng, (64, 64), p), p))
    write(memory, 2000, image.pack_entries([14, 2**14]))
    write(memory, 2001, image.pack_entries([16, *rng.integers(-(2**16), 2**16, 64)]))
    combine = Command(
        **{name: Operand(0, unit) for name, unit in at.items()},
        vectors=256,
        terms=2,
        kind2="channel" if table else "one",
        channels=64,
        summed=summed,
    )
    found = compare(p, memory, combine, mode="none", latency=40)
    predicted = work(combine, p).clocks - HUB_CLOCKS
    print(found.clocks, predicted)
    assert abs(found.clocks[0] - predicted) < 0.02 * predicted


@pytest.mark.parametrize(
    ("kinds", "channels"), [(("element", "element"), 64), (("channel", "element"), 64), (("channel", "position"), 8)]
)
def test_clocks_of_two_tables(kinds, channels):
    """Rotary is one of these."""
    p = preset("edge")
    rng = np.random.default_rng(15)
    at = {"source1": 0, "source2": 600, "state": 1200, "factor1": 2000, "factor2": 3000}
    memory = rng.integers(0, 256, UNITS * 32).astype(np.uint8)
    for name in ("factor1", "factor2"):
        write(memory, at[name], image.pack_entries([14, *rng.integers(-(2**16), 2**16, 4096)]))
    operands = {name: Operand(0, unit) for name, unit in at.items()}
    combine = Command(**operands, vectors=64, terms=2, kind1=kinds[0], kind2=kinds[1], channels=channels, permuted=True)
    found = compare(p, memory, combine, mode="none", latency=40)
    predicted = work(combine, p).clocks
    print(found.clocks, predicted)
    assert abs(found.clocks[0] - predicted) < 0.1 * predicted


def test_operations_one_after_the_other():
    """Nothing of one operation is left in the next; a result is written over its source."""
    rng, p = np.random.default_rng(14), TINY
    memory, first = random_combine(rng, p, narrow=False)
    for at in TABLES:
        write(memory, at, image.pack_entries([12]))
    write(memory, TABLES[0], image.pack_entries([12, 3]))
    again = dataclasses.replace(
        first, terms=1, kind1="one", kind2="one", kind3="one", summed="channel", channels=3, vectors=5, clamped=False
    )
    over = dataclasses.replace(first, state=first.source1, copied=False, kind1="element", kind2="one", kind3="one")
    compare(p, memory, first, again, over, first, seed=5)


def test_lint():
    for p in (TINY, WIDE, preset("edge")):
        assert complaints(Combine(p)) == []
