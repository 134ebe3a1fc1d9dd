"""Every FP16 pattern against the function in extended precision, checked itself against 60-digit decimals."""

import decimal
import math

import numpy as np
import pytest

from golden.units import activations
from golden.units.activations import activation

pytestmark = pytest.mark.golden

ALL = np.arange(2**16, dtype=np.uint16)
HALVES = ALL.view(np.float16)
FINITE = np.isfinite(HALVES)
X = np.where(FINITE, HALVES, np.float16(0)).astype(np.longdouble)


def reference(name):
    with np.errstate(over="ignore"):
        if name == "exp":
            return np.exp(X)
        if name == "silu":
            return X / (1 + np.exp(-X))
        if name == "erf_gelu":
            return X / 2 * np.array([math.erfc(-x / math.sqrt(2)) for x in X.astype(np.float64)])
        pi = np.longdouble("3.14159265358979323846264338327950288")
        u = np.sqrt(2 / pi) * (X + np.longdouble("0.044715") * X**3)
        return X / (1 + np.exp(-2 * u))  # x/2 (1 + tanh u)


def exact(name, x):
    """Decimal value to 60 digits, by the series of exp rather than the library's function."""
    with decimal.localcontext(decimal.Context(prec=90)):
        d = decimal.Decimal(float(x))

        def exp(y):
            halvings = 0
            while abs(y) > decimal.Decimal("0.01"):
                y, halvings = y / 2, halvings + 1
            term = total = decimal.Decimal(1)
            for i in range(1, 40):
                term = term * y / i
                total += term
            for _ in range(halvings):
                total *= total
            return total

        if name == "exp":
            return exp(d)
        if name == "silu":
            return d / (1 + exp(-d))
        pi = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
        if name == "erf_gelu":
            # erf z = 2 / sqrt(pi) (z - z^3 / 3 + z^5 / (2! 5) - ...): digits lost to the signs are there to spare
            term, total = d / decimal.Decimal(2).sqrt(), decimal.Decimal(0)
            for i in range(1200 if abs(d) < 13 else 0):
                total += term / (2 * i + 1)
                term *= -d * d / 2 / (i + 1)
            erf = 2 / pi.sqrt() * total if abs(d) < 13 else decimal.Decimal(1).copy_sign(d)
            return d / 2 * (1 + erf)
        return d / (1 + exp(-2 * (2 / pi).sqrt() * (d + decimal.Decimal("0.044715") * d**3)))


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_the_reference(name):
    """Extended precision is good to 50 bits (the error function of the library to 40), 2^-60 where FP16 sees 0."""
    bits = 40 if name == "erf_gelu" else 50
    values = reference(name)
    rng = np.random.default_rng(0)
    for pattern in rng.choice(ALL[FINITE & (np.abs(X) < 30)], 200):
        value = exact(name, HALVES[pattern])
        near = max(abs(value) * decimal.Decimal(2) ** -bits, decimal.Decimal(2) ** -60)
        assert abs(decimal.Decimal(repr(float(values[pattern]))) - value) <= near


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_every_pattern_within_one_unit_in_the_last_place(name):
    truth = reference(name)
    got = activation(name, ALL)
    assert (got.values[~FINITE] == 0x7E00).all() and (got.values[FINITE] & 0x7C00 != 0x7C00).all()
    beyond = FINITE & (truth >= 65520)
    assert (got.values[beyond] == 0x7BFF).all()
    values = np.where(FINITE, got.values.view(np.float16), 0).astype(np.longdouble)
    bounded = np.where(np.isfinite(truth), np.abs(truth), 1)
    unit = np.ldexp(np.longdouble(1), np.maximum(np.frexp(bounded)[1].astype(int) - 11, -24))
    error = (np.abs(values - truth) / unit)[FINITE & ~beyond]
    assert error.max() <= 0.76
    assert got.status == {"overflow": name == "exp", "poisoned": True}
    assert activation(name, [0x3C00]).status == {"overflow": False, "poisoned": False}


def test_known_values():
    def value(name, x):
        return float(activation(name, [np.float16(x).view(np.uint16)]).values.view(np.float16)[0])

    assert value("exp", 0.0) == value("exp", -0.0) == 1.0
    assert value("silu", 0.0) == value("gelu", -0.0) == value("erf_gelu", 0.0) == 0.0
    assert activation("silu", [0x8000]).values[0] == 0
    assert value("silu", 100.0) == value("gelu", 100.0) == value("erf_gelu", 100.0) == 100.0
    assert value("silu", -100.0) == value("gelu", -100.0) == value("erf_gelu", -100.0) == value("exp", -100.0) == 0.0
    assert value("exp", 65504) == value("gelu", 65504) == value("erf_gelu", 65504) == 65504.0


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_tables_are_small(name):
    table = activations.table(name)
    assert len(table.base) == len(table.delta) == len(table.unit) < 1400
    for numbers in (table.base, table.delta):
        assert np.abs(numbers).max() < 2**17  # 18 bits signed
    assert table.segments.shape == table.start.shape == (64,)
    assert activations.table(name) is table


def test_unknown_function():
    with pytest.raises(ValueError, match="^Activation must be one of the known names, not 'sulu'; did you mean silu?"):
        activation("sulu", [0])
