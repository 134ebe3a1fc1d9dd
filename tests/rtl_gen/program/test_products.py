"""Products of random shapes on random small machines: the interpreter against sums of Python integers."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from golden.machine import hazards, image
from golden.machine.command import LoadGroups, LoadWeights, Multiply, Operand, Stop, assemble, disassemble
from golden.machine.work import needed_groups
from golden.parameters import Parameters
from golden.units.closed_loop import accumulate, emit, functions
from golden.units.joint_stream import JointStream
from rtl_gen.program.memory import INPUTS, PROGRAMS, TABLES, Memory
from rtl_gen.program.near import emit as add_emission
from rtl_gen.program.products import (
    Bias,
    Buffers,
    Kernel,
    Piece,
    Product,
    Target,
    bias_vectors,
    compile_weights,
    multiply,
)
from rtl_gen.program.schedule import Schedule

pytestmark = pytest.mark.golden


def machines(rng):
    """Small parameters that a program must not care about."""
    n = int(rng.choice([4, 8, 16]))
    return Parameters(
        lanes=n,
        memory_lanes=4,
        digit_width=int(rng.integers(2, 6)),
        outliers=int(rng.integers(0, 3)),
        rows=int(rng.integers(1, 4)),
        columns=int(rng.choice([1, 2, 4, 5])),
        state_width=int(rng.integers(16, 21)),
        tile_positions=int(rng.choice([16, 32])),
        group_buffer=2048,
        weight_buffer=1024,
        link_form=str(rng.choice(["direct", "compressed"])),
        joint_width=int(rng.integers(8, 17)),
        accumulator_width=int(rng.choice([32, 40, 48])),
    )


def rounded(value):
    """Nearest integer of a fraction, ties to even."""
    return round(value)


def sums(groups, integers, exponents, p, lsb):
    """Sum of the groups of one output, as numerics 7 says: Python integers."""
    low, high = -(2 ** (p.accumulator_width - 1)), 2 ** (p.accumulator_width - 1) - 1
    total = 0
    for group, row, exponent in zip(groups, integers, exponents, strict=True):
        code, digits, outliers = group
        if code == 63:
            return None
        exact = Fraction(sum(int(q) * int(a) for q, a in zip(digits, row, strict=True))) * Fraction(2) ** (code - 24)
        if code == 62:
            exact = Fraction(0)
        exact += sum(Fraction(value) * int(row[lane]) for lane, value in outliers)
        total = min(max(total + rounded(exact * Fraction(2) ** (int(exponent) - lsb + 24)), low), high)
    return total


def listed(groups):
    """Groups as (code, digits, outliers): numbers that sums can take."""
    found = []
    for index in range(len(groups)):
        valid = groups.outlier_valid[index]
        values = groups.outlier_value[index].view(np.float16)
        outliers = [(int(groups.outlier_lane[index, slot]), float(values[slot])) for slot in np.flatnonzero(valid)]
        found.append((int(groups.exponent[index]), groups.digits[index].tolist(), outliers))
    return found


def zero(p):
    return 62, [0] * p.lanes, []


class Case:
    """One random product, its program and its oracle."""

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        p = self.p = machines(rng)
        n = p.lanes
        memory = self.memory = Memory(p)
        size = int(rng.choice([1, 3]))
        self.kernel = Kernel(size, size, stride=int(rng.integers(1, 3)), top=size // 2, left=size // 2)
        lines, width = int(rng.integers(2, 7)), int(rng.integers(2, 7))
        self.repeat = int(rng.integers(1, 3))
        channels = [int(rng.integers(1, 3 * n)) for _ in range(int(rng.integers(1, 3)))]
        outputs = int(rng.choice([1, 2, n // 2, n, n + 3, 2 * n]))
        unit = int(rng.integers(-20, -5))
        self.sources = [memory.tensor(f"in{i}", lines, width, c, unit + i) for i, c in enumerate(channels)]
        self.passes = [int(rng.integers(1, 3)) for _ in channels]
        self.emissions = [memory.emission(one.name, lines, width, one.channels, one.unit, 2) for one in self.sources]
        pieces = tuple(Piece(one, self.repeat) for one in self.emissions)
        reach = [extent * self.repeat + 2 * (size // 2) for extent in (lines, width)]
        out = [(extent - size) // self.kernel.stride + 1 for extent in reach]
        self.state = memory.tensor("out", *out, outputs, unit + int(rng.integers(2, 6)), summed="channel")
        weight = rng.normal(0, 0.3, (outputs, sum(channels), size * size)).astype(np.float16)
        self.weight = weight
        (weights,) = compile_weights(memory, weight.view(np.uint16), pieces, self.state.unit, 2)
        self.product = Product(
            "conv", pieces, self.kernel, weights, Target.whole(self.state, n), int(rng.integers(0, 4))
        )
        self.biases = rng.integers(-500, 500, (2, outputs))
        self.added = [Bias(memory.place(TABLES, image.pack_entries(bias_vectors(bias, n)))) for bias in self.biases]

    def program(self, step):
        schedule = Schedule(self.p)
        for source, emission, passes in zip(self.sources, self.emissions, self.passes, strict=True):
            add_emission(schedule, source, emission, passes, function="relu", start=step == 0)
        multiply(
            schedule,
            self.p,
            self.product,
            self.passes,
            buffers=Buffers(self.p),
            bias=self.added[step],
            start=step == 0,
            tag=step,
        )
        return [*schedule.commands, Stop()]

    # the oracle, position by position

    def expect(self, step, values):
        """Y after a step, and the sums of its channels, by plain integers."""
        p, n, kernel = self.p, self.p.lanes, self.kernel
        if step == 0:
            self.held = [np.zeros(one.shape, np.int64) for one in values]
            self.y = np.zeros((self.state.positions, self.state.channels), np.int64)
        tables = []
        for number, (source, passes) in enumerate(zip(self.sources, self.passes, strict=True)):
            x = np.clip(functions("relu", values[number], source.unit, source.unit), None, 2 ** (p.state_width - 2) - 1)
            padded = [np.pad(one, ((0, 0), (0, -source.channels % n))).reshape(-1, n) for one in (x, self.held[number])]
            sent = emit(*padded, p, passes, start=step == 0)
            self.held[number] = sent.xhat.reshape(source.positions, -1)[:, : source.channels]
            groups = listed(sent.groups)
            each = -(-source.channels // n) * passes
            tables.append([groups[position * each : (position + 1) * each] for position in range(source.positions)])
        integers, exponents = self.aligned()
        out = np.zeros((self.state.positions, self.state.channels), object)
        source = self.sources[0]
        height, width = source.lines * self.repeat, source.width * self.repeat
        most = max(self.passes)
        for position in range(self.state.positions):
            y, x = divmod(position, self.state.width)
            found, which = [], []
            for tap in range(kernel.lines * kernel.columns):
                dy, dx = divmod(tap, kernel.columns)
                row, column = y * kernel.stride + dy - kernel.top, x * kernel.stride + dx - kernel.left
                inside = 0 <= row < height and 0 <= column < width
                index = 0
                for number, passes in enumerate(self.passes):
                    each = -(-self.sources[number].channels // n)
                    place = row // self.repeat * source.width + column // self.repeat
                    for group in range(each):
                        for one in range(most):
                            there = inside and one < passes
                            found.append(tables[number][place][group * passes + one] if there else zero(p))
                            which.append((tap, index + group))
                    index += each
            for channel in range(self.state.channels):
                rows = [integers[channel, tap, group] for tap, group in which]
                places = [exponents[channel, tap, group] for tap, group in which]
                out[position, channel] = sums(found, rows, places, p, self.product.weights.unit)
        vectors = self.vectors(out)
        stream = JointStream(p, p.joint_width, self.product.floor)
        delta = self.elements(
            stream.fixed(stream.quantise(vectors.astype(np.int64), self.product.weights.unit - 24)[0])
        )
        before = self.y if step else np.zeros_like(self.y)
        self.y, _ = accumulate(before, delta, p, bias=self.biases[step])
        return self.y

    def aligned(self):
        """Integers and exponents of every group of weights: numerics 6 by fractions."""
        n, f = self.p.lanes, self.p.fraction_bits
        outputs, _, taps = self.weight.shape
        parts, places, start = [], [], 0
        for source in self.sources:
            for first in range(0, source.channels, n):
                part = np.zeros((outputs, taps, n))
                count = min(n, source.channels - first)
                part[:, :, :count] = self.weight[:, start + first : start + first + count].transpose(0, 2, 1)
                exponent = np.maximum(np.frexp(np.abs(part).max(axis=2))[1] - 1, -14)
                values = [rounded(Fraction(float(w)) * Fraction(2) ** (f - int(e)))
                          for w, e in zip(part.ravel(), np.repeat(exponent.ravel(), n), strict=True)]  # fmt: skip
                parts.append(np.array(values, object).reshape(outputs, taps, n))
                places.append(exponent - f + source.unit - self.state.unit)
            start += source.channels
        return np.stack(parts, axis=2), np.stack(places, axis=2)

    def vectors(self, out):
        n, channels = self.p.lanes, self.state.channels
        if channels >= n:
            return np.pad(out, ((0, 0), (0, -channels % n))).reshape(-1, n)
        flat = out.ravel()
        return np.pad(flat, (0, -len(flat) % n)).reshape(-1, n)

    def elements(self, vectors):
        channels = self.state.channels
        if channels >= self.p.lanes:
            return vectors.reshape(self.state.positions, -1)[:, :channels]
        return vectors.ravel()[: self.state.positions * channels].reshape(-1, channels)


def written(case, machine, tensor, values):
    """Put a tensor's values, (positions, channels), into memory."""
    n = case.p.lanes
    if tensor.channels >= n:
        vectors = np.pad(values, ((0, 0), (0, -tensor.channels % n))).reshape(-1, n)
    else:
        vectors = np.pad(values.ravel(), (0, -values.size % n)).reshape(-1, n)
    machine._write_vectors(tensor.data, np.arange(len(vectors)), vectors, "states")


