"""Products that leave as groups: what the interpreter makes of them, against walks over elements with fractions."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from golden.machine import hazards, image
from golden.machine.accelerator import Accelerator, MachineError
from golden.machine.command import (
    UNIT_BYTES,
    Accumulate,
    Emit,
    LoadGroups,
    LoadScales,
    LoadWeights,
    Multiply,
    Operand,
    Stop,
    assemble,
)
from golden.parameters import preset
from golden.units.delta_group import DeltaGroups

pytestmark = pytest.mark.golden

UNITS = 1 << 10
PROGRAM, INPUT, WEIGHTS, SCALES, STATE, SPOOL, TABLES = range(7)
EACH = UNITS // 8
SIGNS, REPAIRS, LENGTHS = (Operand(TABLES, at) for at in (0, 32, 64))
LINES, WIDTH, ROWS = 2, 3, 2
SLOT = 8


def machine(*settings):
    """A machine with both dataflows, whose regions are equal parts of its memory."""
    p = preset("tiny").with_settings(['dataflows=["closed_loop","sign_mask"]', "rows=2", *settings])
    found = Accelerator(p, UNITS * UNIT_BYTES)
    for number, region in enumerate(found.regions):
        region.base, region.limit = EACH * number, EACH
    return found


def place(accelerator, operand, data):
    """Put bytes into memory."""
    begin = (EACH * operand.region + operand.offset) * UNIT_BYTES
    accelerator.memory[begin : begin + data.size] = np.asarray(data).ravel()


def taken(accelerator, operand, size):
    """Bytes of memory."""
    begin = (EACH * operand.region + operand.offset) * UNIT_BYTES
    return accelerator.memory[begin : begin + size]


def run(accelerator, *operations):
    """Run operations one after the other."""
    place(accelerator, Operand(PROGRAM), np.array(assemble([*operations, Stop()]), "<u4").view(np.uint8))
    accelerator.run(Operand(PROGRAM), EACH)


def drawn(p, generator, count):
    """Groups that are neither zero nor poisoned."""
    digits = generator.integers(-p.digit_max, p.digit_max + 1, (count, p.lanes))
    digits[:, 0] = 1
    return DeltaGroups.zeros(count, p).replace(exponent=generator.integers(0, 9, count), digits=digits)


def half(value):
    """The FP16 number nearest to a fraction (ties to even), clamped, as a fraction."""
    magnitude, exponent = abs(value), -14
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - 10)
    rounded = min(round(magnitude / unit) * unit, Fraction(65504))
    return rounded if value >= 0 else -rounded


def quantised(values, p, floor, static, passes):
    """Digits and outliers of a vector, in units of the state (numerics 3), pass by pass, as sums of all its groups."""
    top, kept, left = 2 ** (p.digit_width - 1) - 1, [Fraction(0)] * len(values), list(values)
    code = floor
    for number in range(passes):
        if not static and number == 0:
            while sum(2 * abs(one) >= (2**p.digit_width - 1) * 2**code for one in left) > p.outliers:
                code += 1
        over = [2 * abs(one) >= (2**p.digit_width - 1) * 2**code for one in left]
        room = len(left) if static and p.replays else p.outliers
        for lane, one in enumerate(left):
            if over[lane]:
                exact = number == 0 and sum(over[:lane]) < room
                sent = one if exact else (top if one > 0 else -top) * 2**code
                left[lane] = 0
            else:
                sent = round(one / 2**code) * 2**code
                left[lane] = one - sent
            kept[lane] += sent
        code = max(code - p.digit_width + 1, floor)
    return kept


POLICIES = {
    "group": [],
    "group, no outliers": ["outliers=0"],
    "group, four": ["outliers=4"],
    "saturate": ["exponent_policy=layer", "output_passes=1"],
    "replay": ["exponent_policy=layer", "overflow_policy=replay"],
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("link_form", ["direct", "compressed"])
@pytest.mark.parametrize("repairs", ["flip_repair=false", "flip_repair=true"])
def test_a_tile_becomes_groups_of_a_state_and_comes_back_masked(policy, link_form, repairs, fresh_seed):
    """Sums by fractions from memory alone; then the masked groups of the banks, by lanes."""
    generator = np.random.default_rng(fresh_seed)
    accelerator = machine(f"link_form={link_form}", repairs, *POLICIES[policy])
    p = accelerator.parameters
    n, static = p.lanes, p.exponent_policy == "layer"
    passes = 2 if p.exponent_policy == "group" or p.replays else 1
    floor, unit = int(generator.integers(2, 5)), int(generator.integers(-3, 4))
    positions = LINES * WIDTH
    sent = drawn(p, generator, ROWS * positions)
    spool = Emit(spool=Operand(INPUT), lengths=LENGTHS, slot=SLOT)
    for line in range(ROWS * LINES):
        accelerator._spool(spool, line, sent[line * WIDTH : (line + 1) * WIDTH], 1)
    weights, scale = generator.integers(-1000, 1001, (n, n)), generator.integers(8, 17, n)
    place(accelerator, Operand(WEIGHTS), image.pack_weights(weights, scale, p))
    factors = (generator.normal(0, 1, (ROWS, n)).astype(np.float16)).view(np.uint16)
    shifts = (generator.normal(0, 2.0**-18, (ROWS, n)).astype(np.float16)).view(np.uint16)
    place(accelerator, Operand(SCALES), image.pack_scales(factors, shifts))
    before = generator.integers(-40, 41, (ROWS * positions, n))
    place(accelerator, Operand(STATE), image.pack_vectors(before, p))
    signs = image.pack_signs(before >= 0)
    place(accelerator, SIGNS, signs)

    shape = {"height": LINES * ROWS, "width": WIDTH, "lines": LINES, "line_step": LINES, "rows": ROWS - 1}
    load = LoadGroups(source=Operand(INPUT), lengths=LENGTHS, slot=SLOT, groups=1, pitch=1, **shape)
    product = Multiply(
        lines=LINES, columns=WIDTH, channels=n, collected=n, rows=ROWS - 1, line_pitch=WIDTH, column_pitch=1,
        kernel_lines=1, kernel_columns=1, groups=1, floor=floor, unit=unit,
        leaves="groups", static=static, sent=passes - 1, scales=3, scales_step=1,
    )  # fmt: skip
    update = Accumulate(
        state=Operand(STATE), rows=ROWS - 1, row_step=positions, outer=LINES, outer_step=WIDTH, inner=WIDTH,
        inner_step=1, channels=n, positions=ROWS * positions, groups=True, origin=REPAIRS,
        signs=SIGNS, spool=Operand(SPOOL), lengths=LENGTHS.moved(16), slot=SLOT, sums_step=LINES,
    )  # fmt: skip
    run(
        accelerator,
        LoadWeights(source=Operand(WEIGHTS), records=n),
        LoadScales(source=Operand(SCALES), at=3, records=ROWS),
        load,
        product,
        update,
    )

    numbers = lambda patterns: [Fraction(float(one)) for one in patterns.view(np.float16)]  # noqa: E731
    state = image.unpack_vectors(taken(accelerator, update.state, before.size // n * 9).reshape(-1, 9), p)
    masks = image.unpack_signs(taken(accelerator, SIGNS, ROWS * positions).reshape(-1, 1), p)
    worth = image.unpack_vectors(taken(accelerator, REPAIRS, before.size // n * 9).reshape(-1, 9), p)
    deltas, sums = [], set()
    for vector in range(ROWS * positions):
        row = vector // positions
        digits, step = sent.digits[vector].tolist(), Fraction(2) ** int(sent.exponent[vector])
        added = numbers(shifts[row])
        values = []
        for lane, factor in enumerate(numbers(factors[row])):
            inner = sum(d * int(w) for d, w in zip(digits, weights[lane], strict=True))
            total = round(inner * step * Fraction(2) ** (int(scale[lane]) - 24))
            sums.add(total)
            values.append(half(total * factor * Fraction(2) ** (unit - 24) + added[lane]) * 2**24)
        deltas.append(quantised(values, p, floor, static, passes))
        wanted = [int(y) + int(d) for y, d in zip(before[vector], deltas[-1], strict=True)]
        wanted = [min(max(y, 1 - 2 ** (p.state_width - 1)), 2 ** (p.state_width - 1) - 1) for y in wanted]
        assert state[vector].tolist() == wanted
        assert masks[vector].tolist() == [y >= 0 for y in wanted]
        flips = [(new >= 0) != (old >= 0) for new, old in zip(wanted, before[vector], strict=True)]
        if p.flip_repair:
            assert worth[vector].tolist() == [abs(y) * flip for y, flip in zip(wanted, flips, strict=True)]
    assert len(sums) > 1
    assert accelerator.counters["chain_flips"] == (np.sign(state + 0.5) != np.sign(before + 0.5)).sum()

    most = passes + (n if p.replays else 0)
    place(accelerator, SIGNS, signs)
    back = LoadGroups(source=Operand(SPOOL), lengths=LENGTHS.moved(16), slot=SLOT, groups=1, sent=passes - 1,
                      masked=True, signs=SIGNS, passes=most - 1, pitch=most, half=True, **shape)  # fmt: skip
    run(accelerator, back)
    for row in range(ROWS):
        for place_of in range(positions):
            vector, begin = row * positions + place_of, row * p.group_buffer + place_of * most
            lanes = accelerator._banks[1][begin : begin + most].fixed().sum(axis=0)
            assert lanes.tolist() == [int(d) * (y >= 0) for d, y in zip(deltas[vector], before[vector], strict=True)]
    assert accelerator.counters["chain_mask_bits"] == ROWS * positions * n
    assert p.replays or not accelerator.counters["chain_replays"]


def cause(accelerator, *operations):
    """Why the last of these is refused."""
    with pytest.raises(MachineError) as refused:
        run(accelerator, *operations)
    return refused.value.cause


GROUP = LoadGroups(source=Operand(INPUT), slot=SLOT, lines=1, width=1, height=1, groups=1, pitch=1)
PRODUCT = Multiply(lines=1, columns=1, channels=4, collected=4, kernel_lines=1, kernel_columns=1, groups=1)
UPDATE = Accumulate(state=Operand(STATE), outer=1, inner=1, channels=4, positions=1, slot=SLOT)
BEFORE = (LoadWeights(source=Operand(WEIGHTS), records=4), LoadScales(source=Operand(SCALES), records=1))


@pytest.mark.parametrize(
    "change, why",
    [
        ([(0, {})], ""),
        ([(0, {"masked": True, "groups": 2, "pitch": 2})], "field"),
        ([(1, {"static": True})], "field"),
        ([(1, {"channels": 3, "collected": 3})], "field"),
        ([(1, {"scales": 256})], "buffer"),
        ([(1, {"leaves": "joint"})], "field"),
        ([(2, {"groups": False})], "field"),
        ([(2, {"summed": "channel"})], "field"),
        ([(2, {"biased": True, "bias_period": 1})], "field"),
        ([(2, {"exchanged": True, "tail": 1})], "field"),
        ([(2, {"outer": 2})], "field"),
        ([(2, {"inner": 2})], "field"),
        ([(2, {"slot": 0})], "field"),
        ([(2, {"signs": Operand(TABLES, EACH)})], "region"),
    ],
)
def test_what_breaks_a_rule(change, why):
    accelerator = machine("link_form=direct")
    p = accelerator.parameters
    place(accelerator, GROUP.source, image.pack_groups(DeltaGroups.zeros(8, p), p))
    given = [
        GROUP,
        dataclasses.replace(PRODUCT, leaves="groups"),
        dataclasses.replace(UPDATE, groups=True, spool=Operand(SPOOL)),
    ]
    for number, fields in change:
        given[number] = dataclasses.replace(given[number], **fields)
    if why:
        assert cause(accelerator, *BEFORE, *given) == why
    else:
        run(accelerator, *BEFORE, *given)


def test_more_groups_than_a_vector_has_room_for():
    """Replays come as data has them: too many for the bank end the program."""
    accelerator = machine("link_form=direct", *POLICIES["replay"])
    p = accelerator.parameters
    groups = DeltaGroups.zeros(2, p).replace(
        exponent=np.array([3, 3]), replay=np.array([False, True]), digits=np.array([[1, 0, 0, 0], [0, 0, 0, 0]]),
        outlier_valid=np.array([[False], [True]]), outlier_value=np.array([[0], [0x3C00]]),
    )  # fmt: skip
    accelerator._spool(Emit(spool=GROUP.source, lengths=LENGTHS, slot=SLOT), 0, groups, 1)
    load = dataclasses.replace(GROUP, lengths=LENGTHS)
    assert cause(accelerator, load) == "buffer"
    run(accelerator, dataclasses.replace(load, passes=1, pitch=2))
    assert accelerator._banks[0][:2].equals(groups).all()


def test_scales_that_were_not_loaded():
    accelerator = machine("link_form=direct")
    p = accelerator.parameters
    place(accelerator, GROUP.source, image.pack_groups(DeltaGroups.zeros(8, p), p))
    product = dataclasses.replace(PRODUCT, leaves="groups", scales=1, pop=("load",))
    update = dataclasses.replace(UPDATE, groups=True, spool=Operand(SPOOL))
    program = [*BEFORE, dataclasses.replace(GROUP, push=("multiply",)), product, update, Stop()]
    place(accelerator, Operand(PROGRAM), np.array(assemble(program), "<u4").view(np.uint8))
    with pytest.raises(hazards.Unloaded, match="must read what was loaded, not scales at 1$"):
        hazards.check(accelerator, Operand(PROGRAM), EACH)
