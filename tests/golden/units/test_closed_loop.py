import decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.parameters import Parameters
from golden.units.activations import activation
from golden.units.closed_loop import ClosedLoop, Norm, normalise, reciprocal_root_single, round_single
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_all

pytestmark = pytest.mark.golden


def single(value: Fraction) -> Fraction:
    """Nearest binary32 of a fraction, found between numpy's neighbours of its binary64 approximation."""
    near = np.float32(float(value))
    candidates = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    exact = [Fraction(float(c)) for c in candidates]
    best = min(abs(c - value) for c in exact)
    ties = [c for c, f in zip(candidates, exact, strict=True) if abs(f - value) == best]
    even = [c for c in ties if int(c.view(np.uint32)) % 2 == 0]
    return Fraction(float((even or ties)[0]))


@settings(max_examples=300)
@given(st.integers(-(2**60), 2**60), st.integers(1, 2**60), st.integers(-40, 40))
def test_round_single(numerator, denominator, scale):
    value = Fraction(numerator, denominator) * Fraction(2) ** scale
    assert Fraction(float(round_single(value))) == single(value)


def test_round_single_ties_and_ends():
    for value in (
        Fraction(2**24 + 1),
        Fraction(2**24 + 3),
        Fraction(2**25 - 1),
        Fraction(1, 3),
        Fraction(2**24 - 1, 2),
    ):
        for sign in (1, -1):
            assert Fraction(float(round_single(sign * value))) == single(sign * value)
    assert round_single(Fraction(3, 2**150)) == np.float32(2**-148)  # a tie of subnormals, to even
    assert round_single(Fraction(0)) == 0


@settings(max_examples=300)
@given(st.integers(1, 2**70), st.integers(1, 2**70))
def test_reciprocal_root(numerator, denominator):
    value = Fraction(numerator, denominator)
    with decimal.localcontext(decimal.Context(prec=90)):
        root = (decimal.Decimal(denominator) / decimal.Decimal(numerator)).sqrt()
    got = reciprocal_root_single(value)
    # No other binary32 is nearer; exact ties are squares and tested below.
    for other in (np.nextafter(got, np.float32(0)), np.nextafter(got, np.float32(np.inf))):
        assert abs(decimal.Decimal(float(got)) - root) <= abs(decimal.Decimal(float(other)) - root)


def test_reciprocal_root_of_squares():
    roots = [Fraction(1), Fraction(3, 8), Fraction(2**24 + 1, 2**20), Fraction(2**24 + 3), Fraction(1, 2**30)]
    # Next to a tie, by far less than the bits of the integer root.
    roots += [Fraction(2**24 + odd, 2**24) + side * Fraction(1, 2**90) for odd in (1, 3) for side in (1, -1)]
    for root in roots:
        assert Fraction(float(reciprocal_root_single(1 / root**2))) == single(root)


def naive_norm(y, sets, gamma, beta, epsilon, s, centred=True):
    """Sections 12.2 and 12.18 in fractions; the reciprocal root from 60 decimals."""
    result = np.zeros(y.shape, np.float64)
    unit = Fraction(2) ** s
    for index in set(sets.ravel().tolist()) - {-1}:
        members = [Fraction(int(v)) * unit for v in y[sets == index]]
        mean = sum(members) / len(members) if centred else Fraction(0)
        variance = sum(v * v for v in members) / len(members) - mean * mean + Fraction(float(np.float32(epsilon)))
        with decimal.localcontext(decimal.Context(prec=60)):
            root = (decimal.Decimal(variance.denominator) / decimal.Decimal(variance.numerator)).sqrt()
            rstd = single(Fraction(root))
        mean = single(mean)
        for position in zip(*np.nonzero(sets == index), strict=True):
            t = single(int(y[position]) * unit - mean)
            u = single(t * rstd)
            v = single(u * Fraction(float(gamma[position])))
            result[position] = float(single(v + Fraction(float(beta[position]))))
    return result


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("s", [-16, -10, -3])
def test_norm_against_fractions(s, centred):
    rng = np.random.default_rng(-s)
    y = rng.integers(-(2**23) + 1, 2**23, (10, 8)) >> rng.integers(0, 20, (10, 1))
    sets = rng.integers(-1, 4, (10, 8))
    gamma, beta = rng.standard_normal((2, 10, 8)).astype(np.float32)
    norm = Norm(sets, gamma, beta, 1e-5, centred)
    z, poisoned = normalise(y, np.zeros(y.shape, bool), norm, s)
    assert z.dtype == np.float32 and not poisoned.any()
    assert np.array_equal(z.astype(np.float64), naive_norm(y, sets, gamma, beta, 1e-5, s, centred))