def read(case, machine, tensor):
    vectors = machine._read_vectors(tensor.data, np.arange(tensor.vectors(case.p.lanes)), "states")
    return case.elements(vectors)


@pytest.mark.parametrize("seed", range(24))
def test_two_steps_of_a_product(seed):
    case = Case(seed)
    programs = [assemble(case.program(step)) for step in range(2)]
    places = [case.memory.place(PROGRAMS, words.view(np.uint8)) for words in programs]
    machine = case.memory.load()
    for step in range(2):
        top = 2 ** (case.p.state_width - 4)
        values = [case.rng.integers(-top, top, (one.positions, one.channels)) for one in case.sources]
        if step:  # few changes, some of them large
            for number, before in enumerate(case.before):
                changes = case.rng.integers(-40, 40, before.shape) * (case.rng.random(before.shape) < 0.4)
                values[number] = np.where(case.rng.random(before.shape) < 0.02, values[number], before + changes)
        case.before = values
        for tensor, value in zip(case.sources, values, strict=True):
            written(case, machine, tensor, value)
        hazards.check(machine, places[step], len(programs[step]))
        np.testing.assert_array_equal(read(case, machine, case.state), case.expect(step, values), f"seed {seed}")
        found = image.unpack_sums(
            machine._span(case.state.sums, 0, case.state.channels * image.SUM_BYTES).reshape(-1, image.SUM_BYTES)
        )
        np.testing.assert_array_equal(found.total, case.y.sum(axis=0))
        np.testing.assert_array_equal(found.square, (case.y**2).sum(axis=0))


