"""The compressor against an encoder that writes docs/formats.md with strings."""

import gc
import random

import pytest

from golden.parameters import Parameters, preset
from hw.units import DeltaCompressor
from tests.hw import delta_streams
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SHAPES = [
    {"digit_width": 3, "lanes": 4, "outliers": 1, "memory_lanes": 2, "link_width": 32},
    {"digit_width": 3, "lanes": 16, "outliers": 1, "link_width": 64},
    {"digit_width": 2, "lanes": 5, "outliers": 0, "memory_lanes": 1, "link_width": 32},
    {"digit_width": 2, "lanes": 16, "outliers": 2, "link_width": 512} | REPLAY,
    {"digit_width": 4, "lanes": 12, "outliers": 8, "link_width": 128} | REPLAY,
    {"digit_width": 8, "lanes": 8, "outliers": 3, "link_width": 32},
    {"digit_width": 5, "lanes": 7, "outliers": 7, "memory_lanes": 7, "link_width": 256},
    {"digit_width": 3, "lanes": 4, "outliers": 1, "memory_lanes": 2, "link_width": 32, "link_checks": True},
    {"digit_width": 4, "lanes": 5, "outliers": 1, "memory_lanes": 1, "link_width": 64, "link_checks": True} | REPLAY,
]


def send(p, streams, passes=1, **settings):
    """Send streams of groups one after another; returns the exchange and the words of each stream."""
    groups = [{"group": group, "last": int(group is groups[-1])} for groups in streams for group in groups]
    expected = [delta_streams.encode(p, groups, passes) for groups in streams]
    run = exchange(
        DeltaCompressor(p),
        groups,
        outputs=sum(map(len, expected)),
        ports={"passes": passes - 1},
        **settings,
    )
    words = [{"data": word, "last": int(index == len(w) - 1)} for w in expected for index, word in enumerate(w)]
    assert run.outputs == words
    return run


@pytest.mark.parametrize("settings", SHAPES)
def test_packs_every_kind_of_group(settings):
    p = Parameters(**settings)
    streams = [delta_streams.random_groups(p, count, seed=count) for count in (70, 1, 64, 3)]
    send(p, streams, passes=3, pattern="both")


@pytest.mark.parametrize("passes", [1, 2, 5, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_passes_and_back_pressure(passes, pattern):
    p = preset("tiny")
    send(p, [delta_streams.random_groups(p, 130, seed=passes)], passes=passes, pattern=pattern)


def test_short_streams_back_to_back():
    p = preset("tiny")
    send(p, [delta_streams.random_groups(p, 1 + seed % 3, seed=seed) for seed in range(30)])
    send(p, [delta_streams.random_groups(p, 1, seed=seed) for seed in range(30)], pattern="back_pressure")


def test_replay_groups_across_blocks():
    p = Parameters(lanes=64, memory_lanes=64, outliers=1, link_width=512, **REPLAY)
    first = delta_streams.random_group(p, random.Random(1), exponents=(20, 20), density=0.5)
    replays = [dict(delta_streams.random_group(p, random.Random(2), replay=True), exponent=20) for _ in range(70)]
    send(p, [[first, *replays]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edge", "ulx3s", "paper"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_presets(name, pattern):
    p = preset(name)
    send(p, [delta_streams.random_groups(p, 200, seed=9)], passes=2, pattern=pattern)


def small_groups(p, count):
    """Groups well below a word."""
    return delta_streams.random_groups(p, count, seed=4, exponents=(24, 25), density=0.1)


@pytest.mark.parametrize("settings", [{"lanes": 16, "outliers": 0}, {"lanes": 4, "memory_lanes": 1, "link_width": 128}])
def test_a_group_every_clock(settings):
    p = Parameters(**settings)
    run = send(p, [small_groups(p, 64 * 5)])
    assert run.taken[-1] - run.taken[0] == 64 * 5 - 1


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": 16, "outliers": 1, "link_width": 32},
        {"lanes": 32, "outliers": 0, "link_width": 64, "memory_lanes": 32},
        {"lanes": 8, "outliers": 8, "link_width": 32, "digit_width": 8},
    ],
)
def test_a_word_every_clock(settings):
    """Groups longer than a word: they are taken as fast as the words they make could leave."""
    p = Parameters(**settings)
    groups = delta_streams.random_groups(p, 64 * 5, seed=4, density=1.0)
    run = send(p, [[group for group in groups if group["exponent"] < delta_streams.ZERO]])
    assert run.taken[-1] - run.taken[0] <= len(run.left)


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_latency(depth):
    p = Parameters(lanes=4, memory_lanes=1, outliers=1, pipeline_depth=depth)
    run = send(p, [delta_streams.random_groups(p, 1, seed=3)])
    assert run.left[0] - run.taken[0] == inspect(DeltaCompressor(p)).latency


def test_throughput_in_words():
    unit = inspect(DeltaCompressor(preset("edge")))
    assert unit.throughput == "one group per clock, or 64 bits per clock, whichever is lower"
    assert unit.block_words == -(-(32 + 64 * delta_streams.longest(preset("edge"))) // 64)


@pytest.mark.filterwarnings("ignore:.*created but never used")
def test_rejects():
    with pytest.raises(TypeError, match=r"^parameters must be Parameters, not 3$"):
        DeltaCompressor(3)
    gc.collect()  # the refused component must go while its warning is ignored
