"""The engine against a naive model in exact arithmetic, written from docs/numerics.md section 11."""

import dataclasses
import gc
import random
from fractions import Fraction

import pytest
from amaranth.hdl import Shape
from amaranth.sim import Simulator

from golden.parameters import Parameters, preset
from hw.units import NearMemoryEngine
from tests.hw.streams import PATTERNS, inspect, pack, unpack

pytestmark = pytest.mark.unit

LARGEST = Fraction(65504)


def fp16_value(pattern):
    """Exact value, or None for a NaN or an infinity."""
    exponent, fraction = pattern >> 10 & 31, pattern & 1023
    if exponent == 31:
        return None
    magnitude = (
        Fraction(fraction, 1 << 24) if exponent == 0 else Fraction(1024 + fraction) * Fraction(2) ** (exponent - 25)
    )
    return -magnitude if pattern >> 15 else magnitude


def rne(value):
    return round(Fraction(value))  # Python rounds ties to even


def fp16_round(value):
    """Pattern nearest to an exact value, and whether it was clamped."""
    magnitude = abs(value)
    step = Fraction(1, 1 << 24)
    while magnitude >= 2048 * step:
        step *= 2
    rounded = rne(magnitude / step) * step
    clamped = rounded > LARGEST
    rounded = min(rounded, LARGEST)
    for exponent in range(31):
        scale = Fraction(2) ** (max(exponent, 1) - 25)
        units = rounded / scale
        if units.denominator == 1 and units < 2048 and (units >= 1024 or exponent == 0):
            pattern = exponent << 10 | int(units) - (1024 if exponent else 0)
            break
    else:
        raise AssertionError(value)
    return pattern | (0x8000 if value < 0 and rounded else 0), clamped


@dataclasses.dataclass
class Model:
    """State by vector and lane, with everything the engine should have said."""

    p: Parameters
    state_exponent: int
    thresholds: list
    memory: dict
    masks: list = dataclasses.field(default_factory=list)
    repairs: list = dataclasses.field(default_factory=list)
    overflow: bool = False
    poisoned: bool = False

    def is_poison(self, element):
        return (
            element == -(1 << self.p.state_width - 1) if self.p.state_format == "fixed" else fp16_value(element) is None
        )

    def number(self, element):
        if self.p.state_format == "fixed":
            return Fraction(element) * Fraction(2) ** (self.state_exponent - 24)
        return fp16_value(element)

    def code(self, element):
        if self.is_poison(element):
            return 0
        if self.p.mask_width == 1:
            return int(self.number(element) >= 0)
        return sum(self.number(threshold) <= self.number(element) for threshold in self.thresholds)

    def vector(self, groups):
        n, first = self.p.lanes, groups[0]
        address, refresh, bias = first["address"], first["refresh"], first["bias"]
        old = [self.memory.get((address, lane), 0) for lane in range(n)]
        new = []
        for lane in range(n):
            start = 0 if refresh else old[lane]
            new.append((self.fixed if self.p.state_format == "fixed" else self.half)(start, groups, lane, bias[lane]))
        self.masks.append({"address": address, "mask": [self.code(element) for element in new]})
        for lane in range(n):
            self.memory[address, lane] = new[lane]
            if self.p.flip_repair and not refresh and not self.is_poison(old[lane]) and not self.is_poison(new[lane]):
                if self.code(old[lane]) != self.code(new[lane]):
                    value, clamped = fp16_round(abs(self.number(new[lane])))
                    self.overflow |= clamped
                    self.repairs.append({"address": address, "lane": lane, "value": value})

    def lane_values(self, groups, lane):
        """Per group: poisoned, or the exact number it adds, and whether it is an outlier."""
        for group in groups:
            group = group["group"]
            if group["exponent"] == 63:
                yield None, False
                continue
            for slot in group.get("outliers", ()):
                if slot["valid"] and slot["lane"] == lane:
                    yield fp16_value(slot["value"]), True
                    break
            else:
                power = Fraction(2) ** (group["exponent"] - 24)
                yield (Fraction(group["digits"][lane]) * power if group["exponent"] < 62 else Fraction(0)), False

    def fixed(self, start, groups, lane, bias):
        w, unit = self.p.state_width, Fraction(2) ** (self.state_exponent - 24)
        poisoned, total = self.is_poison(start), start + bias
        for value, outlier in self.lane_values(groups, lane):
            if value is None:
                poisoned = self.poisoned = True
            else:
                units = value / unit
                total += rne(units) if outlier else units
        assert poisoned or Fraction(total).denominator == 1
        if poisoned:
            return -(1 << w - 1)
        limit = (1 << w - 1) - 1
        self.overflow |= abs(total) > limit
        return int(max(-limit, min(limit, total)))

    def half(self, start, groups, lane, bias):
        poisoned, element = self.is_poison(start), start
        for value, _ in self.lane_values(groups, lane):
            if value is None:
                poisoned = self.poisoned = True
            if not poisoned:
                pattern, clamped = fp16_round(value)
                element, beyond = fp16_round(fp16_value(element) + fp16_value(pattern))
                self.overflow |= clamped or beyond
        if fp16_value(bias) is None:
            poisoned = self.poisoned = True
        if poisoned:
            return 0x7E00
        element, beyond = fp16_round(fp16_value(element) + fp16_value(bias))
        self.overflow |= beyond
        return element


