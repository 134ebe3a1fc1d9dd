"""State, emission and align of the closed loop against plain walks; Xhat never clamps."""

import itertools
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.activation_tables import apply
from golden.units.closed_loop import accumulate, activation_max, align, emit, functions
from golden.units.norm import Affine, affine, coefficients, normalise, variance_floor
from golden.units.state_quantizer import quantise_state

pytestmark = pytest.mark.golden

POISON = -(2**17)


def machine(**arguments):
    return Parameters(**{"lanes": 8, "memory_lanes": 4, "outliers": 0, "state_width": 18, **arguments})


def half(value: Fraction) -> Fraction:
    """Nearest FP16 number of a multiple of ``2^-24`` below 1."""
    exponent = -24
    while abs(round(value / Fraction(2) ** exponent)) >= 2**11:
        exponent += 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


def walk(row, k, m, passes):
    """Sections 3.2 to 3.5 and 3.8 on integers, by definition: what each lane adds up to, and the exponents."""
    fits = lambda v, e: abs(round(Fraction(v, 2**e))) <= 2 ** (k - 1) - 1  # noqa: E731
    e = next(e for e in itertools.count() if sum(not fits(v, e) for v in row) <= m)
    total, exponents = [], []
    for v in row:
        sent, at, left = 0, e, v
        if not fits(v, e):
            total.append(int(half(Fraction(v, 2**24)) * 2**24))
            continue
        for _ in range(passes):
            q = round(Fraction(left, 2**at))
            assert abs(q) <= 2 ** (k - 1) - 1
            sent, left = sent + q * 2**at, left - q * 2**at
            at = max(at - (k - 1), 0)
        total.append(sent)
    for number in range(passes):
        exponents.append(max(e - number * (k - 1), 0))
    return total, exponents


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("m", [0, 1, 3])
def test_the_quantiser_against_its_definition(k, m):
    rng = np.random.default_rng([k, m])
    parameters = machine(digit_width=k, outliers=m)
    rows = np.rint(rng.standard_normal((60, 8)) * np.exp2(rng.integers(0, 16, (60, 1)))).astype(np.int64)
    rows[rng.random((60, 8)) < 0.1] *= 8
    rows[:20, :3] = ((2**k - 1) << np.arange(20) // 2)[:, None] + np.array([-1, 0, 1])  # around the borders
    for passes in (1, 2, 5):
        result = quantise_state(rows, parameters, passes)
        total = np.zeros(rows.shape, np.int64)
        np.add.at(total, result.vector, result.groups.fixed())
        codes = result.groups.exponent.reshape(60, passes)
        for row, sent, code in zip(rows.tolist(), total.tolist(), codes.tolist(), strict=True):
            expected, exponents = walk(row, k, m, passes)
            assert sent == expected
            assert all(c in (e, 62) for c, e in zip(code, exponents, strict=True))
        assert result.last.sum() == 60 and not any(result.status.values())


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("k, m", list(itertools.product(range(2, 6), (0, 1))))
def test_xhat_never_clamps_exhaustively(width, k, m):
    """Every pair of lanes (x, Xhat) that can meet, one lane deciding and one carried along (numerics, 12.10)."""
    top, most = 2 ** (width - 2) - 1, 2 ** (width - 1) - 1
    lanes = 2 + m
    x, held = np.meshgrid(np.arange(-top, top + 1), np.arange(-most, most + 1))
    x, held = x.ravel(), held.ravel()
    difference = x - held
    worst = 0
    for decisive in np.unique(difference):
        rows = np.zeros((len(x), max(lanes, 4)), np.int64)
        rows[:, 0] = difference
        rows[:, 1 : 1 + lanes - 1] = decisive
        sent = quantise_state(rows, machine(lanes=max(lanes, 4), memory_lanes=1, digit_width=k, outliers=m))
        after = held + sent.groups.fixed()[:, 0]
        worst = max(worst, int(np.abs(after).max()))
    assert worst <= most
    if k == 2 and not m:
        assert worst == most  # the bound is reached


@pytest.mark.parametrize("k, m", list(itertools.product((2, 3, 4, 8), (0, 1, 2))))
@pytest.mark.parametrize("width", [16, 18, 24])
def test_xhat_never_clamps_at_full_scale(k, m, width):
    rng = np.random.default_rng([k, m, width])
    parameters = machine(digit_width=k, outliers=m, state_width=width)
    top, most = activation_max(parameters), 2 ** (width - 1) - 1
    xhat = np.zeros((200, 8), np.int64)
    for _ in range(30):
        x = rng.choice([-top, top, 1 - top, top - 1, 0], xhat.shape)
        x[:, :4] = rng.integers(-top, top + 1, (200, 4))
        emitted = emit(x, xhat, parameters)
        xhat = emitted.xhat
        assert np.abs(xhat).max() <= most and not emitted.status["poisoned"]


def test_an_exact_emission_forgets_what_digits_missed():
    """The same groups, but Xhat is x: digits of one pass miss the next time what they missed now."""
    p, rng = machine(digit_width=3, outliers=1), np.random.default_rng(2)
    x, xhat = rng.integers(-5000, 5001, (40, 8)), rng.integers(-5000, 5001, (40, 8))
    x[3, 1], xhat[5, 2] = POISON, POISON
    usual, exact = (emit(x, xhat, p, 2, exact=flag) for flag in (False, True))
    for name in ("exponent", "digits", "outlier_value"):
        np.testing.assert_array_equal(getattr(exact.groups, name), getattr(usual.groups, name))
    lost = np.isin(np.arange(40), (3, 5))[:, None]
    np.testing.assert_array_equal(exact.xhat, np.where(lost, POISON, x))
    assert (usual.xhat != exact.xhat).any()
    again = emit(x, exact.xhat, p, 2, exact=True)
    assert again.groups.zero[np.repeat(~lost[:, 0], 2)].all()  # nothing has changed, so nothing is sent
    started = emit(x, xhat, p, 2, start=True, exact=True)
    np.testing.assert_array_equal(started.xhat[5], x[5])


def test_state_adds_and_clamps():
    p = machine()
    state = np.array([5, -7, 2**17 - 2, 2 - 2**17, POISON, POISON, 3, 0])
    delta = np.array([1, 2, 9, -9, 4, 4, 5, 0])
    lost = np.array([0, 0, 0, 0, 0, 0, 1, 0], bool)
    found, status = accumulate(state, delta, p, bias=-(2**17), poisoned=lost)
    assert found.tolist() == [6 - 2**17, 1 - 2**17, 9 - 2, 1 - 2**17, POISON, POISON, POISON, 1 - 2**17]
    assert status == {"overflow": True, "poisoned": True}
    assert accumulate(state, 0, p) == (pytest.approx(state), {"overflow": False, "poisoned": False})
    with pytest.raises(ValueError, match=r"^state must be signed integers of 18 bits, not 131072\.\.131072$"):
        accumulate([2**17], 0, p)
    with pytest.raises(ValueError, match=r"^bias must be signed integers of 19 bits, not 262144\.\.262144$"):
        accumulate([0], 0, p, bias=2**18)


@pytest.mark.parametrize("fraction", [10, 12, 16])
def test_align(fraction):
    p = machine(fraction_bits=fraction)
    rng = np.random.default_rng(fraction)
    values = np.rint(rng.standard_normal((300, 8)) * np.exp2(rng.integers(0, 15, (300, 1)))).astype(np.int64)
    values = np.clip(values, 1 - 2**17, 2**17 - 1)
    values[:4, 0] = 2 ** (fraction + 1) - 1, 2 ** (fraction + 1), 1 - 2**17, 2**17 - 1
    values[4, 3] = POISON
    found = align(values, p)
    assert found.poisoned.tolist() == [row == 4 for row in range(300)]
    for row, weights, e in zip(
        values[5:].tolist(), found.weights[5:].tolist(), found.exponent[5:].tolist(), strict=True
    ):
        least = next(
            e for e in itertools.count() if all(abs(round(Fraction(v, 2**e))) < 2 ** (fraction + 1) for v in row)
        )
        assert e == least and weights == [round(Fraction(v, 2**e)) for v in row]
    assert not found.weights[4].any()


@pytest.mark.parametrize("name", ["identity", "relu"])
@pytest.mark.parametrize("unit, result", [(-13, -13), (-13, -14), (-14, -11), (20, 20), (-60, -60)])
def test_what_no_table_says_is_rounded_once(name, unit, result):
    z = np.random.default_rng(unit + 70).integers(-(2**17), 2**17, 200)
    real = [Fraction(v if name == "identity" else max(v, 0)) * Fraction(2) ** unit for v in z.tolist()]
    assert functions(name, z, unit, result).tolist() == [round(v / Fraction(2) ** result) for v in real]


@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("arguments", [{}, {"outliers": 2}, {"digit_width": 5}], ids=str)
def test_consumers_hold_xhat(passes, arguments):
    """Over many steps: what was sent sums up to Xhat exactly, and what is missing is at most half of the last step."""
    rng, p = np.random.default_rng(passes), machine(**arguments)
    x, xhat, held = (np.zeros((6, 8), np.int64) for _ in range(3))
    for step in range(12):
        x = np.clip(x + np.rint(rng.standard_normal(x.shape) * (300 if step else 8000)).astype(np.int64), -65535, 65535)
        before = held.copy()
        emitted = emit(x, xhat, p, passes, start=step == 0)
        xhat = emitted.xhat
        np.add.at(held, emitted.vector, emitted.groups.fixed())
        assert np.array_equal(xhat, held)
        assert emitted.last.sum() == 6 and len(emitted.groups) == 6 * passes
        lost, sent = np.abs(x - held).max(axis=1), np.abs(x - before).max(axis=1)
        steps = 2 ** (p.digit_width - 1)
        assert (
            lost <= np.maximum(sent / (steps - 1) / steps ** (passes - 1), 16 if "outliers" in arguments else 0)
        ).all()
        assert emitted.status == {"poisoned": False}


def test_a_constant_input_is_reached():
    x, xhat = np.random.default_rng(0).integers(-65535, 65536, (6, 8)), np.zeros((6, 8), np.int64)
    for _ in range(12):
        emitted = emit(x, xhat, machine())
        xhat = emitted.xhat
    assert np.array_equal(xhat, x) and emitted.groups.zero.all()


def test_poison_of_what_readers_hold_ends_with_a_start():
    rng, p = np.random.default_rng(1), machine()
    x = rng.integers(-65535, 65536, (6, 8))
    good = emit(x, np.zeros_like(x), p, 4).xhat
    damaged = np.where(np.arange(48).reshape(6, 8) == 3, POISON, x)
    emitted = emit(damaged, good, p, 4)
    assert emitted.status["poisoned"] and emitted.groups.poisoned.tolist() == [True] * 4 + [False] * 20
    assert (emitted.xhat[0] == POISON).all() and not (emitted.xhat[1:] == POISON).any()
    assert emit(x, emitted.xhat, p, 4).groups.poisoned[:4].all()  # the consumers' sums are still poisoned
    again = emit(x, emitted.xhat, p, 4, start=True)
    assert not again.status["poisoned"] and np.array_equal(again.xhat, good)


def test_the_worked_example_of_the_document():
    page = (Path(__file__).resolve().parents[3] / "docs/closed-loop.md").read_text()
    section = page.split("\n## 12. ")[1].split("\n### ")[0]
    rows = dict(re.findall(r"^\| (.*?) \| (.*?) \| \d+ \|$", section, re.MULTILINE))
    said = {name.replace("`", ""): [int(v) for v in re.findall(r"-?\d+", text)] for name, text in rows.items()}
    y = np.array(said["Y"])
    total, square = np.array([y.sum()]), np.array([(y**2).sum()])
    floor = variance_floor(1e-5, 4, -12)
    assert said["S1, S2, K"] == [total[0], square[0], floor]
    assert said["D"] == [4 * square[0] - total[0] ** 2 + floor]
    found = coefficients(total, square, 4, floor)
    assert said["mean, r, rho"] == [found.mean[0], found.root[0], found.exponent[0]]
    u, _ = normalise(y, found.mean, found.root, found.exponent)
    tables = Affine.of(1.5, 0.25, -13)
    z, _ = affine(u, tables, 2**17 - 1)
    x = apply("silu", z, -13, -13)
    assert said["u"] == u.tolist() and said["G, B, h"] == [tables.gain, tables.shift, tables.places]
    assert said["z"] == z.tolist() and said["x"] == x.tolist()
    before = np.array(said["Xhat before"])
    emitted = emit(x[None], before[None], machine(lanes=4, digit_width=3), 2)
    assert said["d"] == (x - before).tolist()
    for number in (0, 1):
        groups = emitted.groups[number : number + 1]
        assert said[f"codes, digits of pass {number}"] == [*groups.exponent, *groups.digits[0]]
    assert said["Xhat after"] == emitted.xhat[0].tolist()
    assert len(said) == 13


def test_bad_arguments():
    with pytest.raises(ValueError, match="^exponent_policy must be group in the closed loop, not layer$"):
        quantise_state(np.zeros((1, 8), int), machine(exponent_policy="layer", output_passes=1))
    with pytest.raises(ValueError, match="^Activation must be one of the known names, not 'tanh'; "):
        functions("tanh", 0, 0, 0)
    with pytest.raises(ValueError, match="^passes must be a positive integer, not 0$"):
        quantise_state(np.zeros((1, 8), int), machine(), 0)
    with pytest.raises(ValueError, match=r"^differences must have the shape \(vectors, 8\), not \(1, 4\)$"):
        quantise_state(np.zeros((1, 4), int), machine())
    with pytest.raises(ValueError, match=r"^differences must be below 2\^26, not 67108864$"):
        quantise_state(np.full((1, 8), 2**26), machine())
