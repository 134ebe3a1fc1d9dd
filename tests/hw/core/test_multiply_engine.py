"""The multiply engine's Verilog against the interpreter, sum by sum, on random operations, records and groups."""

import dataclasses
import math

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import Multiply, layout
from golden.machine.work import work
from golden.parameters import preset
from hw import payloads
from hw.control.engine import CAUSE_WIDTH, operation
from hw.core.banks import Banks
from hw.core.multiply_engine import MultiplyEngine, work_counts
from hw.core.weight_buffer import WeightBuffer
from rtl_gen.verilog.emission import emit
from sim import engine, stimuli
from sim.vectors import group_values

pytestmark = pytest.mark.cocotb

SHAPES = {
    "tiny": ["rows=2", "tile_positions=5", "group_buffer=60", "weight_buffer=50"],
    "edge": ["group_buffer=120", "weight_buffer=100", "lanes=8"],
    "wide": ["outliers=0", "lanes=12", "near_lanes=6", "columns=9", "rows=3", "memory_lanes=4", "tile_positions=4"],
    "one": ["outliers=2", "rows=1", "columns=1", "lanes=4", "near_lanes=4", "tile_positions=1", "accumulator_width=20"],
    "more": ["columns=16", "lanes=8", "near_lanes=8", "rows=1", "digit_width=5", "tile_positions=7"],
}


class Core(wiring.Component):
    """An engine that multiplies, and its buffers: operations begin once `writes` groups, records and scales have come.

    `results` are the streams in which its results leave.
    """

    def __init__(self, unit, *results):
        self._unit, self._results = unit, results
        self.parameters = parameters = unit.parameters
        scales = {name: member for name, member in unit.signature.members.items() if name == "scales"}
        super().__init__(
            {
                "operation": In(stream.Signature(operation("multiply", parameters.dataflows))),
                "groups": In(stream.Signature(payloads.bank_write(parameters))),
                "records": In(stream.Signature(payloads.weight_write(parameters))),
                "writes": In(32),
                **{result: unit.signature.members[result] for result in results},
                **scales,
                "counts": Out(stream.Signature(work_counts(parameters))),
                "error": Out(CAUSE_WIDTH),
                "overflow": Out(1),
                "poisoned": Out(1),
            }
        )

    def elaborate(self, platform):
        p, m = self.parameters, Module()
        m.submodules.banks = banks = Banks(p)
        m.submodules.weights = weights = WeightBuffer(p)
        m.submodules.engine = unit = self._unit
        connect(m, unit.banks, banks.read)
        connect(m, unit.weights, weights.read)
        connect(m, flipped(self.groups), banks.write)
        connect(m, flipped(self.records), weights.write)
        for result in self._results:
            connect(m, getattr(unit, result), flipped(getattr(self, result)))
        connect(m, unit.counts, flipped(self.counts))
        written = Signal(32)
        ready = written == self.writes
        came = self.groups.valid + self.records.valid
        if "scales" in self.signature.members:
            connect(m, flipped(self.scales), unit.scales)
            came = came + self.scales.valid
        m.d.sync += written.eq(written + came)
        m.d.comb += [
            unit.operation.valid.eq(self.operation.valid & ready),
            unit.operation.payload.eq(self.operation.payload),
            self.operation.ready.eq(unit.operation.ready),
            self.error.eq(unit.error),
            self.overflow.eq(unit.overflow),
            self.poisoned.eq(unit.poisoned),
        ]
        return m


def summing(p):
    return Core(MultiplyEngine(p), "sums")


def machine(shape):
    base = preset("edge" if shape == "edge" else "tiny")
    return base.with_settings([*SHAPES[shape], "state_width=18"])


@pytest.fixture(params=SHAPES, scope="module")
def core(request):
    return summing(machine(request.param))