@dataclasses.dataclass
class Run:
    memory: dict
    masks: list
    repairs: list
    status: dict
    clocks: int
    reads: list
    writes: list
    taken: list
    left: list


def run_engine(p, vectors, model, *, pattern="none", seed=1, memory_latency=1, stalls=0.0, clear_at=None, limit=50_000):
    """Send vectors (lists of groups); the memory answers in order, after `memory_latency` clocks or more."""
    dut = NearMemoryEngine(p)
    words, lanes = p.words_per_vector, p.memory_lanes
    shape_i, shape_word = dut.i.payload.shape(), dut.read_data.payload.shape()
    shape_o, shape_write = dut.o.payload.shape(), dut.write.payload.shape()
    hesitates = random.Random(seed)
    memory = {}
    element = Shape.cast(shape_word.elem_shape).width
    for (address, lane), value in model.memory.items():
        word, place = divmod(lane, lanes)
        bits = value & (1 << element) - 1
        memory[address * words + word] = memory.get(address * words + word, 0) | bits << (place * element)
    result = Run({}, [], [], {}, 0, [], [], [], [])
    expected_writes = len(vectors) * words
    waiting = [dict(group, last=index == len(vector) - 1) for vector in vectors for index, group in enumerate(vector)]
    waiting = [pack(shape_i, group) for group in waiting]
    idle, back = pattern in ("idle", "both"), pattern in ("back_pressure", "both")

    async def run(ctx):
        ctx.set(dut.state_exponent, model.state_exponent)
        if p.mask_width > 1:
            ctx.set(dut.thresholds.as_value(), pack(dut.thresholds.shape(), model.thresholds))
        answers, offered, answering, quiet, clock = [], False, False, 0, 0
        outputs = [dut.o, dut.write, dut.read_request] + ([dut.repairs] if p.flip_repair else [])
        held = [None] * len(outputs)
        while len(result.writes) < expected_writes or len(result.masks) < len(vectors) or quiet < 40:
            if waiting and not offered and not (idle and hesitates.random() < 0.5):
                ctx.set(dut.i.payload.as_value(), waiting.pop(0))
                offered = True
            if not answering and answers and answers[0][0] <= clock and not hesitates.random() < stalls:
                # The state is looked up when the request is taken: a read must not depend on later writes.
                ctx.set(dut.read_data.payload.as_value(), answers.pop(0)[1])
                answering = True
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.read_data.valid, answering)
            ready = [int(not (back and hesitates.random() < 0.5)) for _ in outputs]
            ready[2] = int(not (stalls and hesitates.random() < stalls))
            for output, value in zip(outputs, ready, strict=True):
                ctx.set(output.ready, value)
            ctx.set(dut.clear, clear_at == clock)
            sampled = [signal for output in outputs for signal in (output.valid, output.payload.as_value())]
            _, _, taken, consumed, *seen = await ctx.tick().sample(dut.i.ready, dut.read_data.ready, *sampled)
            quiet += 1
            for index, output in enumerate(outputs):
                valid, bits = seen[2 * index], seen[2 * index + 1]
                if held[index] is not None:
                    assert valid and bits == held[index], f"clock {clock}: a waiting payload changed"
                held[index] = bits if valid and not ready[index] else None
                if not (valid and ready[index]):
                    continue
                quiet = 0
                value = unpack(output.payload.shape(), bits)
                if output is dut.o:
                    result.masks.append(value)
                    result.left.append(clock)
                elif output is dut.write:
                    result.writes.append(clock)
                    memory[value["address"]] = pack(shape_word, value["data"])
                elif output is dut.read_request:
                    result.reads.append(clock)
                    answers.append((clock + memory_latency, memory.get(value["address"], 0)))
                else:
                    result.repairs.append(value)
            if offered and taken:
                offered, quiet = False, 0
                result.taken.append(clock)
            if answering and consumed:
                answering = False
            if waiting or offered or answers or answering:
                quiet = 0
            clock += 1
            assert clock < limit, f"{len(result.masks)} of {len(vectors)} vectors after {clock} clocks"
        result.clocks = clock
        result.status = {"overflow": ctx.get(dut.overflow), "poisoned": ctx.get(dut.poisoned)}

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
    assert shape_o and shape_write
    for number, bits in memory.items():
        for place, value in enumerate(unpack(shape_word, bits)):
            result.memory[number // words, number % words * lanes + place] = value
    return result


def random_half(r):
    return r.choice([r.randrange(0x7C00), r.randrange(0x3000, 0x5000), 0x7BFF, 0, 1]) | r.randrange(2) << 15


def random_group(p, r, state_exponent, *, outliers=True, zero=0.1, poison=0.0, spread=6):
    group = {"exponent": 62, "digits": [0] * p.lanes}
    if p.outliers:
        group["outliers"] = [{"valid": 0, "lane": 0, "value": 0}] * p.outliers
    choice = r.random()
    if choice < poison:
        group["exponent"] = 63
        return group
    if choice < poison + zero:
        return group
    top = 42 - p.digit_width
    low = min(state_exponent, top) if p.state_format == "fixed" else 0
    high = top if r.random() < 0.1 else min(top, low + spread)
    group["exponent"] = r.randint(low, high)
    q = p.digit_max
    group["digits"] = [r.choice([0, r.randint(-q, q)]) for _ in range(p.lanes)]
    if p.outliers and outliers:
        chosen = sorted(r.sample(range(p.lanes), r.randint(0, min(p.outliers, p.lanes))))
        slots = [{"valid": 1, "lane": lane, "value": random_half(r)} for lane in chosen]
        for lane in chosen:
            group["digits"][lane] = 0
        group["outliers"] = slots + [{"valid": 0, "lane": 0, "value": 0}] * (p.outliers - len(slots))
    return group


def random_element(p, r, *, poison=0.0):
    if p.state_format == "float16":
        return 0x7E00 if r.random() < poison else random_half(r)
    limit = (1 << p.state_width - 1) - 1
    if r.random() < poison:
        return -limit - 1
    return r.choice([r.randint(-limit, limit), r.randint(-40, 40), limit, -limit, 0])


def random_vector(p, r, state_exponent, *, addresses=6, groups=3, refresh=0.1, **kwargs):
    address = r.choice([r.randrange(addresses), r.randrange(1 << 12)])
    count = r.randint(1, groups)
    small = p.state_format == "fixed"
    return [
        {
            "refresh": int(r.random() < refresh),
            "address": address,
            "group": random_group(p, r, state_exponent, **kwargs),
            "bias": [r.randint(-50, 50) if small else random_half(r) for _ in range(p.lanes)],
        }
        for _ in range(count)
    ]


def random_model(p, r, state_exponent, *, addresses=6, poison=0.0):
    thresholds = []
    if p.mask_width > 1:
        count = 2**p.mask_width - 1
        if p.state_format == "fixed":
            thresholds = sorted(r.randint(-1000, 1000) for _ in range(count))
        else:
            thresholds = sorted((random_half(r) for _ in range(count)), key=fp16_value)
    memory = {(a, lane): random_element(p, r, poison=poison) for a in range(addresses) for lane in range(p.lanes)}
    return Model(p, state_exponent, thresholds, memory)


def compare(p, vectors, model, **kwargs):
    run = run_engine(p, vectors, model, **kwargs)
    for vector in vectors:
        model.vector(vector)
    assert run.masks == model.masks
    assert run.repairs == model.repairs
    assert {key: run.memory[key] for key in model.memory} == model.memory
    assert run.status == {"overflow": model.overflow, "poisoned": model.poisoned}
    return run


SMALL = {"lanes": 4, "memory_lanes": 2, "outliers": 1}
REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SEGMENT = {"mask_operand": "values"}
FIXED = [
    (SMALL, 10),
    (SMALL | {"flip_repair": True}, 10),
    ({"lanes": 16, "memory_lanes": 4, "outliers": 1, "flip_repair": True}, 8),
    ({"lanes": 60, "memory_lanes": 12, "outliers": 4, "state_width": 20}, 14),
    ({"lanes": 12, "memory_lanes": 12, "outliers": 8, "digit_width": 8} | REPLAY, 0),
    ({"lanes": 12, "memory_lanes": 1, "outliers": 3, "digit_width": 2, "state_width": 16, "flip_repair": True}, 20),
    ({"lanes": 7, "memory_lanes": 7, "outliers": 0, "flip_repair": True}, 30),
    ({"lanes": 10, "memory_lanes": 2, "outliers": 8, "mask_width": 2} | SEGMENT, 12),
    ({"lanes": 8, "memory_lanes": 8, "outliers": 2, "mask_width": 4, "state_width": 17} | SEGMENT, 5),
]


@pytest.mark.parametrize(
    ("settings", "state_exponent", "pattern"),
    [(*FIXED[1], pattern) for pattern in PATTERNS] + [(*case, "both") for case in FIXED],
)
def test_fixed_state(settings, state_exponent, pattern):
    p = Parameters(**settings)
    r = random.Random(f"{settings}{pattern}")
    model = random_model(p, r, state_exponent)
    vectors = [random_vector(p, r, state_exponent) for _ in range(30)]
    stalls = 0.3 if pattern == "both" else 0.0
    compare(p, vectors, model, pattern=pattern, memory_latency=r.choice([1, 3, 9]), stalls=stalls)
    assert not model.poisoned


HALF = {"state_format": "float16"}
HALVES = [
    SMALL | HALF | {"flip_repair": True},
    {"lanes": 16, "memory_lanes": 1, "outliers": 1, "flip_repair": True} | HALF,
    {"lanes": 12, "memory_lanes": 12, "outliers": 8, "digit_width": 8, "pipeline_depth": 2} | REPLAY | HALF,
    {"lanes": 7, "memory_lanes": 7, "outliers": 0, "digit_width": 2} | HALF,
    {"lanes": 8, "memory_lanes": 2, "outliers": 2, "digit_width": 5, "mask_width": 3} | SEGMENT | HALF,
]


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [(HALVES[0], pattern) for pattern in PATTERNS] + [(settings, "both") for settings in HALVES[1:]],
)
def test_half_state(settings, pattern):
    p = Parameters(**settings)
    r = random.Random(f"{settings}{pattern}")
    model = random_model(p, r, 10)
    vectors = [random_vector(p, r, 10, spread=40) for _ in range(25)]
    stalls = 0.3 if pattern == "both" else 0.0
    compare(p, vectors, model, pattern=pattern, memory_latency=r.choice([1, 3, 9]), stalls=stalls)
    assert not model.poisoned


