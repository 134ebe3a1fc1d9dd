import math
import re

import numpy as np
import pytest

from golden.diffusion.sampling import STABLE_DIFFUSION, Schedule

pytestmark = pytest.mark.golden


def test_schedule_is_the_published_cosine():
    signal = Schedule().signal
    assert signal.shape == (1000,)
    assert np.all(np.diff(signal) < 0) and 0 < signal[-1] < 1e-6 and signal[0] > 0.999
    for t in (0, 100, 500, 900):
        f = math.cos(((t + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert signal[t] == pytest.approx(f, rel=1e-9)


def test_spaced():
    assert Schedule().spaced(50).tolist() == list(range(980, -1, -20))
    assert Schedule().spaced(1).tolist() == [0]
    assert Schedule(10).spaced(3).tolist() == [6, 3, 0]
    assert Schedule().spaced(1000).tolist() == list(range(999, -1, -1))


# alphas_cumprod of diffusers 0.42.1
@pytest.mark.parametrize(
    "betas, expected",
    [
        ("linear", {0: 0.9998999834, 1: 0.9997800589, 500: 0.0777966529, 999: 4.03583e-05}),
        ("scaled_linear", {0: 0.9991499782, 1: 0.9982960224, 500: 0.2763324678, 999: 0.0046600951}),
    ],
)
def test_linear_betas(betas, expected):
    signal = Schedule(betas=betas).signal
    assert np.all(np.diff(signal) < 0)
    assert {t: signal[t] for t in expected} == pytest.approx(expected, rel=1e-6)


def test_betas_of_ones_own():
    signal = Schedule(4, betas="linear", first_beta=0.1, last_beta=0.4).signal
    np.testing.assert_allclose(signal, [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7, 0.9 * 0.8 * 0.7 * 0.6])


def test_levels():
    here, there = Schedule().levels(3)
    assert there[:-1].tolist() == here[1:].tolist() and there[-1] == 1
    assert np.all(here < there)
    here, there = STABLE_DIFFUSION.levels(50)
    assert there[-1] == STABLE_DIFFUSION.signal[0] and here[-1] == STABLE_DIFFUSION.signal[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"timesteps": 1}, "Schedule timesteps must be in 2..100000, not 1"),
        ({"betas": "lineer"}, "Schedule betas must be cosine or linear or scaled_linear, not 'lineer'"),
        ({"spacing": "trail"}, "Schedule spacing must be even or leading or trailing or linspace, not 'trail'"),
        ({"offset": 1}, "Schedule offset must be 0 with even spacing, not 1"),
        ({"offset": -1, "spacing": "leading"}, "Schedule offset must be in 0..99999, not -1"),
        ({"first_beta": 0.1}, "Schedule first_beta must be left out with cosine betas, not 0.1"),
        ({"betas": "linear", "first_beta": 0.1}, "Schedule betas must rise between 0 and 1, not from 0.1 to 0.02"),
        (
            {"betas": "linear", "last_beta": 0.5},
            "Schedule betas must leave 1.26e-29 of the image at the last of 1000 timesteps, not ",
        ),
        (
            {"betas": "linear", "timesteps": 100_000},
            "Schedule betas must leave 1.26e-29 of the image at the last of 100000 timesteps, not ",
        ),
    ],
)
def test_bad_schedule(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Schedule(**arguments)


def test_an_offset_may_not_lead_above_the_last_timestep():
    with pytest.raises(ValueError, match=r"^Timesteps must stay below 1000 with the offset 1, not reach 1000$"):
        STABLE_DIFFUSION.spaced(1000)
