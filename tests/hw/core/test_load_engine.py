"""The load engine's Verilog against a walk over the addresses of the banks, on random loads and records."""

import random

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError, Region
from golden.machine.command import UNIT_BYTES, LoadGroups, LoadWeights, Operand
from golden.parameters import preset
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_group import DeltaGroups
from hw.core.load_engine import LoadEngine
from sim import engine
from sim.vectors import group_values
from tests.golden.machine.loads import placed, random_load, refused
from tests.hw.interpreter import interpreter

pytestmark = pytest.mark.cocotb

UNITS = 1 << 13
LENGTHS = 1 << 12  # unit where the regions of tables begin: above all slots
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[3] = Region(LENGTHS, UNITS - LENGTHS)

SHAPES = {
    "direct": ["link_form=direct", "rows=3", "group_buffer=512"],
    "compressed": ["link_form=compressed", "rows=3", "group_buffer=512"],
    "one row": ["link_form=direct", "outliers=0", "memory_width=32", "group_buffer=300", "weight_buffer=20"],
    "wide": ["link_form=compressed", "lanes=16", "memory_width=256", "link_width=64", "rows=2", "digit_width=4"],
}


@pytest.fixture(params=SHAPES, scope="module")
def dut(request):
    return LoadEngine(preset("tiny").with_settings(SHAPES[request.param]))


def drawn(p, generator, count):
    """Groups of all kinds."""
    groups = DeltaGroups.zeros(count, p)
    digits = generator.integers(-p.digit_max, p.digit_max + 1, (count, p.lanes))
    digits[generator.random((count, p.lanes)) < 0.5] = 0
    valid = np.zeros((count, p.outliers), np.bool_)
    lane, value = np.zeros((count, p.outliers), np.int64), np.zeros((count, p.outliers), np.int64)
    for index in range(count if p.outliers else 0):
        lanes = np.sort(generator.choice(p.lanes, generator.integers(p.outliers + 1), replace=False))
        valid[index, : len(lanes)], lane[index, : len(lanes)] = True, lanes
        value[index, : len(lanes)] = generator.integers(0, 0x7C00, len(lanes))
        digits[index, lanes] = 0
    code = generator.integers(0, 43 - p.digit_width, count)
    bare = ~digits.any(axis=1) & ~valid.any(axis=1)
    code[bare] = generator.integers(62, 64, bare.sum())
    return groups.replace(exponent=code, digits=digits, outlier_valid=valid, outlier_lane=lane, outlier_value=value)


