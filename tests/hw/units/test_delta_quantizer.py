import random

import numpy as np
import pytest

from golden.parameters import Parameters, preset
from hw.units import DeltaQuantizer
from tests.hw.streams import PATTERNS, exchange, inspect, refusal

pytestmark = pytest.mark.unit

NAN = 0x7E00


def units(pattern):
    """A finite FP16 pattern as an exact integer of 2^-24."""
    field, fraction = pattern >> 10 & 31, pattern & 1023
    magnitude = (fraction | 1024) << (field - 1) if field else fraction
    return -magnitude if pattern >> 15 else magnitude


def pattern_of(value):
    """FP16 pattern of an exact integer of 2^-24; it must be representable, and zero is +0."""
    as_half = np.float16(value * 2.0**-24)
    assert float(as_half) == value * 2.0**-24
    return 0 if value == 0 else int(as_half.view(np.uint16))


def nearest_even(value, code):
    """RNE(value / 2^code) of integers."""
    magnitude, one = abs(value), 1 << code
    quotient, rest = divmod(magnitude, one)
    quotient += 2 * rest > one or (2 * rest == one and quotient & 1)
    return -quotient if value < 0 else quotient


def oracle(item, parameters):
    """Groups of one vector, and whether it saturates or is poisoned: numerics section 3, rule by rule."""
    k, n, m = parameters.digit_width, parameters.lanes, parameters.outliers
    largest = 2 ** (k - 1) - 1
    values = item["values"]
    replays = {"replay": 0} if parameters.replays else {}
    no_slots = {"outliers": [{"valid": 0, "lane": 0, "value": 0}] * m} if m else {}
    if any(value >> 10 & 31 == 31 for value in values):
        group = {"exponent": 63, **replays, "digits": [0] * n, **no_slots}
        residual = [NAN] * n
        output = {"group": group, "last": 1, "next_exponent": item["floor"], "overflow": 0, "residual": residual}
        return [output], False, True
    exact = [units(value) for value in values]
    if item["first_pass"] and item["by_group"]:
        code = item["floor"]
        while sum(abs(nearest_even(x, code)) > largest for x in exact) > m:
            code += 1
    else:
        code = item["exponent"]
    digits, residual, flagged = [], [], []
    for lane, x in enumerate(exact):
        q = nearest_even(x, code)
        if abs(q) > largest:
            flagged.append(lane)
            digits.append(largest if x > 0 else -largest)
            residual.append(0)
        else:
            digits.append(q)
            residual.append(pattern_of(x - q * 2**code))
    selected = flagged[:m] if item["first_pass"] else []
    zeroed = flagged if parameters.replays and item["first_pass"] else selected
    digits = [0 if lane in zeroed else q for lane, q in enumerate(digits)]
    saturates = bool(set(flagged) - set(zeroed))

    def slots(lanes):
        used = [{"valid": 1, "lane": lane, "value": values[lane]} for lane in lanes]
        return {"outliers": used + [{"valid": 0, "lane": 0, "value": 0}] * (m - len(used))} if m else {}

    shared = {
        "next_exponent": max(code - (k - 1), item["floor"]),
        "overflow": sum(1 << lane for lane in flagged),
        "residual": residual,
    }
    zero = not any(digits) and not selected
    groups = [{"exponent": 62 if zero else code, **replays, "digits": digits, **slots(selected)}]
    if parameters.replays and item["first_pass"]:
        for start in range(m, len(flagged), m):
            groups.append({"exponent": code, "replay": 1, "digits": [0] * n, **slots(flagged[start : start + m])})
    last = len(groups) - 1
    outputs = [{"group": group, "last": int(at == last), **shared} for at, group in enumerate(groups)]
    return outputs, saturates, False