def test_half_poison():
    p = Parameters(**HALVES[0])
    r = random.Random(7)
    model = random_model(p, r, 10, poison=0.2)
    vectors = [random_vector(p, r, 10, poison=0.15, refresh=0.2) for _ in range(40)]
    vectors[3][0]["bias"][1] = 0x7C00
    compare(p, vectors, model)
    assert model.poisoned


def test_every_digit_at_every_exponent_as_half():
    p = Parameters(lanes=4, memory_lanes=4, outliers=0, digit_width=4, state_format="float16", pipeline_depth=1)
    digits = [list(range(-7, 1)), list(range(0, 8))]
    vectors = []
    for exponent in range(42 - 4 + 1):
        for start in range(0, 16, 4):
            group = {"exponent": exponent, "digits": sum(digits, [])[start : start + 4]}
            vectors.append([{"refresh": 1, "address": exponent, "group": group, "bias": [0] * 4}])
    compare(p, vectors, Model(p, 0, [], {}))


@pytest.mark.parametrize("exponent", [37, 38])
def test_half_clamps_with_status(exponent):
    p = Parameters(lanes=4, memory_lanes=4, outliers=0, digit_width=4, state_format="float16")
    group = {"exponent": exponent, "digits": [7, -7, 0, 1]}
    model = Model(p, 0, [], {})
    compare(p, [[{"refresh": 1, "address": 0, "group": group, "bias": [0] * 4}]], model)
    assert model.overflow is (exponent == 38)