@pytest.mark.parametrize("seed", range(6))
def test_a_program_with_one_token_less_is_refused(seed):
    """Every token is needed: without one of them something is not ordered, or a pop finds nothing."""
    case = Case(100 + seed)
    commands = case.program(0)
    tokens = [(number, other) for number, command in enumerate(commands) for other in getattr(command, "pop", ())]
    assert tokens
    for number, other in tokens:
        pop = tuple(engine for engine in commands[number].pop if engine != other)
        damaged = [*commands]
        damaged[number] = dataclasses.replace(commands[number], pop=pop)
        words = assemble(damaged)
        assert disassemble(words) == damaged
        memory = case.memory
        machine = memory.load()
        machine.memory = np.concatenate([machine.memory, np.zeros(words.nbytes, np.uint8)])
        machine.memory[-words.nbytes :] = words.view(np.uint8).ravel()
        machine.regions[INPUTS].base, machine.regions[INPUTS].limit = len(machine.memory) // 32 - len(words), len(words)
        with pytest.raises(hazards.Conflict):
            hazards.check(machine, Operand(INPUTS), len(words))


@pytest.mark.parametrize("seed", range(4))
def test_products_of_the_same_groups_load_them_once(seed):
    """Until a barrier: behind it another program may begin, and what its banks hold is not known."""
    case = Case(200 + seed)

    def commands(times, barrier=False):
        schedule, buffers = Schedule(case.p), Buffers(case.p)
        for source, emission, passes in zip(case.sources, case.emissions, case.passes, strict=True):
            add_emission(schedule, source, emission, passes, start=True)
        for _ in range(times):
            multiply(schedule, case.p, case.product, case.passes, buffers=buffers, bias=None, start=True)
            if barrier:
                schedule.barrier()
        return schedule.commands

    def loads(found):
        return sum(isinstance(command, LoadGroups) for command in found)

    once, twice = commands(1), commands(2)
    assert 0 < loads(once) == loads(twice)
    assert loads(commands(2, barrier=True)) == 2 * loads(once)
    assert needed_groups(twice) == 2 * needed_groups(once) > 0