def vectors(parameters, count, seed, *, finite=False):
    """Vectors of every size of value, with ties, thresholds, subnormals, zeros and non-finite values."""
    draw = random.Random(seed)
    k, n = parameters.digit_width, parameters.lanes
    for _ in range(count):
        centre = draw.randrange(31)
        values = []
        for _ in range(n):
            kind = draw.randrange(12)
            if kind == 0:
                value = draw.choice([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF])
            elif kind == 1:
                # At the threshold of an overflow, or next to it.
                value = (draw.randrange(31) << 10 | (0x3FF & -(1 << (11 - k)))) + draw.choice([-1, 0, 1])
                value = value % 0x7C00 | draw.randrange(2) << 15
            elif kind == 2:
                value = draw.randrange(31) << 10 | draw.choice([0, 0x200, 0x100, 0x80]) | draw.randrange(2) << 15
            elif kind == 3:
                value = draw.randrange(1 << 10) | draw.randrange(2) << 15
            else:
                field = min(30, max(0, centre - draw.randrange(6)))
                value = field << 10 | draw.randrange(1 << 10) | draw.randrange(2) << 15
            values.append(value)
        if draw.randrange(8) == 0:
            values = [value if draw.randrange(4) == 0 else 0 for value in values]
        if draw.randrange(12) == 0:
            values = [value & 0x83FF for value in values]
        if not finite and draw.randrange(16) == 0:
            values[draw.randrange(n)] = draw.choice([0x7C00, 0xFC00, 0x7E00, 0xFFFF, 0x7C01])
        by_group, first_pass = draw.randrange(2), draw.randrange(4) > 0
        highest = 42 - k
        exponent = min(highest, max(0, centre + 11 - k + draw.randrange(-5, 3)))
        floor = draw.choice([0, 0, draw.randrange(highest + 1), max(0, exponent - 2)])
        yield {
            "by_group": by_group,
            "first_pass": int(first_pass),
            "exponent": exponent,
            "floor": floor,
            "values": values,
        }


def machine(k, n, m, policy, **others):
    policies = {
        "group": {},
        "saturate": {"exponent_policy": "layer", "output_passes": 1},
        "replay": {"exponent_policy": "layer", "overflow_policy": "replay"},
    }
    return Parameters(digit_width=k, lanes=n, outliers=m, memory_lanes=1, **policies[policy], **others)


def check(parameters, inputs, pattern="none"):
    expected, saturated, poisoned = [], False, False
    for item in inputs:
        groups, saturates, poisons = oracle(item, parameters)
        expected += groups
        saturated |= saturates
        poisoned |= poisons
    dut = DeltaQuantizer(parameters)
    ports = ("saturated", "poisoned")
    result = exchange(dut, inputs, pattern=pattern, outputs=len(expected), watch=ports)
    for index, (got, want) in enumerate(zip(result.outputs, expected, strict=True)):
        assert got == want, f"output {index}"
    assert result.ports == {"saturated": saturated, "poisoned": poisoned}


@pytest.mark.parametrize("policy", ["group", "saturate", "replay"])
@pytest.mark.parametrize("k, n, m", [(2, 4, 1), (3, 16, 1), (3, 5, 2), (4, 8, 3), (8, 6, 4), (5, 4, 4)])
def test_against_the_rules(k, n, m, policy):
    parameters = machine(k, n, m, policy)
    check(parameters, list(vectors(parameters, 30 if n > 8 else 80, seed=k * 100 + n)))


@pytest.mark.parametrize("k, n", [(3, 32), (2, 4), (8, 5), (6, 9)])
@pytest.mark.parametrize("policy", ["group", "saturate"])
def test_without_outliers(k, n, policy):
    parameters = machine(k, n, 0, policy)
    check(parameters, list(vectors(parameters, 20 if n > 9 else 80, seed=k)))


@pytest.mark.slow
@pytest.mark.parametrize("k, n, m, policy", [(3, 60, 4, "saturate"), (4, 64, 8, "replay"), (3, 60, 4, "group")])
def test_large(k, n, m, policy):
    parameters = machine(k, n, m, policy)
    check(parameters, list(vectors(parameters, 40, seed=7)))


def test_the_published_shape():
    parameters = preset("paper")
    check(parameters, list(vectors(parameters, 8, seed=8)))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 16])
@pytest.mark.parametrize("policy", ["saturate", "replay"])
def test_depth_and_back_pressure_change_nothing(policy, depth, pattern):
    parameters = machine(3, 4, 1, policy, pipeline_depth=depth)
    check(parameters, list(vectors(parameters, 40, seed=depth)), pattern)


