import numpy as np
import pytest

from golden.diffusion.differential.quantise import half

pytestmark = pytest.mark.golden


def by_numpy(values):
    with np.errstate(over="ignore"):
        return np.clip(values.astype(np.float16).astype(np.float32), -65504, 65504).view(np.uint32)


@pytest.mark.parametrize("low", [0, 1, 0x7FF, 0xFFF, 0x1000, 0x1001, 0x1FFF])
def test_every_half_and_what_lies_between(low):
    """Every pattern of the upper 19 bits (FP16's own, and all beyond its range) with lower bits about the tie."""
    values = ((np.arange(2**19, dtype=np.uint32) << 13) | np.uint32(low)).view(np.float32)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(half(values).view(np.uint32), by_numpy(values))


def test_subnormals_and_any_layout():
    random = np.random.default_rng(0)
    values = (random.integers(-(2**20), 2**20, (300, 500)) * 2.0**-34).astype(np.float32)
    for view in (values, values.T, values[::2, ::-3], values[:0], values.astype(np.float64)):
        np.testing.assert_array_equal(half(view).view(np.uint32), by_numpy(view))
    assert np.isnan(half(np.array([np.nan, 1e9], np.float32))[0])
