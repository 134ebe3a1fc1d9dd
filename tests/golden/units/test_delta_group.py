import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups

pytestmark = pytest.mark.golden

PARAMETERS = Parameters(lanes=4, outliers=2)


def group(exponent=24, replay=False, digits=(0, 1, 0, 0), slots=((False, 0, 0), (False, 0, 0))):
    valid, lane, value = zip(*slots, strict=True)
    return DeltaGroups(
        np.array([exponent]), np.array([replay]), np.array([digits]), *(np.array([x]) for x in (valid, lane, value))
    )


def test_values():
    groups = DeltaGroups.concatenate(
        [
            group(26, digits=(-3, 0, 0, 1), slots=((True, 1, 0x3C00), (True, 2, 0xC100))),
            group(62, digits=(0, 0, 0, 0)),
            group(63, digits=(0, 0, 0, 0)),
        ]
    )
    values = groups.dequantise()
    assert values[0].tolist() == [-12.0, 1.0, -2.5, 4.0]
    assert values[1].tolist() == [0.0] * 4
    assert np.isnan(values[2]).all()
    assert groups.poisoned.tolist() == [False, False, True] and groups.zero.tolist() == [False, True, False]
    assert len(groups) == 3 and groups.lanes == 4 and groups.outliers == 2
    assert len(groups[1]) == 1 and groups[-1].poisoned[0] and len(groups[1:]) == 2
    assert groups.equals(groups[::-1]).tolist() == [False, True, False]
    groups.check(PARAMETERS)


def test_zero_and_poisoned_groups():
    assert DeltaGroups.zeros(3, PARAMETERS).zero.all()
    assert DeltaGroups.poison(3, PARAMETERS).poisoned.all()
    DeltaGroups.concatenate([DeltaGroups.zeros(2, PARAMETERS), DeltaGroups.poison(1, PARAMETERS)]).check(PARAMETERS)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"exponent": 40}, r"an exponent code in 0..39, 62 or 63"),
        ({"digits": (4, 0, 0, 0)}, r"digits in -3..3"),
        ({"exponent": 62}, "a zero or poisoned group all zero"),
        ({"exponent": 63}, "a zero or poisoned group all zero"),
        ({"replay": True, "digits": (0,) * 4}, "a replay group only where the configuration replays, with digits 0"),
        ({"slots": ((False, 0, 0), (True, 0, 1))}, "outlier slots filled from slot 0 in order of lane"),
        ({"slots": ((True, 2, 1), (True, 2, 1))}, "outlier slots filled from slot 0 in order of lane"),
        ({"slots": ((True, 4, 1), (False, 0, 0))}, "outlier lanes below 4"),
        ({"slots": ((True, 0, 1), (False, 0, 7))}, "unused outlier slots all zero"),
        ({"slots": ((True, 1, 1), (False, 0, 0))}, "digit 0 in the lane of an outlier"),
    ],
)
def test_check_names_the_rule(arguments, rule):
    groups = DeltaGroups.concatenate([group(), group(**arguments)])
    with pytest.raises(ValueError, match=rf"^Delta group must have {rule}, not as in group 1$"):
        groups.check(PARAMETERS)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="^Delta groups must have 16 lanes and 1 outliers, not 4 and 2$"):
        group().check(Parameters())
    with pytest.raises(ValueError, match="^digits of 1 delta groups must have a row for each, not the shape"):
        group().replace(digits=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="^outlier_lane must have the shape of outlier_valid"):
        group().replace(outlier_lane=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="^exponent of delta groups must fit uint8, not int64$"):
        group(exponent=256)
    with pytest.raises(ValueError, match="^Groups to compare must have equal shapes"):
        group().equals(DeltaGroups.zeros(1, Parameters()))
