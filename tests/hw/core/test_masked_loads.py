"""The load engine of a machine with masks: groups behind their masks, and scales, as the interpreter has them."""

import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError
from golden.machine.command import UNIT_BYTES, LoadGroups, LoadScales, Operand
from golden.parameters import preset
from golden.units.delta_group import DeltaGroups
from hw.core.load_engine import LoadEngine
from sim import engine
from sim.vectors import group_values
from tests.golden.machine.loads import GROUP, placed, random_load
from tests.hw.core.test_load_engine import LENGTHS, REGIONS, UNITS, drawn, numbers, store
from tests.hw.interpreter import interpreter

pytestmark = pytest.mark.cocotb

MASKS = ['dataflows=["closed_loop","sign_mask"]', "rows=2", "group_buffer=512", "norm_buffer=32"]
REPLAYS = ["exponent_policy=layer", "overflow_policy=replay"]
SHAPES = {
    "direct": ["link_form=direct", "lanes=10", "near_lanes=5"],
    "replays": ["link_form=direct", *REPLAYS],
    "replays, compressed": ["link_form=compressed", *REPLAYS],
}


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return LoadEngine(preset("tiny").with_settings([*MASKS, *SHAPES[request.param]]))


def random_masked(p, r, **fields):
    """A load of groups of one vector a position, most of them masked."""
    while True:
        load = random_load(p, r, slot=24, groups=1, masked=r.random() < 0.8, **fields)
        if load.first + load.passes < load.pitch:
            return load