def test_sums_of_a_large_set_are_exact():
    """2^17 elements of 23 bits: sum Y^2 passes 2^63."""
    y = np.full((2**14, 8), 2**23 - 1)
    y[0, 0] = -(2**23 - 1)
    z, _ = normalise(y, np.zeros(y.shape, bool), Norm(np.zeros(y.shape, int)), 0)
    size, top = 2**17, 2**23 - 1
    mean = Fraction(top * (size - 2), size)
    variance = Fraction(top * top) - mean * mean + Fraction(float(np.float32(1e-5)))
    with decimal.localcontext(decimal.Context(prec=60)):
        rstd = single(Fraction((decimal.Decimal(variance.denominator) / decimal.Decimal(variance.numerator)).sqrt()))
    expected = [float(single(single(v - single(mean)) * rstd)) for v in (-top, top)]
    assert [float(z[0, 0]), float(z[1, 1])] == expected


def loop(function, norm=None, s=-10, vectors=6, **arguments):
    parameters = Parameters(lanes=8, memory_lanes=4, **{"outliers": 0, **arguments})
    return ClosedLoop(parameters, vectors, state_exponent=s, function=function, norm=norm), parameters


def fill(machine, parameters, rng, s, size=4.0, refresh=True):
    values = (rng.standard_normal(machine.y.shape) * size).astype(np.float16).view(np.uint16)
    result = quantise_all(values, parameters, 4, floor=s + 24)
    machine.update(result.groups, address=result.vector, last=result.last, refresh=refresh)


@pytest.mark.parametrize("function", ["identity", "relu", "silu", "gelu", "exp"])
@pytest.mark.parametrize("normed", [False, True])
def test_x_is_the_function_rounded_once(function, normed):
    rng = np.random.default_rng(3)
    sets = np.repeat([[0] * 4 + [1] * 4], 6, axis=0)
    sets[5, 7] = -1
    norm = Norm(sets, 1.5, -0.25) if normed else None
    machine, parameters = loop(function, norm)
    fill(machine, parameters, rng, -10, size=1.5)
    z = machine.y / 1024
    if normed:
        ones = np.ones((6, 8), np.float32)
        z = naive_norm(machine.y, sets, 1.5 * ones, -0.25 * ones, 1e-5, -10)
    if function == "relu":
        exact = np.maximum(z, 0)
    elif function == "identity":
        exact = z
    else:
        half = z.astype(np.float16).view(np.uint16)
        exact = activation(function, half).values.view(np.float16).astype(np.float64)
    expected = np.rint(exact * 1024)
    expected[sets == -1] = np.where(normed, 0, expected[sets == -1])
    x, status = machine.activate()
    assert np.array_equal(x, expected)
    assert status == {"overflow": False, "poisoned": False}


@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("arguments", [{}, {"outliers": 2}, {"digit_width": 5}], ids=str)
def test_consumers_hold_xhat(passes, arguments):
    """Over many steps: what was sent sums up to Xhat exactly, and what is missing is at most half of the last step."""
    rng = np.random.default_rng(passes)
    machine, parameters = loop("silu", **arguments)
    held = np.zeros((6, 8))
    for step in range(12):
        fill(machine, parameters, rng, -10, size=4.0 if step == 0 else 0.2, refresh=step == 0)
        before = held.copy()
        emitted = machine.emit(passes)
        np.add.at(held, emitted.vector, emitted.groups.dequantise())
        assert np.array_equal(machine.xhat / 1024, held)
        assert emitted.last.sum() == 6 and len(emitted.groups) == 6 * passes
        # The error is a fraction of the last delta alone: it does not grow with the steps.
        lost = np.abs(emitted.x / 1024 - held).max(axis=1)
        sent = np.abs(emitted.x / 1024 - before).max(axis=1)
        steps = 2 ** (parameters.digit_width - 1)
        assert (lost <= np.maximum(sent / (steps - 1) / steps ** (passes - 1), 2.0**-10) + 1e-12).all()
        assert emitted.status == {"overflow": False, "poisoned": False, "saturated": False}


