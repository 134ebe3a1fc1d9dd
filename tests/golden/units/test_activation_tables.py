"""Every argument of the fixed-point functions against the function in extended precision."""

import math

import numpy as np
import pytest

from golden.units import activation_tables
from golden.units.activation_tables import apply, table

pytestmark = pytest.mark.golden

NAMES = activation_tables.FUNCTIONS


def reference(name, x):
    x = np.asarray(x, np.longdouble)
    with np.errstate(over="ignore"):
        if name == "silu":
            return x / (1 + np.exp(-x))
        if name == "erf_gelu":
            return x / 2 * np.array([math.erfc(-float(v) / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)
        u = np.sqrt(2 / np.longdouble(math.pi)) * (x + np.longdouble("0.044715") * x**3)
        return x / (1 + np.exp(-2 * u))


@pytest.mark.parametrize("name", NAMES)
def test_every_argument(name):
    a = np.arange(2**18)
    even = table(name).even(a) * np.longdouble(2) ** -23
    real = a * np.longdouble(2) ** -14
    error = np.abs(even - (reference(name, real) - real / 2))
    assert error.max() < 2.0**-14.5
    assert even[0] == 0 and error[:256].max() < 2.0**-15.5  # h is flat at 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", [-40, -24, -22, -21, -14, -13, -10, -5, 0, 3, 4, 5, 30])
def test_any_unit(name, unit):
    rng = np.random.default_rng(unit + 50)
    z = np.concatenate([rng.integers(1 - 2**17, 2**17, 3000), np.arange(-20, 21), [2**17 - 1, 1 - 2**17]])
    real = z * np.longdouble(2) ** unit
    truth = reference(name, real)
    for result in (unit, unit - 3, unit + 2):
        x = apply(name, z, unit, result)
        error = np.abs(x * np.longdouble(2) ** result - truth)
        assert (error <= 2.0 ** (result - 1) + np.minimum(2.0**-14, np.abs(real) * 2.0**-6)).all()
        above, below = real >= 16, real <= -16
        assert (np.abs(x[above] - real[above] * 2.0**-result) <= 0.5).all() and not x[below].any()


@pytest.mark.parametrize("name", NAMES)
def test_small_values_keep_their_precision(name):
    """Values of 1e-9: half of them, to the last unit."""
    z = np.arange(1 - 2**17, 2**17, 97)
    assert np.array_equal(apply(name, z, -50, -51), z)


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_small(name):
    found = table(name)
    assert found.base.shape == found.delta.shape == (1024,)
    assert 0 <= found.base.min() and found.base.max() < 2**18
    assert 0 <= found.delta.min() and found.delta.max() < 2**10
    assert table(name) is found


def test_known_values():
    for name in NAMES:
        assert apply(name, [0, 16, -16, 10**5, -(10**5)], 0, 0).tolist() == [0, 16, 0, 10**5, 0]
    assert apply("silu", [1024], -10, -10).tolist() == [749]  # 0.7310586 * 1024 = 748.6


def test_unknown_function():
    with pytest.raises(ValueError, match="^Activation must be one of the known names, not 'sulu'; did you mean silu?"):
        apply("sulu", [0], 0, 0)