def store(memory, p, load, slot, groups):
    """Put the groups of a line into its slot."""
    if p.link_form == "direct":
        data = image.pack_groups(groups, p).ravel()
    else:
        words = delta_compressor(groups, p, passes=load.sent + 1)
        data = np.frombuffer(b"".join(word.to_bytes(p.link_width // 8, "little") for word in words), np.uint8)
    if p.has_lengths:
        entry = (LENGTHS + load.lengths.offset) * UNIT_BYTES + slot * image.ENTRY_BYTES
        memory[entry : entry + image.ENTRY_BYTES] = image.pack_entries([data.size])
    begin = (load.source.offset + slot * load.slot) * UNIT_BYTES
    assert data.size <= load.slot * UNIT_BYTES
    memory[begin : begin + data.size] = data


def numbers(values, index):
    """A group of a stream, as a flat list."""
    found = [int(values["exponent"][index]), *(int(digit) for digit in values["digits"][index])]
    found += [int(values["replay"][index])] if "replay" in values else []
    for name in sorted(values.get("outliers", {})):
        found += [int(item) for item in values["outliers"][name][index]]
    return found


def check_banks(written, loads, lines, p):
    """Each address is written once, load by load, with what the walk puts there."""
    zero, begin = group_values(DeltaGroups.zeros(1, p), p), 0
    for load in loads:
        wanted = placed(load)
        values = {slot: group_values(groups, p) for slot, groups in lines[id(load)].items()}
        found = {}
        for index in range(begin, begin + len(wanted)):
            place = int(written["row"][index]) if p.rows > 1 else 0, int(written["address"][index])
            assert place not in found and written["half"][index] == load.half
            found[place] = numbers(written["group"], index)
        assert found.keys() == wanted.keys()
        for place, where in wanted.items():
            assert found[place] == numbers(*((zero, 0) if where is None else (values[where[0]], where[1])))
        begin += len(wanted)
    assert begin == len(written["half"])


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_groups(dut, mode, fresh_seed):
    """From a spool and from the link, one load after the other; also after a reset in the midst of them."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    loads, lines, up = [], {}, []
    place = 0
    for _ in range(12):
        linked = r.random() < 0.3
        load = random_load(p, r, link=linked, source=Operand(5, place), lengths=Operand(3, place // 8), slot=24)
        count = load.width * load.groups * (load.sent + 1)
        slots = sorted({where[0] for where in placed(load).values() if where})
        if linked:
            slots = range(load.height)
        lines[id(load)] = {slot: drawn(p, generator, count) for slot in slots}
        for slot, groups in lines[id(load)].items():
            if linked:
                up.append(groups)
            else:
                store(memory, p, load, slot, groups)
        loads.append(load)
        place += 40 * 8
    last = np.concatenate([np.arange(1, len(groups) + 1) == len(groups) for groups in up]) if up else np.zeros(0, bool)
    groups = DeltaGroups.concatenate(up) if up else DeltaGroups.zeros(0, p)
    outcome = engine.run(
        dut,
        memory,
        REGIONS,
        loads,
        streams={"up": {"group": group_values(groups, p), "last": last}},
        mode=mode,
        seed=fresh_seed,
        latency=20,
    )
    assert outcome.error is None and len(outcome.clocks) == len(loads)
    check_banks(outcome.streams["banks"], loads, lines, p)


def test_weights(dut, fresh_seed):
    """Records at any place of memory."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)
    size, loads, expected = image.weight_bytes(p), [], []
    for number in range(8):
        records = r.choice([1, 2, 5, p.weight_buffer])
        load = LoadWeights(
            source=Operand(1, number * UNITS // 8),
            half=bool(r.getrandbits(1)),
            at=r.randint(0, p.weight_buffer - records),
            records=records,
            skip=r.randrange(20),
        )
        scale = generator.integers(-220, 221, records)
        scale[generator.random(records) < 0.1] = -256
        weights = generator.integers(-1 << p.weight_width - 1, 1 << p.weight_width - 1, (records, p.lanes))
        begin = load.source.offset * UNIT_BYTES + load.skip * size
        data = image.pack_weights(weights, scale, p).ravel()[: memory.size - begin]
        memory[begin : begin + data.size] = data
        loads.append(load)
        expected += [(load.half, load.at + index, scale[index], *weights[index]) for index in range(records)]
    outcome = engine.run(dut, memory, REGIONS, loads, seed=fresh_seed)
    written = outcome.streams["weights"]
    found = zip(
        written["half"], written["address"], written["record"]["scale"], written["record"]["weights"], strict=True
    )
    assert outcome.error is None
    assert [(half, address, scale, *weights) for half, address, scale, weights in found] == expected


def test_a_record_takes_as_many_clocks_as_are_said(dut):
    """Besides those until the first one has come."""
    p = dut.parameters
    assert p.record_clocks == (2 if p.memory_width == 256 else 4)
    load = LoadWeights(source=Operand(1), records=p.weight_buffer)
    outcome = engine.run(dut, np.zeros(UNITS * UNIT_BYTES, np.uint8), REGIONS, [load], mode="none", latency=10)
    (clocks,) = outcome.clocks
    assert clocks <= p.record_clocks * (p.weight_buffer - 1) + 50


def outcome_of_golden(p, memory, operation):
    """Cause of the interpreter's error, or None."""
    accelerator = interpreter(p, memory, REGIONS)
    try:
        (accelerator._load_weights if isinstance(operation, LoadWeights) else accelerator._load_groups)(operation)
    except MachineError as error:
        return error.cause
    return None


def test_damage(dut, fresh_seed):
    """Bytes of groups, streams, lengths and records are changed: it ends as the interpreter ends."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    seen = set()
    for number in range(40):
        memory, bit = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8), r.randrange(8)
        if number % 4:
            load = random_load(p, r, slot=24, slot_step=0)
            wanted, count = placed(load), load.width * load.groups * (load.sent + 1)
            slots = sorted({where[0] for where in wanted.values() if where})
            places = []
            for slot in slots:
                store(memory, p, load, slot, drawn(p, generator, count))
                places += [(load.source.offset + slot * load.slot) * UNIT_BYTES + r.randrange(20)]
                if p.link_form == "compressed":
                    places += [(LENGTHS + load.lengths.offset) * UNIT_BYTES + slot * 4] * (number % 8 == 1)
        else:
            load = LoadWeights(records=3)
            data = image.pack_weights(np.zeros((3, p.lanes)), np.full(3, 200), p).ravel()
            memory[: data.size] = data
            places = [r.randrange(3) * image.weight_bytes(p)]
            bit = 4 + number % 8 // 4  # of a scale, in turn to 216, which can be, and to 232, which cannot
        if places:
            memory[r.choice(places)] ^= 1 << bit
        expected = outcome_of_golden(p, memory, load)
        outcome = engine.run(dut, memory, REGIONS, [load], seed=number, patience=2000)
        assert outcome.error == expected, load
        assert len(outcome.clocks) == (expected is None)
        seen.add(expected)
    assert seen == {None, "damaged"}


@pytest.mark.parametrize("dut", [name for name in SHAPES if "outliers=0" not in SHAPES[name]], indirect=True)
@pytest.mark.parametrize("value", [0x7BFF, 0x7C00, 0xFC00, 0x7CBE])
def test_an_outlier_that_is_no_number(dut, value):
    """Is damage, in a record and in a stream alike; the largest number is none."""
    p = dut.parameters
    groups = drawn(p, np.random.default_rng(value), 6)
    digits = groups.digits.copy()
    digits[4] = 0
    valid, lane, values = (getattr(groups, f"outlier_{name}").copy() for name in ("valid", "lane", "value"))
    exponent = groups.exponent.copy()
    valid[4], lane[4], values[4], exponent[4] = False, 0, 0, 3
    valid[4, 0], lane[4, 0], values[4, 0] = True, 1, value
    groups = groups.replace(
        exponent=exponent, digits=digits, outlier_valid=valid, outlier_lane=lane, outlier_value=values
    )
    load = LoadGroups(lines=1, height=1, width=3, groups=2, pitch=2, slot=24, source=Operand(0), lengths=Operand(3))
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    store(memory, p, load, 0, groups)
    expected = None if value == 0x7BFF else "damaged"
    assert outcome_of_golden(p, memory, load) == expected
    assert engine.run(dut, memory, REGIONS, [load], seed=value, patience=2000).error == expected


@pytest.mark.parametrize("length", [5, 7])
def test_a_line_of_the_link_that_is_too_short_or_too_long(dut, length):
    """Is an error of the field, as the interpreter has it."""
    p = dut.parameters
    load = LoadGroups(lines=1, height=1, width=3, groups=2, pitch=2, link=True)
    groups = drawn(p, np.random.default_rng(length), 12)
    last = np.arange(1, 13) % length == 0
    up = {"group": group_values(groups, p), "last": last}
    outcome = engine.run(dut, np.zeros(UNITS * UNIT_BYTES, np.uint8), REGIONS, [load], streams={"up": up}, patience=500)
    assert outcome.error == "field" and not outcome.clocks


def test_refused():
    """Each rule of the page by its cause."""
    dut = LoadEngine(preset("tiny").with_settings(["link_form=direct"]))
    for operation, expected in refused(UNITS):
        outcome = engine.run(dut, np.zeros(UNITS * UNIT_BYTES, np.uint8), REGIONS, [operation])
        assert outcome.error == expected, operation
        assert not outcome.clocks