def test_a_constant_input_is_reached():
    rng = np.random.default_rng(0)
    machine, parameters = loop("gelu")
    fill(machine, parameters, rng, -10)
    for _ in range(12):
        emitted = machine.emit()
    assert np.array_equal(machine.xhat, emitted.x) and emitted.groups.zero.all()


def test_poison_spreads_through_the_norm_and_ends_with_a_refresh():
    rng = np.random.default_rng(1)
    sets = np.repeat([[0] * 4 + [1] * 4], 6, axis=0)
    sets[:2] += 2
    machine, parameters = loop("relu", Norm(sets))
    fill(machine, parameters, rng, -10)
    machine.emit(4)
    good = machine.xhat.copy()
    machine.update(DeltaGroups.poison(1, parameters), address=0)
    emitted = machine.emit(4)
    assert emitted.status["poisoned"] and not emitted.status["overflow"]
    assert (emitted.x[:2] == -(2**23)).all() and not (emitted.x[2:] == -(2**23)).any()
    assert emitted.groups.poisoned.tolist() == [True] * 8 + [False] * 16
    assert (machine.xhat[:2] == -(2**23)).all() and np.array_equal(machine.xhat[2:], emitted.x[2:])
    fill(machine, parameters, np.random.default_rng(1), -10)
    assert machine.emit(4).groups.poisoned[:8].all()  # the consumers' sums are still poisoned
    emitted = machine.emit(4, refresh=True)
    assert not emitted.status["poisoned"] and np.array_equal(machine.xhat, good)


def test_overflow_is_not_hidden():
    machine, parameters = loop("exp", s=-10, state_width=16)
    groups = DeltaGroups.zeros(1, parameters).replace(exponent=np.array([24]), digits=np.array([[3] * 8]))
    machine.update(groups, address=0)
    machine.update(groups, address=0)
    x, status = machine.activate()
    assert x[0, 0] == 2**15 - 1 and status["overflow"]  # exp(6) = 403 needs 19 bits
    assert machine.emit(3).status["overflow"]
    machine, _ = loop("exp", s=-10)
    machine.y[0, 0] = 12 << 10
    assert machine.activate()[1]["overflow"]  # beyond FP16
    machine, _ = loop("silu", s=-3)
    machine.y[0, :2] = 2**22, -(2**22)  # z = +-524288 is clamped to 65504 on its way into the table
    x, status = machine.activate()
    assert x[0, :2].tolist() == [65504 * 8, 0] and status == {"overflow": True, "poisoned": False}
    layer, parameters = loop("identity", exponent_policy="layer", output_passes=1)
    layer.y[0, 0] = 100
    emitted = layer.emit(exponent=14)
    assert emitted.status["saturated"] and layer.xhat[0, 0] == 3 and emitted.groups.exponent[0] == 14


def test_bad_arguments():
    with pytest.raises(ValueError, match="^state_format must be fixed in the closed loop, not float16$"):
        loop("relu", state_format="float16")
    with pytest.raises(ValueError, match=r"^state_exponent must be in -24\.\.15, not 16$"):
        loop("relu", s=16)
    with pytest.raises(ValueError, match="^Activation must be one of the known names, not 'tanh'; "):
        loop("tanh")
    with pytest.raises(ValueError, match=r"^sets of the norm must have the shape \(6, 8\), not \(1, 8\)$"):
        loop("relu", Norm(np.zeros((1, 8))))
    with pytest.raises(ValueError, match="^gamma must be finite, not nan$"):
        Norm(np.zeros((1, 8)), gamma=np.nan)
    with pytest.raises(ValueError, match="^epsilon must be positive and finite, not 0$"):
        Norm(np.zeros((1, 8)), epsilon=0)
    machine, _ = loop("relu")
    with pytest.raises(ValueError, match=r"^exponent must be at least state_exponent \+ 24 = 14, not 13$"):
        machine.emit(exponent=13)