@pytest.mark.parametrize("state_exponent", [0, 11, 24, 39])
def test_outliers_round_to_the_state(state_exponent):
    p = Parameters(lanes=4, memory_lanes=4, outliers=4)
    corners = [0x0001, 0x03FF, 0x0400, 0x3800, 0x3C00, 0x3E00, 0x4100, 0x4300, 0x7BFF, 0x6400, 0x6401, 0x2C00]
    r = random.Random(state_exponent)
    values = [value ^ sign for value in corners + [r.randrange(0x7C00) for _ in range(60)] for sign in (0, 0x8000)]
    vectors = []
    for start in range(0, len(values), 4):
        slots = [{"valid": 1, "lane": lane, "value": value} for lane, value in enumerate(values[start : start + 4])]
        group = {"exponent": min(39, max(state_exponent, 20)), "digits": [0] * 4, "outliers": slots}
        vectors.append([{"refresh": 1, "address": start, "group": group, "bias": [0] * 4}])
    compare(p, vectors, random_model(p, r, state_exponent))


def test_clamps_only_the_exact_sum():
    """A running sum far beyond the state may come back; only the final value counts."""
    p = Parameters(lanes=4, memory_lanes=4, outliers=0, state_width=24)
    model = Model(p, 0, [], {(0, lane): 7 for lane in range(4)})
    groups = [{"exponent": 39, "digits": [3, -3, 3, 0]}, {"exponent": 39, "digits": [-3, 3, 0, 0]}]
    vector = [{"refresh": 0, "address": 0, "group": group, "bias": [1, 2, 3, 4]} for group in groups]
    compare(p, [vector], model)
    assert [model.memory[0, lane] for lane in range(4)] == [8, 9, (1 << 23) - 1, 11]
    assert model.overflow


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_state_is_no_overflow(sign):
    p = Parameters(lanes=4, memory_lanes=2, outliers=0, state_width=16)
    group = {"exponent": 24, "digits": [sign * digit for digit in (0, 1, 2, 3)]}
    for start, overflow in ((32764, False), (32765, True)):
        model = Model(p, 24, [], {(5, lane): sign * start for lane in range(4)})
        compare(p, [[{"refresh": 0, "address": 5, "group": group, "bias": [0] * 4}]], model)
        assert model.overflow is overflow