def drawn_line(p, r, generator, load, more=0):
    """Groups of a line; where there are replays, as many as there is room for, and in the last vector `more`."""
    groups = drawn(p, generator, load.width * (load.sent + 1))
    if not p.replays:
        return groups
    order, room = [], 0
    for number in range(len(groups)):
        if number % (load.sent + 1) == 0:
            room = load.passes - load.sent
        order.append((number, False))
        replays = room + more if more and number == len(groups) - 1 else r.randint(0, room)
        order += [(r.randrange(len(groups)), True)] * replays
        room -= replays
    index, replay = (np.array(part) for part in zip(*order, strict=True))
    groups = groups[index]
    valid, lane, value, digits = (
        getattr(groups, name).copy() for name in ("outlier_valid", "outlier_lane", "outlier_value", "digits")
    )
    digits[replay], valid[replay, 0] = 0, True
    code = np.where(replay & (groups.exponent >= 62), 7, groups.exponent)
    return groups.replace(
        exponent=code, replay=replay, digits=digits, outlier_valid=valid, outlier_lane=lane, outlier_value=value
    )


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_groups_pass_their_masks(dut, mode, fresh_seed):
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    loads = []
    for number in range(10):
        place = 40 * 8 * number
        signs = Operand(r.randrange(7), r.randrange(64))
        load = random_masked(p, r, source=Operand(5, place), lengths=Operand(3, place // 8), signs=signs)
        for slot in sorted({where[0] for where in placed(load).values() if where}):
            store(memory, p, load, slot, drawn_line(p, r, generator, load))
        loads.append(load)
    outcome = engine.run(dut, memory, REGIONS, loads, mode=mode, seed=fresh_seed, latency=20)
    assert outcome.error is None and len(outcome.clocks) == len(loads)
    golden, begin, written = interpreter(p, memory, REGIONS), 0, outcome.streams["banks"]
    for load in loads:
        golden._load_groups(load)
        places = placed(load)
        found = {}
        for index in range(begin, begin + len(places)):
            assert written["half"][index] == load.half
            found[int(written["row"][index]), int(written["address"][index])] = numbers(written["group"], index)
        begin += len(places)
        wanted = group_values(golden._banks[load.half], p)
        assert found == {(row, address): numbers(wanted, row * p.group_buffer + address) for row, address in places}
    assert begin == len(written["half"])
    tables = outcome.moved["signs_tables_read"] + outcome.moved.get("tables_read", 0)
    assert tables == golden.counters["memory_tables_read"]


@pytest.mark.parametrize("dut", [name for name in SHAPES if "replays" in name], indirect=True)
def test_a_line_that_is_no_line(dut, fresh_seed):
    """Too many groups of a vector, damaged bytes and lengths: it ends as the interpreter ends."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    seen = set()
    for number in range(24):
        memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
        load = random_masked(p, r, slot_step=0, line=0, height=1, lines=1, source=Operand(5), lengths=Operand(3))
        line = drawn_line(p, r, generator, load, more=number % 3)
        if number == 3 and p.link_form == "direct":  # no stream begins with a replay group
            first = DeltaGroups.zeros(1, p).replace(exponent=np.array([7]), replay=np.array([True]))
            valid = np.arange(p.outliers)[None, :] < 1
            line = DeltaGroups.concatenate([first.replace(outlier_valid=valid), line])
        store(memory, p, load, load.skip, line)
        place = r.choice([load.skip * load.slot * UNIT_BYTES + r.randrange(12), LENGTHS * UNIT_BYTES + 4 * load.skip])
        memory[place] ^= (number % 2 and number != 3) << r.randrange(8)
        if number == 1:
            memory[LENGTHS * UNIT_BYTES + 4 * load.skip :][:4] = 0
        golden, expected = interpreter(p, memory, REGIONS), None
        try:
            golden._load_groups(load)
        except MachineError as error:
            expected = error.cause
        outcome = engine.run(dut, memory, REGIONS, [load], seed=number, patience=2000)
        assert outcome.error == expected, load
        assert len(outcome.clocks) == (expected is None)
        seen.add(expected)
    assert seen == {None, "damaged", "buffer"}


def test_scales(dut, fresh_seed):
    """Records of factors and shifts, at any place of the buffer."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    golden, loads, wanted = interpreter(p, memory, REGIONS), [], []
    n, u = p.lanes, p.near_lanes
    for _ in range(8):
        records = r.randint(1, p.scale_buffer)
        at = r.randint(0, p.scale_buffer - records)
        loads.append(LoadScales(source=Operand(r.randrange(7), r.randrange(99)), at=at, records=records))
        golden._load_scales(loads[-1])
        for record in range(at, at + records):
            for kind in (0, 1):
                row = golden._factors_held[kind, record].reshape(-1, u).tolist()
                wanted += [(record * (n // u) + part, kind, values) for part, values in enumerate(row)]
    outcome = engine.run(dut, memory, REGIONS, loads, seed=fresh_seed)
    found = outcome.streams["scales"]
    assert outcome.error is None and len(outcome.clocks) == len(loads)
    assert list(zip(found["row"], found["shifts"], found["values"].tolist(), strict=True)) == wanted
    assert outcome.moved["scales_tables_read"] == golden.counters["memory_tables_read"]


def test_scales_wait_until_tiles_have_taken_theirs(dut):
    """Nothing is written as long as a tile that came before is to take what is there."""
    load = LoadScales(source=Operand(0), records=1)
    with pytest.raises(engine.Hung, match="1 of operation"):
        engine.run(dut, np.zeros(UNITS * UNIT_BYTES, np.uint8), REGIONS, [load], settings={"scales_held": 1})


@pytest.mark.parametrize(
    ("operation", "cause"),
    [
        (LoadScales(records=0), "field"),
        (LoadScales(at=0x7FFF, records=1), "buffer"),
        (LoadScales(records=0xFFFF), "buffer"),
        (LoadScales(records=1, source=Operand(0, UNITS)), "region"),
        (LoadGroups(**GROUP, masked=True, link=True), "field"),
        (LoadGroups(**GROUP | {"groups": 2, "pitch": 2}, masked=True), "field"),
        (LoadGroups(**GROUP, masked=True, signs=Operand(0, UNITS)), "region"),
        (LoadGroups(**GROUP | {"slot": 0, "width": 400}, skip=0xFFFF, masked=True), "region"),
    ],
)
def test_refused(operation, cause):
    p = preset("tiny").with_settings([*MASKS, "link_form=direct"])
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    memory[: 400 * image.group_bytes(p) : image.group_bytes(p)] = 62  # zero groups
    golden = interpreter(p, memory, REGIONS)
    with pytest.raises(MachineError) as error:
        (golden._load_scales if isinstance(operation, LoadScales) else golden._load_groups)(operation)
    assert error.value.cause == cause
    outcome = engine.run(LoadEngine(p), memory, REGIONS, [operation])
    assert outcome.error == cause and not outcome.clocks
