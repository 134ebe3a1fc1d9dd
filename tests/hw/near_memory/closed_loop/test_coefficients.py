"""Coefficients as Verilog: memory as the interpreter leaves it, and as the law says on fractions."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from golden.machine import image
from golden.machine.accelerator import MachineError, Region
from golden.machine.command import UNIT_BYTES, Coefficients, Operand
from golden.parameters import preset
from hw.near_memory.closed_loop.coefficients import CoefficientsEngine, seeds
from sim import engine
from tests.hw.interpreter import interpreter

pytestmark = pytest.mark.cocotb

UNITS = 2048
REGIONS = [Region(0, UNITS) for _ in range(8)]
REGIONS[2], REGIONS[3], REGIONS[4] = Region(64, 1024), Region(1200, 400), Region(1600, 448)


@pytest.fixture(params=[32, 128], scope="module")
def dut(request):
    return CoefficientsEngine(preset("tiny").with_settings([f"memory_width={request.param}"]))


def law(total, square, count, floor, *, unit, centred):
    """``(mean, r, rho)`` as numerics 12.5 says it."""
    total = total if centred else 0
    big = max(count * square - total**2 + floor, 1)
    t = (big.bit_length() - 16) // 2
    m = math.floor(Fraction(big) / Fraction(4) ** t)
    table = 2**24 / math.sqrt(256 * (m // 256 + 0.5))  # no tie is near
    y0 = round(table)
    q = round(Fraction(y0 * y0, 2**16))
    h = round(Fraction(3 * 2**32 - m * q, 2**17))
    y = round(Fraction(y0 * h, 2**16))
    v = count.bit_length() - 17
    significand = round(Fraction(count) / Fraction(2) ** v)
    if significand == 2**17:
        significand, v = 2**16, v + 1
    p = y * significand
    j = 16 if p < 2**33 - 2**15 else 17
    return round(Fraction(256 * total, count)), round(Fraction(p, 2**j)), j + v - 24 - t + unit


def sums_of(r, w, count):
    """Sums of so many elements, of any size: what `count` elements of w bits can have."""
    scale = 1 << r.randrange(w)
    kind = r.choice(["any", "one", "none", "largest"])
    if kind == "none":
        return 0, 0
    if kind == "one":
        value = r.randrange(-scale, scale)
        return value, value * value
    if kind == "largest":
        value = r.choice((-1, 1)) * (2 ** (w - 1) - 1)
        return value * count, value * value * count
    mean = r.randrange(-scale, scale)
    spread = r.randrange(scale)
    return mean * count, (mean * mean + spread * spread) * count


def random_sets(r, p):
    """An operation, its records (total, square, poisoned), and K of each set."""
    sets, size = r.randint(1, 9), r.choice([1, 1, 2, 5, 16])
    count = r.choice([1, 3, 64, 65535, 2**17 - 1, 2**18 - 1, r.randrange(1, 1 << r.randint(1, 24))])
    operation = Coefficients(
        sums1=Operand(2, r.randrange(100)),
        sums2=Operand(2, 500 + r.randrange(100)),
        floors=Operand(4, r.randrange(20)),
        result=Operand(3, r.randrange(20)),
        sets=sets,
        size=size,
        records1=r.choice([0, sets * size, r.randrange(sets * size + 1), 1000]),
        shift=r.randint(-8, 8),
        centred=r.random() < 0.8,
        unit=r.choice([10, 0, 31, r.randrange(32)]),
        count=count,
    )
    each = -(-count // size)
    records = [(*sums_of(r, p.state_width, each), r.random() < 0.05) for _ in range(sets * size)]
    floors = [
        r.choice([0, 1, r.getrandbits(r.randint(1, 128)), min(count * count << 72, 2**128 - 1)]) for _ in range(sets)
    ]
    return operation, records, floors


def filled(operation, records, floors, generator):
    """Memory with the records of both tensors and the constants."""
    memory = generator.integers(0, 256, UNITS * UNIT_BYTES, np.uint8)

    def put(operand, data):
        begin = (REGIONS[operand.region].base + operand.offset) * UNIT_BYTES
        memory[begin : begin + data.size] = data.ravel()

    first = min(len(records), operation.records1)
    for operand, part in ((operation.sums1, records[:first]), (operation.sums2, records[first:])):
        if part:
            total, square, poisoned = (np.array(column) for column in zip(*part, strict=True))
            put(operand, image.pack_sums(image.Sums(total.astype(np.int64), square.astype(np.int64), poisoned)))
    put(operation.floors, image.pack_floors(floors))
    return memory


def expected_records(operation, records, floors):
    """Fields of each record of coefficients, by the law."""
    found, first, size = [], min(len(records), operation.records1), operation.size
    for number, floor in enumerate(floors):
        of = [(*records[at], at >= first) for at in range(number * size, (number + 1) * size)]
        mixed = len({second for *_, second in of}) == 2
        total = square = 0
        for one, two, _, second in of:
            coarser = mixed and second == (operation.shift > 0)
            places = abs(operation.shift) if coarser else 0
            total, square = total + one * 2**places, square + two * 4**places
        mean, root, exponent = law(
            total, square, operation.count, floor, unit=operation.unit, centred=operation.centred
        )
        poisoned = any(bad for _, _, bad, _ in of)
        mean = (mean + 2**31) % 2**32 - 2**31
        found.append((mean, root, exponent, mixed * abs(operation.shift), operation.shift > 0, poisoned))
    return found


@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_sets(dut, mode, fresh_seed):
    """One tensor or two, any units, poison; several operations one after the other."""
    p, r, generator = dut.parameters, random.Random(fresh_seed), np.random.default_rng(fresh_seed)
    for _ in range(25):
        operation, records, floors = random_sets(r, p)
        memory = filled(operation, records, floors, generator)
        expected = interpreter(p, memory, REGIONS)
        expected._coefficients(operation)
        outcome = engine.run(dut, memory, REGIONS, [operation, operation], mode=mode, seed=r.getrandbits(31))
        assert outcome.error is None and len(outcome.clocks) == 2
        np.testing.assert_array_equal(outcome.memory, expected.memory)
        begin = (REGIONS[3].base + operation.result.offset) * UNIT_BYTES
        data = outcome.memory[begin : begin + operation.sets * image.COEFFICIENT_BYTES]
        roots = image.unpack_coefficients(data.reshape(-1, image.COEFFICIENT_BYTES))
        columns = [*vars(roots.coefficients).values(), roots.finer, roots.second, roots.poisoned]
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
            tuple(record) for record in expected_records(operation, records, floors)
        ]
        for name in ("sums_read", "tables_written"):
            assert outcome.moved[name] == 2 * expected.counters[f"memory_{name}"]


@pytest.mark.parametrize("fields", [{"sets": 0}, {"size": 0}, {"count": 0}, {"shift": 9}, {"shift": -9}])
def test_fields_that_break_a_rule(dut, fields):
    good = {"sets": 1, "size": 1, "count": 4, "records1": 1, "sums1": Operand(2), "floors": Operand(4)}
    operation = Coefficients(**(good | fields), result=Operand(3))
    memory = np.zeros(UNITS * UNIT_BYTES, np.uint8)
    with pytest.raises(MachineError) as refused:
        interpreter(dut.parameters, memory, REGIONS)._coefficients(operation)
    assert engine.run(dut, memory, REGIONS, [operation]).error == refused.value.cause == "field"


@pytest.mark.parametrize(
    ("records", "damaged"),
    [
        ([(2**55 - 1, 0)], False),
        ([(-(2**55), 0)], False),
        ([(2**55, 0)], True),
        ([(-(2**55) - 1, 0)], True),
        ([(2**62, 0), (-(2**62), 0)], False),
        ([(-(2**63), 0)] * 2, True),
        ([(0, 2**63 - 1)] * 3, False),
    ],
)
def test_sums_that_cannot_be(dut, records, damaged):
    """Are damage, of the whole set: how they came about does not matter."""
    operation = Coefficients(
        sums1=Operand(2), floors=Operand(4), result=Operand(3), sets=1, size=len(records), count=7, records1=9
    )
    memory = filled(operation, [(*record, False) for record in records], [5], np.random.default_rng(1))
    expected = interpreter(dut.parameters, memory, REGIONS)
    if damaged:
        with pytest.raises(MachineError) as refused:
            expected._coefficients(operation)
        assert refused.value.cause == "damaged"
    else:
        expected._coefficients(operation)
    outcome = engine.run(dut, memory, REGIONS, [operation])
    assert outcome.error == ("damaged" if damaged else None)
    if not damaged:
        np.testing.assert_array_equal(outcome.memory, expected.memory)


def test_seeds_are_the_nearest():
    assert seeds()[128:] == [round(2**24 / math.sqrt(256 * (i + 0.5))) for i in range(128, 512)]
