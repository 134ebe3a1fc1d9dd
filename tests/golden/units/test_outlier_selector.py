import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.outlier_selector import outlier_selector

pytestmark = pytest.mark.golden


def naive(flags, values, m):
    lanes = [i for i, flag in enumerate(flags) if flag]
    slots = [(True, i, int(values[i])) for i in lanes[:m]] + [(False, 0, 0)] * (m - len(lanes))
    return slots, [flag and i in lanes[m:] for i, flag in enumerate(flags)]


@pytest.mark.parametrize("m", range(9))
def test_every_set_of_flags(m):
    parameters = Parameters(lanes=16, outliers=m)
    flags = (np.arange(2**16)[:, None] >> np.arange(16)) & 1 == 1
    values = np.random.default_rng(m).integers(0, 2**16, (2**16, 16)).astype(np.uint16)
    got = outlier_selector(flags, values, parameters)
    assert got.valid.shape == (2**16, m)
    for index in range(m, 2**16, 37):
        slots, rest = naive(flags[index], values[index], m)
        assert list(zip(got.valid[index], got.lane[index], got.value[index], strict=True)) == slots
        assert got.rest[index].tolist() == rest
    # Laws over all of them: nothing lost, nothing twice, in order.
    assert np.array_equal(got.valid.sum(1) + got.rest.sum(1), flags.sum(1))
    assert not (got.rest & ~flags).any()
    slot = np.where(got.valid, got.lane, 255).astype(int)
    assert (np.diff(slot, axis=1)[got.valid[:, 1:]] > 0).all()


def test_published_shape():
    parameters = Parameters(lanes=60, outliers=4, memory_lanes=4)
    rng = np.random.default_rng(0)
    flags = rng.random((300, 60)) < rng.random((300, 1)) * 0.3
    values = rng.integers(0, 2**16, (300, 60)).astype(np.uint16)
    got = outlier_selector(flags, values, parameters)
    for index in range(300):
        slots, rest = naive(flags[index], values[index], 4)
        assert list(zip(got.valid[index], got.lane[index], got.value[index], strict=True)) == slots
        assert got.rest[index].tolist() == rest


def test_shape_is_refused():
    with pytest.raises(ValueError, match=r"^Flags and values must have the shape \(vectors, 16\), not \(2, 8\) and"):
        outlier_selector(np.zeros((2, 8), bool), np.zeros((2, 8), np.uint16), Parameters())