def drawn(p, random):
    """An interpreter whose buffers are full, and the streams that fill the hardware's."""
    golden = Accelerator(p, 0)
    size = p.rows * p.group_buffer
    for half in range(2):
        groups = stimuli.delta_groups(random, size, p)
        # where all rows have a zero group, it is skipped
        nothing = np.tile(random.random(p.group_buffer) < random.choice([0, 0.3, 0.8]), p.rows)
        groups = groups.replace(
            exponent=np.where(nothing, 62, groups.exponent),
            digits=np.where(nothing[:, None], 0, groups.digits),
            outlier_valid=np.where(nothing[:, None], False, groups.outlier_valid),
            outlier_lane=np.where(nothing[:, None], 0, groups.outlier_lane),
            outlier_value=np.where(nothing[:, None], 0, groups.outlier_value),
        )
        golden._banks[half] = groups
    golden._weights[:] = stimuli.weights(random, (2 * p.weight_buffer, p.lanes), p).reshape(golden._weights.shape)
    aim = random.integers(-24, p.accumulator_width - 20)
    scales = random.integers(-12, 13, golden._scales.shape) + aim
    scales = np.where(random.random(scales.shape) < 0.05, random.integers(-220, 221, scales.shape), scales)
    golden._scales[:] = np.where(random.random(scales.shape) < random.choice([0, 0.03]), -256, scales)
    half, row, address = (each.ravel() for each in np.indices((2, p.rows, p.group_buffer)))
    both = type(golden._banks[0]).concatenate(golden._banks)
    groups = {"row": row, "half": half, "address": address, "group": group_values(both, p)}
    half, address = (each.ravel() for each in np.indices((2, p.weight_buffer)))
    record = {"scale": golden._scales.ravel(), "weights": golden._weights.reshape(-1, p.lanes)}
    records = {"half": half, "address": address, "record": record}
    return golden, groups, records