def test_63_groups_are_exact():
    p = Parameters(lanes=4, memory_lanes=2, outliers=0, digit_width=8)
    model = Model(p, 0, [], {(0, lane): 7 for lane in range(4)})
    up = {"exponent": 34, "digits": [127, -127, 127, 127]}
    down = {"exponent": 34, "digits": [-127, 127, -127, 127]}
    groups = [up] * 31 + [down] * 31 + [{"exponent": 0, "digits": [1, 2, 3, 4]}]
    vector = [{"refresh": 0, "address": 0, "group": group, "bias": [0] * 4} for group in groups]
    compare(p, [vector], model)
    assert [model.memory[0, lane] for lane in range(3)] == [8, 9, 10]


@pytest.mark.parametrize("settings", [SMALL | {"flip_repair": True}, {"lanes": 8, "memory_lanes": 8, "outliers": 2}])
def test_poison(settings):
    p = Parameters(**settings)
    r = random.Random(7)
    model = random_model(p, r, 10, poison=0.2)
    vectors = [random_vector(p, r, 10, poison=0.15, refresh=0.2) for _ in range(40)]
    compare(p, vectors, model)
    assert model.poisoned


def test_a_refresh_ends_poison():
    p = Parameters(**SMALL)
    poison = {"exponent": 63, "digits": [0] * 4}
    zero = {"exponent": 62, "digits": [0] * 4}
    steps = [(0, poison), (0, zero), (1, zero)]
    vectors = [[{"refresh": refresh, "address": 3, "group": group, "bias": [5] * 4}] for refresh, group in steps]
    model = Model(p, 10, [], {(3, lane): 1 for lane in range(4)})
    run = compare(p, vectors, model)
    assert [mask["mask"] for mask in run.masks] == [[0] * 4, [0] * 4, [1] * 4]
    assert run.memory[3, 0] == 5