@pytest.mark.parametrize("k", range(2, 9))
def test_the_largest_lane_decides(k):
    """Patterns of every field, four a vector, whose group exponents the largest of the four decides (m = 0)."""
    patterns = random.Random(k).sample(range(1 << 16), 1 << 10)
    parameters = machine(k, 4, 0, "group")
    inputs = [
        {"by_group": 1, "first_pass": 1, "exponent": 0, "floor": 0, "values": patterns[start : start + 4]}
        for start in range(0, len(patterns), 4)
    ]
    check(parameters, inputs)


def test_passes_lose_at_most_half_of_the_last_digit():
    """Three passes through the hardware: each takes what the one before left; numerics 3.8."""
    parameters = preset("tiny")
    items = [item | {"by_group": 1, "first_pass": 1} for item in vectors(parameters, 80, seed=5, finite=True)]
    sums = [[0] * 4 for _ in items]
    rest = items
    for number in range(3):
        results = exchange(DeltaQuantizer(parameters), rest).outputs
        for total, result in zip(sums, results, strict=True):
            group = result["group"]
            if group["exponent"] != 62:
                for lane, digit in enumerate(group["digits"]):
                    total[lane] += digit << group["exponent"]
            for slot in group["outliers"]:
                if slot["valid"]:
                    total[slot["lane"]] += units(slot["value"])
            assert number == 0 or result["overflow"] == 0
        last = [group["next_exponent"] for group in results]
        used = [item["exponent"] for item in rest]
        rest = [
            item | {"first_pass": 0, "exponent": code, "values": result["residual"]}
            for item, code, result in zip(rest, last, results, strict=True)
        ]
    for item, total, code in zip(items, sums, used, strict=True):
        # `used` are the exponents of the third pass.
        for value, reached in zip(item["values"], total, strict=True):
            assert 2 * abs(units(value) - reached) <= 1 << code


@pytest.mark.parametrize("policy", ["group", "saturate", "replay"])
@pytest.mark.parametrize("depth", [1, 3, 16])
def test_latency_and_throughput(policy, depth):
    parameters = machine(3, 4, 1, policy, pipeline_depth=depth)
    dut = DeltaQuantizer(parameters)
    inputs = [item | {"by_group": 1, "first_pass": 1} for item in vectors(parameters, 20, seed=1)]
    result = exchange(dut, inputs)
    assert {left - taken for left, taken in zip(result.left, result.taken, strict=True)} == {dut.latency}
    assert result.taken == list(range(20))
    assert dut.latency <= depth


def test_replays_stall_only_for_their_own_groups():
    parameters = machine(3, 8, 2, "replay")
    big, small = [0x7BFF] * 8, [0x3C00] * 8
    inputs = [
        {"by_group": 0, "first_pass": 1, "exponent": 24, "floor": 0, "values": big if index % 2 else small}
        for index in range(10)
    ]
    result = exchange(DeltaQuantizer(parameters), inputs, outputs=5 + 5 * 4)
    assert result.left[-1] - result.left[0] == 24
    assert [output["group"]["replay"] for output in result.outputs[:5]] == [0, 0, 1, 1, 1]


def test_sticky_bits_can_be_cleared():
    """With `clear` held high, nothing stays."""
    parameters = machine(3, 4, 0, "saturate")
    poison = {"by_group": 0, "first_pass": 1, "exponent": 10, "floor": 0, "values": [0x7BFF, 0, 0x7C00, 0]}
    large = poison | {"values": [0x7BFF, 0, 0, 0]}
    ports = ("saturated", "poisoned")
    for clear, expected in ((0, {"saturated": 1, "poisoned": 1}), (1, {"saturated": 0, "poisoned": 0})):
        result = exchange(DeltaQuantizer(parameters), [poison, large], ports={"clear": clear}, watch=ports)
        assert result.ports == expected


def test_describes_itself_and_rejects():
    assert inspect(DeltaQuantizer(Parameters())).throughput == "one group per clock"
    assert repr(refusal(DeltaQuantizer, "edge")) == "TypeError(\"parameters must be Parameters, not 'edge'\")"