def drawn_tile(p, random):
    """The parts of a tile, which fit."""
    n, columns = p.lanes, p.columns
    collected = int(random.choice([n, n, int(random.integers(1, n + 1))]))
    room = p.tile_positions * -(-n // columns) // -(-collected // columns)
    positions = int(random.integers(1, min(room, 3 * p.tile_positions) + 1))
    widths = [width for width in range(1, positions + 1) if positions % width == 0]
    width = int(random.choice(widths))
    rows, first = int(random.integers(p.rows)), int(random.integers(0, min(2, collected)))
    parts = []
    while first < collected:
        kernel = [int(one) for one in random.integers(1, 4, 2)]
        passes = int(random.integers(0, 3))
        room = p.weight_buffer // math.prod(kernel)
        groups = int(random.integers(1, max(min(room, 4), 1) + 1))
        most = min(p.weight_buffer // (math.prod(kernel) * groups), collected - first)
        if not most:
            continue
        channels = int(random.integers(1, most + 1))
        pitches = [int(one) for one in random.integers(0, 5, 4)]
        counts = (positions // width, width, *kernel)
        end = sum((count - 1) * pitch for count, pitch in zip(counts, pitches, strict=True)) + groups * (passes + 1)
        records = channels * groups * math.prod(kernel)
        if end > p.group_buffer:
            continue
        parts.append(
            Multiply(
                half=bool(random.integers(2)),
                at=int(random.integers(p.group_buffer - end + 1)),
                weights_half=bool(random.integers(2)),
                weights_at=int(random.integers(p.weight_buffer - records + 1)),
                lines=positions // width,
                columns=width,
                channels=channels,
                rows=rows,
                line_pitch=pitches[0],
                column_pitch=pitches[1],
                kernel_lines=kernel[0],
                kernel_columns=kernel[1],
                kernel_pitch=pitches[2],
                tap_pitch=pitches[3],
                groups=groups,
                passes=passes,
                first=first,
                leave=False,
                collected=collected,
                floor=int(random.integers(43 - p.digit_width)),
                unit=int(random.integers(-128, 128)),
            )
        )
        first += channels + int(random.integers(0, 2))
    return [*parts[:-1], dataclasses.replace(parts[-1], leave=True)]


def expected(golden, operations):
    """What the interpreter makes of them: parts of sums, counts, and the cause of its error."""
    p, parts, counts = golden.parameters, [], []
    for c in operations:
        golden.counters.clear()
        try:
            golden._multiply(dataclasses.replace(c, leave=False))
        except MachineError as error:
            return parts, counts, error.cause
        counts.append([golden.counters[f"array_{name}"] for name in work_counts(p).members])
        if not c.leave:
            continue
        _, sums, lost = golden._collected
        golden._collected = None
        sums, lost = (each.reshape(c.rows + 1, -1) for each in (np.where(lost, 0, sums), lost))
        padding = ((0, 0), (0, -sums.shape[1] % p.lanes))
        sums, lost = (np.pad(each, padding).reshape(-1, p.near_lanes) for each in (sums, lost))
        for number, (values, flags) in enumerate(zip(sums.tolist(), lost.tolist(), strict=True)):
            last = (number + 1) * p.near_lanes % p.lanes == 0
            bits = sum(flag << lane for lane, flag in enumerate(flags))
            parts.append((values, bits, last, number == len(sums) - 1, c.floor, c.unit))
    return parts, counts, None


def check(core, operations, golden, groups, records, *, mode="both", seed=0):
    parts, counts, cause = expected(golden, operations)
    writes = len(groups["row"]) + len(records["half"])
    outcome = engine.run(
        core,
        np.zeros(0, np.uint8),
        [],
        operations,
        streams={"groups": groups, "records": records},
        settings={"writes": writes},
        mode=mode,
        seed=seed,
    )
    found = outcome.streams["sums"]
    fields = [found[name] for name in ("values", "poisoned", "last", "end", "floor", "unit")]
    for number, (got, part) in enumerate(
        zip(zip(*(field.tolist() for field in fields), strict=True), parts, strict=False)
    ):
        assert got == part, f"part {number} of {len(parts)}"
    assert len(fields[0]) == len(parts)
    names = work_counts(core.parameters).members
    if cause is None:
        assert np.stack([outcome.streams["counts"][name] for name in names], axis=1).tolist() == counts
    assert outcome.error == cause
    assert outcome.status["overflow"] == golden.status["overflow"]
    return outcome


@pytest.mark.parametrize("mode", ["none", "both", "reset"])
def test_against_the_interpreter(core, mode, fresh_seed):
    p = core.parameters
    for seed in (fresh_seed, fresh_seed + 1):
        random = np.random.default_rng(seed)
        golden, groups, records = drawn(p, random)
        operations = [part for _ in range(6) for part in drawn_tile(p, random)]
        check(core, operations, golden, groups, records, mode=mode, seed=seed % 1000)


FIELDS = {slot.name: slot for slot in layout(Multiply)}


def test_whatever_a_field_holds(core, fresh_seed):
    """The interpreter's cause, and the sums of the tile before; or its sums, where the operation is sound still."""
    p = core.parameters
    for seed in range(fresh_seed, fresh_seed + 8):
        random = np.random.default_rng(seed)
        golden, groups, records = drawn(p, random)
        before, tile = drawn_tile(p, random), drawn_tile(p, random)
        for _ in range(int(random.integers(1, 3))):
            part, slot = int(random.integers(len(tile))), FIELDS[str(random.choice(list(FIELDS)))]
            top = 1 << slot.width - slot.signed
            near = int(getattr(tile[part], slot.name)) + int(random.integers(-1, 2))
            value = random.choice([0, top - 1, near % top, int(random.integers(top))])
            kind = type(getattr(tile[part], slot.name))
            tile[part] = dataclasses.replace(tile[part], **{slot.name: kind(value)})
        positions = max(part.lines * part.columns for part in tile)
        if positions * max(math.prod((t.kernel_lines, t.kernel_columns, t.groups)) for t in tile) < 4_000:
            check(core, [*before, *tile], golden, groups, records, seed=seed % 1000)


CLOCKS = {  # fields of an operation, clocks of a group's records, and those beside them
    "a step per clock": ({"lines": 4, "columns": 4}, 16, 6),
    "two passes": ({"lines": 2, "columns": 4, "passes": 1}, 16, 6),
    "records take longer": ({"lines": 2, "columns": 1}, 5, 3),
    "sums come back too soon": ({"lines": 2, "columns": 1, "passes": 3}, 12, 5),
    "one position": ({"lines": 1, "columns": 1, "passes": 3}, 12, 4),
}


@pytest.mark.parametrize("fields, clocks, more", CLOCKS.values(), ids=CLOCKS)
def test_clocks(fields, clocks, more):
    p = machine("edge")
    random = np.random.default_rng(1)
    golden, groups, records = drawn(p, random)
    given = {"channels": 8, "rows": 1, "line_pitch": 9, "column_pitch": 2, "kernel_lines": 3, "kernel_columns": 3}
    given |= {"groups": 1, "kernel_pitch": 9, "tap_pitch": 2, "collected": 8, "leave": True} | fields
    tile = Multiply(**given)
    outcome = check(summing(p), [tile] * 4, golden, groups, records, mode="none")
    assert outcome.clocks[1:] == [2 * 9 * clocks + more] * 3
    # what the law predicts: at most the wait after the last group more
    assert 0 <= work(tile, p).clocks - outcome.clocks[1] <= 3


def test_every_signal_has_a_name():
    assert "signal_value" not in emit(MultiplyEngine(preset("tiny")), name="multiply_engine").text