@pytest.mark.parametrize("side, times", [(2, 1), (16, 2)])
def test_weights_come_once_for_images_where_they_bind(side, times):
    """Two images, four rows: of 16 x 16 positions the array works longer than weights take."""
    p = Parameters(lanes=8, memory_lanes=4, near_lanes=8, rows=4, columns=8, outliers=0, group_buffer=4096)
    memory = Memory(p)
    emission = memory.emission("x", side, side, 8, -10, 1, samples=2)
    (weights,) = compile_weights(memory, np.ones((16, 8, 9), np.float16).view(np.uint16), [Piece(emission)], -10, 1)
    target = Target.whole(memory.tensor("y", side, side, 16, -10, samples=2), 8)
    product = Product("conv", (Piece(emission),), Kernel(3, 3, top=1, left=1), weights, target, 0)
    schedule = Schedule(p)
    multiply(schedule, p, product, [1], buffers=Buffers(p), bias=None, start=True)
    records = sum(command.records for command in schedule.commands if isinstance(command, LoadWeights))
    assert records == times * 16 * 9
    assert needed_groups(schedule.commands) == 2 * side * side * 16 * 9


@pytest.mark.parametrize("lines, width, tiles", [(1, 256, [(1, 128), (1, 128)]), (256, 1, [(128, 1), (128, 1)])])
def test_tiles_are_no_longer_than_their_fields(lines, width, tiles):
    p = Parameters(lanes=4, memory_lanes=4, near_lanes=4, rows=1, tile_positions=256, group_buffer=4096)
    memory = Memory(p)
    emission = memory.emission("x", lines, width, 4, -10, 1)
    (weights,) = compile_weights(memory, np.ones((4, 4, 1), np.float16).view(np.uint16), [Piece(emission)], -10, 1)
    target = Target.whole(memory.tensor("y", lines, width, 4, -10), 4)
    schedule = Schedule(p)
    product = Product("linear", (Piece(emission),), Kernel(), weights, target, 0)
    multiply(schedule, p, product, [1], buffers=Buffers(p), bias=None, start=True)
    found = [(one.lines, one.columns) for one in schedule.commands if isinstance(one, Multiply)]
    assert found == tiles


def test_records_stand_in_the_order_of_the_loop():
    """Block by block, tap by tap, group by group, channel by channel."""
    p = Parameters(lanes=4, memory_lanes=4, columns=2, outliers=0)
    memory = Memory(p)
    emission = memory.emission("x", 2, 2, 8, -10, 1)
    weight = np.zeros((6, 8, 1), np.float16)
    weight[:, 0] = np.arange(1, 7)[:, None] / 8
    weight[:, 4] = np.arange(1, 7)[:, None] / 16
    (weights,) = compile_weights(memory, weight.view(np.uint16), [Piece(emission)], -10, 1)
    machine = memory.load()
    data = machine._span(weights.source, 0, 12 * image.weight_bytes(p)).reshape(12, -1)
    integers, scale = image.unpack_weights(data, p)
    real = integers[:, 0] * np.ldexp(1.0, scale - 24 + weights.unit)
    # vectors of 4 channels: blocks {0, 1}, {2, 3}, then {4, 5}; in each group 0 of its channels, then group 1
    assert real.tolist() == [1 / 8, 2 / 8, 1 / 16, 2 / 16, 3 / 8, 4 / 8, 3 / 16, 4 / 16, 5 / 8, 6 / 8, 5 / 16, 6 / 16]
    assert math.log2(abs(real[0])) == -3


def test_what_does_not_fit_is_refused_by_name():
    p = Parameters(lanes=16, group_buffer=16, weight_buffer=16)
    memory = Memory(p)
    source = memory.tensor("x", 4, 5, 32, -10)
    emission = memory.emission("x", 4, 5, 32, -10, 1)
    weight = np.ones((15, 32, 9), np.float16).view(np.uint16)
    (weights,) = compile_weights(memory, weight, [Piece(emission)], -10, 1)
    target = Target.whole(memory.tensor("y", 4, 5, 15, -10), 16)
    product = Product("conv", (Piece(emission),), Kernel(3, 3, top=1, left=1), weights, target, 0)

    def run(**changes):
        machine = dataclasses.replace(p, **changes)
        schedule = Schedule(machine)
        add_emission(schedule, source, emission, 1, start=True)
        multiply(schedule, machine, product, [1], buffers=Buffers(machine), bias=None, start=True)

    with pytest.raises(ValueError, match="^group_buffer must hold 3 lines of 14 groups for 'conv', not 16$"):
        run()
    with pytest.raises(ValueError, match="^weight_buffer must hold 72 records for 'conv', not 16$"):
        run(group_buffer=1024)
    with pytest.raises(ValueError, match="^Groups of a line of 'y' must take at most 65535 units, not 327675$"):
        memory.emission("y", 1, 65535, 256, -10, 1)
    sentence = "^tile_positions must hold 4 lines of 5 positions of 'conv' .fewer channels than lanes"
    with pytest.raises(ValueError, match=sentence):
        run(group_buffer=1024, weight_buffer=1024, tile_positions=2)
