"""Operations of the emit engine one after the other, of all kinds, against the interpreter on the same memory."""

import collections
import dataclasses
import functools
import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import Accelerator, MachineError, Region
from golden.machine.command import UNIT_BYTES, Align, Coefficients, Combine, Emit, Operand, Rows
from golden.parameters import preset
from hw.near_memory.closed_loop.emit_engine import EmitEngine
from sim import engine
from tests.hw.near_memory.closed_loop.parts import complaints, write
from tests.hw.near_memory.closed_loop.test_combine import random_combine
from tests.hw.near_memory.closed_loop.test_x_path import UNITS as STATES
from tests.hw.near_memory.closed_loop.test_x_path import grouped, lines_of, random_emit

pytestmark = pytest.mark.cocotb

HELD, SPOOL, SUMS, FLOORS, RESULT, WEIGHTS, COMBINED = 2048, 3072, 5120, 5200, 5300, 5400, 6144
UNITS = COMBINED + 4096
REGIONS = [Region(0, UNITS) for _ in range(8)]
BOTH = [Region(0, 2 * UNITS) for _ in range(8)]  # of two memories behind each other

MACHINES = {
    "direct": ["link_form=direct"],
    "compressed": ["link_form=compressed", "lanes=6", "near_lanes=3", "state_width=20", "memory_width=64"],
    "no outliers": ["link_form=direct", "outliers=0", "digit_width=2", "memory_width=32", "lanes=8"],
}
BARE = ["link_form=direct", "functions=[]"]


@functools.cache
def component(machine):
    settings = BARE if machine == "bare" else MACHINES[machine]
    return EmitEngine(preset("tiny").with_settings(["norm_buffer=64", "row_buffer=64", *settings]))


