"""`GroupMask`: a mask for each vector, whatever number of groups it has and however the masks come."""

import random

import pytest

from golden.parameters import Parameters
from hw.core.group_mask import GroupMask
from tests.hw.lint import complaints
from tests.hw.masks import masked, random_group
from tests.hw.streams import PATTERNS, exchange, fed

pytestmark = pytest.mark.unit

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SHAPES = {
    "tiny": {"lanes": 4, "outliers": 1, "memory_lanes": 1},
    "none": {"lanes": 7, "outliers": 0, "memory_lanes": 1},
    "replays": {"lanes": 9, "outliers": 2, "memory_lanes": 1, **REPLAY},
    "published": {"lanes": 60, "outliers": 4, "exponent_policy": "layer", "output_passes": 1},
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", SHAPES)
def test_groups_of_a_vector_share_its_mask(name, pattern, fresh_seed):
    p, r = Parameters(**SHAPES[name]), random.Random(fresh_seed)
    groups = r.randint(1, 8)
    items, masks, expected = [], [], []
    for _ in range(20):
        masks.append(r.getrandbits(p.lanes))
        for _ in range(groups):
            group, last = random_group(r, p), r.getrandbits(1)
            items.append({"group": group, "last": last})
            expected.append({"group": masked(group, masks[-1], p), "last": last})
    dut = GroupMask(p)
    wrap = fed(dut, fresh_seed, masks=masks)
    result = exchange(dut, items, pattern=pattern, ports={"enable": 1, "groups": groups - 1}, wrap=wrap)
    assert result.outputs == expected


def test_disabled_takes_no_mask_and_changes_nothing():
    p, r = Parameters(**SHAPES["replays"]), random.Random(5)
    items = [{"group": random_group(r, p), "last": r.getrandbits(1)} for _ in range(30)]
    assert exchange(GroupMask(p), items, pattern="both").outputs == items


def test_groups_keep_up_and_take_latency_clocks():
    p, r = Parameters(**SHAPES["published"]), random.Random(2)
    items = [{"group": random_group(r, p), "last": 0} for _ in range(20)]
    dut = GroupMask(p)
    result = exchange(dut, items)
    assert result.left[0] - result.taken[0] == dut.latency
    assert result.left[-1] - result.left[0] == len(items) - 1


def test_the_verilog_has_no_complaint():
    assert not complaints(GroupMask(Parameters(**SHAPES["replays"])))
