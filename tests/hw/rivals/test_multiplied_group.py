# amaranth: UnusedElaboratable=no
"""`MultipliedGroup` against the exact integers that `MultiplierGroup` is held to."""

import re

import pytest

from golden.parameters import Parameters
from hw.rivals.multiplied_group import MultipliedGroup
from tests.hw.streams import exchange
from tests.hw.units.test_multiplier_group import Draw, oracle

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("k, n", [(8, 8), (4, 4), (2, 5)])
def test_sums_are_those_of_the_gated_group(k, n):
    p = Parameters(digit_width=k, lanes=n, outliers=0, fraction_bits=10, memory_lanes=1)
    unit = MultipliedGroup(p)
    items = Draw(p, 7).items(120)
    sums, overflow, poisoned = oracle(items, p)
    result = exchange(unit, items, outputs=len(sums), watch=("overflow", "poisoned"))
    assert result.outputs == sums and result.ports == {"overflow": overflow, "poisoned": poisoned}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"weight_form": "float"}, "weight_form must be aligned in multiplier blocks, not float"),
        ({"outliers": 1}, "outliers must be 0 in multiplier blocks, not 1"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MultipliedGroup(Parameters(**{"lanes": 8, "outliers": 0, **settings}))