def with_slots(p, emit, otherwise):
    """The emission with slots that its lines fit, or `otherwise` if the spool has no room for them."""
    lines = lines_of(emit, p)
    slot = -(-2 * lines["vectors"] * (emit.passes + 1) * image.group_bytes(p) // UNIT_BYTES) + 1
    if (emit.line + lines["lines"]) * slot > SUMS - SPOOL:
        return with_slots(p, otherwise, None)
    return dataclasses.replace(emit, slot=slot)


def operations(r, rng, p):
    """Memory, and operations that need not have anything to do with each other."""
    memory, emit = random_emit(rng, p, normed=r.random() < 0.5, narrow=r.random() < 0.3)
    memory = np.concatenate([memory, rng.integers(0, 256, (COMBINED - STATES) * 32).astype(np.uint8)])
    size, top = image.vector_bytes(p), 2 ** (p.state_width - 1) - 1
    held = rng.integers(-top, top + 1, (900 * 32 // size, p.lanes)) >> rng.integers(
        0, p.state_width, (900 * 32 // size, 1)
    )
    write(memory, HELD, image.pack_vectors(held, p))
    totals = image.Sums(rng.integers(-(2**30), 2**30, 60), rng.integers(0, 2**50, 60), rng.random(60) < 0.1)
    write(memory, SUMS, image.pack_sums(totals))
    sends = dataclasses.replace(
        emit,
        held=Operand(4, HELD),
        spool=Operand(5, SPOOL),
        lengths=Operand(6, RESULT + 40),
        slot=0,
        sent=True,
        link=r.random() < 0.3,
        start=r.random() < 0.3,
        passes=r.randrange(4),
    )
    sends = with_slots(p, grouped(rng, sends), sends)
    sets = Coefficients(
        sums1=Operand(0, SUMS),
        sums2=Operand(1, SUMS + 4),
        floors=Operand(2, FLOORS),
        result=Operand(3, RESULT),
        sets=r.randint(1, 4),
        size=r.randint(1, 4),
        records1=r.randrange(10),
        shift=r.randint(-8, 8),
        count=r.randrange(1, 1 << 16),
    )
    aligned = Align(
        held=Operand(4, HELD), result=Operand(7, WEIGHTS), step=3, outputs=r.randint(1, 5), groups=r.randint(1, 3)
    )
    rows = Rows(state=emit.state, result=Operand(3, RESULT + 20), rows=2, channels=r.randint(p.lanes, 12), root=70000)
    other, combine = random_combine(rng, p, narrow=r.random() < 0.3, form=r.choice(("sum", "product")))
    memory = np.concatenate([memory, other])
    kinds = [
        sends,
        combine := further(combine, COMBINED),
        combine,
        dataclasses.replace(sends, sent=emit.sent),
        sets,
        aligned,
        rows,
    ]
    return memory, [r.choice(kinds) for _ in range(6)]


def further(operation, units):
    """The same operation on a memory that begins elsewhere."""
    operands = {name: value for name, value in vars(operation).items() if isinstance(value, Operand)}
    return dataclasses.replace(operation, **{name: value.moved(units) for name, value in operands.items()})


def mixed(r, rng, p):
    """Two such memories behind each other, and their operations in any order: each part meets what others left."""
    (memory, first), (behind, second) = operations(r, rng, p), operations(r, rng, p)
    wanted = first + [further(one, UNITS) for one in second]
    r.shuffle(wanted)
    return np.concatenate([memory, behind]), wanted


def interpreter(p, memory, regions=REGIONS):
    golden = Accelerator(p, memory.size, 0)
    golden.memory[:], golden.regions = memory, regions
    golden.chip = golden.memory
    return golden


def carry_out(golden, operation):
    kinds = {Emit: golden._emit, Coefficients: golden._coefficients, Align: golden._align, Rows: golden._rows}
    (kinds | {Combine: golden._combine})[type(operation)](operation)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_operations(machine, mode, fresh_seed):
    """Memory, status, bytes of each flow, vectors and groups that are counted."""
    r, rng, dut = random.Random(fresh_seed), np.random.default_rng(fresh_seed), component(machine)
    p = dut.parameters
    for _ in range(4):
        memory, wanted = mixed(r, rng, p)
        golden = interpreter(p, memory, BOTH)
        for operation in wanted:
            carry_out(golden, operation)
        found = engine.run(dut, memory, BOTH, wanted, mode=mode, seed=r.getrandbits(30), latency=r.randrange(1, 40))
        assert found.error is None, found.sentence
        assert np.array_equal(found.memory, golden.memory)
        assert {name: bool(found.status[name]) for name in golden.status} == golden.status
        # A combine has states at ports of Xhat: the accelerator tells them apart.
        moved, counted = collections.Counter(), collections.Counter()
        for port, size in found.moved.items():
            moved["_".join(port.replace("held", "states").split("_")[-2:])] += size
        for name, size in golden.counters.items():
            if name.startswith(("memory_", "chip_")):
                counted[name.replace("held", "states").partition("_")[2]] += size
        for flow, size in moved.items():
            assert size == counted[flow], flow
        lines = list(golden._up)
        assert len(found.streams["up"]["last"]) == sum(len(line) for line in lines)
        if lines:
            digits = np.concatenate([line.digits for line in lines])
            assert np.array_equal(found.streams["up"]["group"]["digits"], digits)


@pytest.mark.parametrize("change", [{"lines": 0}, {"slot": 0}, {"along": "positions"}])
def test_errors(change):
    """Of either part of an emission; nothing runs after one."""
    dut = component("direct")
    memory, emit = random_emit(np.random.default_rng(3), dut.parameters, normed=False, narrow=False)
    memory = np.concatenate([memory, np.zeros((UNITS - STATES) * 32, np.uint8)])
    emit = dataclasses.replace(emit, **{"sent": True, "slot": 100, "line": 0, "spool": Operand(5, SPOOL), **change})
    with pytest.raises(MachineError) as error:
        interpreter(dut.parameters, memory)._emit(emit)
    found = engine.run(dut, memory, REGIONS, [emit, emit])
    assert found.error == error.value.cause == "field"
    assert not found.clocks


def test_without_functions():
    """What is there runs, what is not ends with the interpreter's cause, before anything is written."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r, rng, dut = random.Random(seed), np.random.default_rng(seed), component("bare")
    for _ in range(8):
        memory, wanted = operations(r, rng, dut.parameters)
        kept, golden, error = [], interpreter(dut.parameters, memory), None
        for operation in wanted:
            kept.append(operation)
            try:
                carry_out(golden, operation)
            except MachineError as found:
                error = found.cause
                break
        found = engine.run(dut, memory, REGIONS, kept, seed=r.getrandbits(30))
        assert (found.error, len(found.clocks)) == (error, len(kept) - (error is not None))
        assert np.array_equal(found.memory, golden.memory)


ABSENT = [
    Align(held=Operand(4, HELD), result=Operand(7, WEIGHTS), outputs=1, groups=1),
    Rows(state=Operand(1), result=Operand(3, RESULT), rows=1, channels=8, root=70000),
    *({"function": function} for function in ("silu", "gelu", "erf_gelu", "softmax")),
    {"along": "positions"},
    {"segment": 1},
    Combine(state=Operand(1, COMBINED), terms=2, form="product", function="silu", vectors=1, channels=4),
]


@pytest.mark.parametrize("operation", ABSENT, ids=range(len(ABSENT)))
def test_what_is_absent_is_refused(operation):
    dut = component("bare")
    memory, emit = random_emit(np.random.default_rng(5), dut.parameters, normed=False, narrow=False)
    memory = np.concatenate([memory, np.zeros((UNITS - STATES) * 32, np.uint8)])
    if isinstance(operation, dict):
        emit = dataclasses.replace(emit, function="relu", segment=0, along="channels", sent=True)
        operation = dataclasses.replace(emit, slot=100, line=0, spool=Operand(5, SPOOL), **operation)
    with pytest.raises(MachineError, match="functions must hold (attention|tables) for .*, not none$") as error:
        carry_out(interpreter(dut.parameters, memory), operation)
    found = engine.run(dut, memory, REGIONS, [operation, operation])
    assert found.error == error.value.cause == "field"
    assert not found.clocks and np.array_equal(found.memory, memory)


@pytest.mark.slow
def test_softmax_over_rows_of_4096_scores(fresh_seed):
    """What attention of 64 x 64 pixels has: rows as long as the law allows, one of them with a poisoned score."""
    rng, channels, rows = np.random.default_rng(fresh_seed), 4096, 3
    dut = EmitEngine(preset("tiny").with_settings(["link_form=direct", f"row_buffer={channels}"]))
    p = dut.parameters
    vectors, size = rows * channels // p.lanes, image.vector_bytes(p)
    places = np.cumsum([0, *[-(-vectors * size // UNIT_BYTES)] * 3, 4])
    states, held, target, records, spool = (int(place) for place in places)
    slot = -(-2 * channels // p.lanes * image.group_bytes(p) // UNIT_BYTES)
    memory = np.zeros((spool + rows * slot) * UNIT_BYTES, np.uint8)
    scores = rng.integers(-(2**14), 2**14, (rows, channels))
    scores[1] >>= 10  # a flat row
    scores[2, int(rng.integers(channels))] = -(2 ** (p.state_width - 1))
    write(memory, states, image.pack_vectors(scores.reshape(-1, p.lanes), p))
    common = {"state": Operand(1, states), "root": 94548, "exponent": -14}  # e^(score 2^-11)
    row = Rows(result=Operand(3, records), rows=rows, channels=channels, **common)
    emit = Emit(
        held=Operand(4, held),
        target=Operand(2, target),
        coefficients=row.result,
        spool=Operand(5, spool),
        slot=slot,
        lines=rows,
        width=1,
        channels=channels,
        sent=True,
        start=True,
        written=True,
        function="softmax",
        passes=1,
        middle=-11,
        result=2 - p.state_width,
        **common,
    )
    regions = [Region(0, memory.size // UNIT_BYTES) for _ in range(8)]
    golden = Accelerator(p, memory.size, 0)
    golden.memory[:], golden.regions = memory, regions
    for operation in (row, emit):
        carry_out(golden, operation)
    found = engine.run(dut, memory, regions, [row, emit], mode="both", seed=fresh_seed % 2**30, latency=20)
    assert found.error is None, found.sentence
    assert np.array_equal(found.memory, golden.memory)
    shares = np.exp(scores[:2] * 2.0**-11)
    shares /= shares.sum(axis=1, keepdims=True)
    x = image.unpack_vectors(found.memory[target * UNIT_BYTES :][: vectors * size].reshape(-1, size), p)
    x = x.reshape(rows, channels) * 2.0**emit.result
    assert np.abs(x[:2] - shares).max() < 2.0**-14
    assert (x[2] == -(2 ** (p.state_width - 1)) * 2.0**emit.result).all()


@pytest.mark.parametrize("machine", ["direct", "compressed", "bare"])
def test_lint(machine):
    assert complaints(component(machine)) == []
