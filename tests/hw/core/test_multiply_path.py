"""Multiply with its way down: joint vectors as the interpreter sends them, in both forms of the link."""

import numpy as np
import pytest

from hw.core.multiply_path import MultiplyPath
from sim import engine
from tests.hw.core.test_multiply_engine import Core, drawn, drawn_tile, machine

pytestmark = pytest.mark.cocotb


@pytest.mark.parametrize("link_form", ["direct", "compressed"])
def test_against_the_interpreter(link_form, fresh_seed):
    p = machine("tiny").with_settings([f"link_form={link_form}"])
    random = np.random.default_rng(fresh_seed)
    golden, groups, records = drawn(p, random)
    operations = [part for _ in range(6) for part in drawn_tile(p, random)]
    for c in operations:
        golden._multiply(c)
    outcome = engine.run(
        Core(MultiplyPath(p), "down"),
        np.zeros(0, np.uint8),
        [],
        operations,
        streams={"groups": groups, "records": records},
        settings={"writes": len(groups["row"]) + len(records["half"])},
        mode="both",
        seed=fresh_seed % 1000,
    )
    assert outcome.error is None
    each, found = p.lanes // p.near_lanes, outcome.streams["down"]
    floors = [c.floor for c in operations if c.leave]
    exponents = [one.exponent for one in golden._down]
    np.testing.assert_array_equal(found["exponent"], np.repeat(np.concatenate(exponents), each))
    integers = np.concatenate([one.integers for one in golden._down])
    np.testing.assert_array_equal(found["values"].reshape(-1), integers.reshape(-1))
    ends = np.cumsum([len(one) * each for one in exponents]) - 1
    np.testing.assert_array_equal(np.flatnonzero(found["end"]), ends)
    np.testing.assert_array_equal(found["floor"][ends], floors)
    assert outcome.status["overflow"] == golden.status["overflow"]
    assert outcome.status["poisoned"] == golden.status["poisoned"]