def test_a_non_finite_outlier_poisons_its_element():
    p = Parameters(**SMALL)
    slots = [{"valid": 1, "lane": 2, "value": 0x7C00}]
    group = {"exponent": 24, "digits": [1, 1, 0, 1], "outliers": slots}
    model = Model(p, 10, [], {(3, lane): 1 for lane in range(4)})
    run = compare(p, [[{"refresh": 0, "address": 3, "group": group, "bias": [5] * 4}]], model)
    assert run.masks[0]["mask"] == [1, 1, 0, 1]
    assert run.status["poisoned"]


def test_the_same_address_again_and_again():
    p = Parameters(**SMALL)
    r = random.Random(3)
    model = random_model(p, r, 10, addresses=1)
    vectors = [random_vector(p, r, 10, addresses=1, groups=2) for _ in range(30)]
    for vector in vectors:
        for group in vector:
            group["address"] = 0
    compare(p, vectors, model, memory_latency=7, stalls=0.3)


def test_addresses_that_share_an_entry_of_the_table():
    p = Parameters(**SMALL)
    r = random.Random(4)
    model = random_model(p, r, 10)
    vectors = [random_vector(p, r, 10) for _ in range(20)]
    for index, vector in enumerate(vectors):
        for group in vector:
            group["address"] = (0x41, 0x0, 0x82, 0xC3)[index % 4]  # all fold to 0
    compare(p, vectors, model, memory_latency=4)


def test_status_is_cleared():
    p = Parameters(**SMALL)
    poison = {"exponent": 63, "digits": [0] * 4}
    model = Model(p, 10, [], {})
    run = run_engine(p, [[{"refresh": 0, "address": 3, "group": poison, "bias": [5] * 4}]], model, clear_at=35)
    assert run.status == {"overflow": 0, "poisoned": 0}
    run = run_engine(p, [[{"refresh": 0, "address": 3, "group": poison, "bias": [5] * 4}]], model, clear_at=1)
    assert run.status == {"overflow": 0, "poisoned": 1}


@pytest.mark.parametrize("memory_latency", [1, 20, 50])
@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        {"lanes": 4, "memory_lanes": 4, "outliers": 0},
        {"lanes": 16, "memory_lanes": 4, "outliers": 1},
        {"lanes": 4, "memory_lanes": 2, "outliers": 0, "state_format": "float16"},
    ],
)
def test_a_word_every_clock(settings, memory_latency):
    """Single-pass vectors: from the first word read to the last, and written, no clock is lost."""
    p = Parameters(**settings)
    r = random.Random(5)
    model = random_model(p, r, 10)
    vectors = [random_vector(p, r, 10, groups=1, refresh=0) for _ in range(120)]
    for index, vector in enumerate(vectors):
        vector[0]["address"] = index
    run = compare(p, vectors, model, memory_latency=memory_latency)
    words = 120 * p.words_per_vector
    assert len(run.reads) == len(run.writes) == words
    assert run.reads[-1] - run.reads[0] == words - 1
    assert run.writes[-1] - run.writes[0] == words - 1


def test_a_refresh_reads_nothing():
    p = Parameters(**SMALL)
    r = random.Random(5)
    run = compare(p, [random_vector(p, r, 10, refresh=1) for _ in range(10)], random_model(p, r, 10))
    assert run.reads == []


@pytest.mark.parametrize("depth", [1, 2, 16])
@pytest.mark.parametrize("state_format", ["fixed", "float16"])
def test_pipeline_depth_and_latency(depth, state_format):
    p = Parameters(lanes=4, memory_lanes=4, outliers=1, pipeline_depth=depth, state_format=state_format)
    r = random.Random(6)
    model = random_model(p, r, 10)
    vectors = [random_vector(p, r, 10, groups=1, refresh=0)]
    run = compare(p, vectors, model)
    assert run.left[0] - run.taken[-1] == inspect(NearMemoryEngine(p)).latency


def test_throughput_in_words():
    assert inspect(NearMemoryEngine(preset("edge"))).throughput == "one group per 4 clocks (a memory word per clock)"
    assert inspect(NearMemoryEngine(Parameters(memory_lanes=16))).throughput == "one group per clock"


@pytest.mark.filterwarnings("ignore:.*created but never used")
def test_rejects():
    with pytest.raises(TypeError, match=r"^parameters must be Parameters, not 'edge'$"):
        NearMemoryEngine("edge")
    gc.collect()  # the refused component must go while its warning is ignored
