"""The decompressor against a decoder that reads docs/formats.md as strings, on good, damaged and random streams."""

import gc
import random

import pytest

from golden.parameters import Parameters, preset
from hw.units import DeltaDecompressor
from tests.hw import delta_streams
from tests.hw.streams import PATTERNS, exchange, inspect

pytestmark = pytest.mark.unit

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
SHAPES = [
    {"digit_width": 3, "lanes": 4, "outliers": 1, "memory_lanes": 2, "link_width": 32},
    {"digit_width": 3, "lanes": 16, "outliers": 1, "link_width": 64},
    {"digit_width": 2, "lanes": 5, "outliers": 0, "memory_lanes": 1, "link_width": 32},
    {"digit_width": 2, "lanes": 16, "outliers": 2, "link_width": 512} | REPLAY,
    {"digit_width": 4, "lanes": 12, "outliers": 5, "link_width": 128} | REPLAY,
    {"digit_width": 8, "lanes": 4, "outliers": 3, "memory_lanes": 1, "link_width": 32},
    {"digit_width": 5, "lanes": 7, "outliers": 7, "memory_lanes": 7, "link_width": 256},
    {"digit_width": 3, "lanes": 4, "outliers": 1, "memory_lanes": 2, "link_width": 32, "link_checks": True},
    {"digit_width": 4, "lanes": 5, "outliers": 1, "memory_lanes": 1, "link_width": 64, "link_checks": True} | REPLAY,
]


def marked(words):
    """Words of one stream with its mark."""
    return [(word, int(index == len(words) - 1)) for index, word in enumerate(words)]


def receive(p, words, *, error=None, passes=1, **settings):
    """Send ``(word, last)`` pairs and compare with the oracle."""
    expected, refused = delta_streams.decode(p, words, passes)
    run = exchange(
        DeltaDecompressor(p),
        [{"data": word, "last": last} for word, last in words],
        outputs=len(expected),
        watch=("error",),
        ports={"passes": passes - 1},
        **settings,
    )
    assert run.outputs == expected
    assert run.ports == {"error": int(refused)}
    assert error is None or refused == error
    return run


def stream_of(p, count, seed=1, passes=1, **settings):
    return marked(delta_streams.encode(p, delta_streams.random_groups(p, count, seed=seed, **settings), passes))


@pytest.mark.parametrize("settings", SHAPES)
def test_unpacks_every_kind_of_group(settings):
    p = Parameters(**settings)
    words = [pair for count in (70, 1, 64, 3) for pair in stream_of(p, count, seed=count, passes=3)]
    receive(p, words, error=False, passes=3, pattern="both")


def test_the_oracle_gives_back_what_was_encoded():
    for settings in SHAPES:
        p = Parameters(**settings)
        groups = delta_streams.random_groups(p, 100)
        decoded, error = delta_streams.decode(p, marked(delta_streams.encode(p, groups, 2)), 2)
        assert [item["group"] for item in decoded] == groups
        assert not error


@pytest.mark.parametrize("passes", [1, 2, 5, 8])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_passes_and_back_pressure(passes, pattern):
    p = preset("tiny")
    receive(p, stream_of(p, 130, seed=passes, passes=passes), error=False, passes=passes, pattern=pattern)


def test_short_streams_back_to_back():
    p = preset("tiny")
    words = [pair for seed in range(30) for pair in stream_of(p, 1 + seed % 3, seed=seed)]
    receive(p, words, error=False)
    receive(p, words, error=False, pattern="both")


# Damage -------------------------------------------------------------------------------------------------------------


def block(p, groups, *, marker=None, length=None, announced=None, extra="", passes=1):
    """Words of a block whose header may lie."""
    bits, _ = delta_streams.encode_block(p, groups, passes)
    payload = bits[32:] + extra
    header = delta_streams.header(
        announced or len(groups), passes, len(payload) if length is None else length, marker=marker
    )
    return delta_streams.to_words(p, header + payload)


GOOD = 40


def good(p, count=GOOD, seed=1):
    return delta_streams.random_groups(p, count, seed=seed)


@pytest.mark.parametrize("settings", [SHAPES[0], SHAPES[1], SHAPES[4]])
@pytest.mark.parametrize("pattern", ["none", "both"])
def test_damaged_headers(settings, pattern):
    """A bad block between good ones: error, then the next good block arrives whole."""
    p = Parameters(**settings)
    most = delta_streams.longest(p)
    damaged = [
        block(p, good(p), marker=0xE8),
        block(p, good(p), length=GOOD - 1),
        block(p, good(p), length=GOOD * most + 1),
        block(p, good(p), length=0),
        [],
    ]
    words = block(p, good(p, 5))
    for bad in damaged:
        for word in bad[1:]:
            assert word & 0xFF != 0xE0 or p.link_width == 32
        words += bad + block(p, good(p, 5, seed=len(words)))
    receive(p, marked(words), error=True, pattern=pattern)


def missing(p):
    """Blocks whose groups end before or after their length."""
    payload = len(delta_streams.encode_block(p, good(p), 1)[0]) - 32
    for bad in (
        block(p, good(p), length=payload - 1),
        block(p, good(p), length=payload // 2),
        block(p, good(p), length=payload + 1),
        block(p, good(p), length=payload + 3, extra="000"),
        block(p, good(p), announced=GOOD - 1),
        block(p, good(p), announced=GOOD + 1),
        block(p, [good(p)[0]] * 64, announced=3, length=3 * delta_streams.longest(p)),
        block(p, good(p), announced=1, length=min(payload, delta_streams.longest(p))),
    ):
        length = delta_streams.number(delta_streams.little(bad[0], p.link_width)[14:32])
        size = -(-(32 + length) // p.link_width)
        yield (bad + [0] * size)[:size]


@pytest.mark.parametrize("settings", [SHAPES[0], SHAPES[1], SHAPES[5]])
@pytest.mark.parametrize("pattern", ["none", "both"])
def test_a_wrong_length_costs_no_other_block(settings, pattern):
    """Longer than the groups, up to all that they could have: what stands behind them is found."""
    p = Parameters(**settings)
    payload = len(delta_streams.encode_block(p, good(p, 5), 1)[0]) - 32
    most = 5 * delta_streams.longest(p)
    words, expected = [], []
    for number, length in enumerate((most, payload + p.link_width, (payload + most) // 2, payload + 1)):
        words += block(p, good(p, 5), length=length)
        if number % 2:  # else a stream ends in the middle of what the length claims
            words += block(p, good(p, 64, seed=number))
        following = good(p, 3, seed=10 + number)
        words += block(p, following)
        expected += good(p, 5) + good(p, 64, seed=number) * (number % 2) + following
    run = receive(p, marked(words), error=True, pattern=pattern)
    assert [item["group"] for item in run.outputs] == expected


@pytest.mark.parametrize("settings", SHAPES)
def test_groups_that_miss_their_length(settings):
    p = Parameters(**settings)
    words = []
    for bad in missing(p):
        words += marked(bad + block(p, good(p, 5, seed=8))) + marked(bad)
    receive(p, words, error=True, pattern="both")


@pytest.mark.parametrize("index", range(8))
def test_each_missed_length_is_an_error(index):
    p = preset("tiny")
    receive(p, marked(list(missing(p))[index]), error=True)


def test_a_final_group_far_before_the_length():
    """More words follow than the window holds."""
    p = preset("tiny")
    zero = delta_streams.empty_group(p, delta_streams.ZERO)
    words = block(p, [zero] * 60, announced=60, extra="0" * (60 * delta_streams.longest(p) - 180))
    run = receive(p, marked(words + block(p, good(p))), error=True)
    assert run.outputs[59]["group"] == zero
    words = block(p, [zero], extra="0" * (delta_streams.longest(p) - 3))
    receive(p, marked(words + block(p, good(p))), error=True)


def test_padding_must_be_zero():
    p = Parameters(lanes=4, memory_lanes=1, outliers=0, link_width=128)
    groups = good(p, 3)
    for position in (127, 32 + len(delta_streams.encode_block(p, groups, 1)[0]) - 32):
        (word,) = block(p, groups)
        run = receive(p, marked([word | 1 << position] + block(p, groups)), error=True)
        assert [item["group"] for item in run.outputs] == groups * 2
    receive(p, marked(block(p, groups)), error=False)


@pytest.mark.parametrize("settings", SHAPES)
@pytest.mark.parametrize("pattern", ["none", "both"])
def test_truncated_streams(settings, pattern):
    """A stream may end after any word; the stream after it arrives whole."""
    p = Parameters(**settings)
    whole = block(p, good(p, 12))
    words, ends = [], range(1, len(whole) + 1)
    for end in ends if len(whole) < 8 else (*range(1, 4), len(whole) // 2, len(whole) - 1):
        words += marked(whole[:end]) + marked(block(p, good(p, 3, seed=end)))
    receive(p, words, pattern=pattern)


def test_streams_of_nothing_but_damage():
    p = preset("edge")
    poisoned = {"group": delta_streams.empty_group(p, delta_streams.POISONED), "last": 1}
    run = receive(p, [(5, 1), (0xE0, 1), (1, 0), (2, 0), (0, 1), *marked(block(p, good(p, 2)))], error=True)
    assert run.outputs[:3] == [poisoned] * 3
    assert [item["last"] for item in run.outputs] == [1, 1, 1, 0, 1]


def payload_block(p, payload, announced):
    return delta_streams.to_words(p, delta_streams.header(announced, 1, len(payload)) + payload)


def test_codes_that_do_not_exist():
    """Each damaged block has a good group before the bad one and two announced after it."""
    plain, replays = (
        Parameters(lanes=5, memory_lanes=1, outliers=2),
        Parameters(lanes=5, memory_lanes=1, outliers=2, **REPLAY),
    )
    little, zero, body = delta_streams.little, "100", "00" + "0" * 5
    top = 42 - plain.digit_width
    far = "1111" + little(top, 6) + body
    low = "1111" + little(0, 6) + body
    slots = [little(lane, 3) + little(0x3C00, 16) for lane in range(8)]
    cases = [
        (plain, far + "101" + body),
        (plain, low + "110" + body),
        (plain, zero + "1111" + little(top + 1, 6) + body),
        (plain, zero + "1111" + little(61, 6) + body),
        (plain, zero + "0" + "11" + "0" * 5 + slots[0] + slots[1] + slots[2]),
        (plain, zero + "0" + "10" + "0" * 5 + slots[5]),
        (plain, zero + "0" + "01" + "0" * 5 + slots[1] + slots[1]),
        (plain, zero + "0" + "01" + "0" * 5 + slots[2] + slots[1]),
        (plain, low + "1110" + "00"),
        (plain, zero + "1111" + little(62, 6) + little(4, 6) + "00"),
        (replays, zero + "1110" + "00"),
        (replays, "1111" + little(63, 6) + "1110" + "00"),
        (replays, zero + "1111" + little(62, 6) + little(top + 1, 6) + "00"),
    ]
    for p, payload in cases:
        words = payload_block(p, payload + zero + zero, 4)
        run = receive(p, marked(words + block(p, good(p, 3))), error=True)
        exponents = [item["group"]["exponent"] for item in run.outputs]
        assert exponents[0] != 63 or payload.startswith("1111" + "1" * 6)
        assert exponents[1:4] == [63] * 3
    first = payload_block(replays, "1110" + "00" + zero, 2)
    assert receive(replays, marked(first), error=True).outputs[1]["group"]["exponent"] == 63
    fine = [
        (replays, low + "1110" + "00" + "1110" + "00" + zero),
        (replays, low + "1111" + little(62, 6) + little(3, 6) + "00" + "1110" + "00" + zero),
        (replays, "1111" + little(62, 6) + little(3, 6) + "00" + "1110" + "00" + low + zero),
        (plain, low + "1111" + little(0, 6) + body + "0" + body + "101" + body),
    ]
    for p, payload in fine:
        receive(p, marked(payload_block(p, payload, 4)), error=False)


@pytest.mark.parametrize("settings", SHAPES)
def test_flipped_bits(settings):
    """Any damage at all: the oracle says what arrives, and nothing hangs."""
    p = Parameters(**settings)
    r = random.Random(str(settings))
    words = []
    for seed in range(12):
        current = [[*pair] for pair in stream_of(p, r.choice([1, 5, 66]), seed=seed, passes=2)]
        for _ in range(r.choice([0, 1, 1, 3])):
            r.choice(current)[0] ^= 1 << r.randrange(p.link_width)
        words += [tuple(pair) for pair in current]
    receive(p, words, passes=2, pattern="both")


def test_other_passes_are_refused():
    p = preset("tiny")
    words = [pair for passes in (3, 4, 7, 8, 4) for pair in stream_of(p, 70, seed=passes, passes=passes)]
    run = receive(p, words, error=True, passes=4)
    assert sum(item["last"] for item in run.outputs) == 5 and len(run.outputs) == 2 * 70 + 3


@pytest.mark.parametrize("settings", SHAPES[:2])
def test_random_payloads(settings):
    """Sound headers over noise."""
    p = Parameters(**settings)
    r = random.Random(2)
    words = []
    for _ in range(25):
        announced = r.choice([1, 3, 64])
        length = r.randint(announced, announced * delta_streams.longest(p))
        payload = "".join(r.choice("01") for _ in range(length))
        words += payload_block(p, payload, announced)
    receive(p, marked(words), error=True, pattern="both")


def test_error_is_cleared():
    p = preset("tiny")
    dut = DeltaDecompressor(p)
    word = {"data": 5, "last": 1}
    assert exchange(dut, [word], watch=("error",), ports={"clear": 0}).ports == {"error": 1}
    # Cleared in every clock: the event itself is seen again only while it happens.
    assert exchange(DeltaDecompressor(p), [word], watch=("error",), ports={"clear": 1}).ports == {"error": 0}


# Pace ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"lanes": 16, "outliers": 0}, {"lanes": 4, "memory_lanes": 1, "link_width": 128}])
def test_a_group_every_clock(settings):
    """Groups well below a word; a block whose final group reaches into another row takes a clock more."""
    p = Parameters(**settings)
    run = receive(p, stream_of(p, 64 * 5, seed=4, exponents=(24, 25), density=0.1), error=False)
    gaps = [index for index in range(64 * 5 - 1) if run.left[index + 1] - run.left[index] != 1]
    assert all(index % 64 in (62, 63) for index in gaps)
    assert run.left[-1] - run.left[0] <= 64 * 5 - 1 + 5


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": 16, "outliers": 1, "link_width": 32},
        {"lanes": 32, "outliers": 0, "link_width": 64, "memory_lanes": 32},
        {"lanes": 4, "outliers": 3, "link_width": 32, "digit_width": 6, "memory_lanes": 1},
    ],
)
def test_a_word_every_clock(settings):
    """Groups longer than a word: words are taken without a gap."""
    p = Parameters(**settings)
    groups = delta_streams.random_groups(p, 64 * 2, seed=4, density=1.0)
    groups = [group for group in groups if group["exponent"] < delta_streams.ZERO]
    run = receive(p, marked(delta_streams.encode(p, groups, 1)), error=False)
    assert run.taken[-1] - run.taken[0] == len(run.taken) - 1


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_latency(depth):
    p = Parameters(lanes=4, memory_lanes=1, outliers=0, pipeline_depth=depth, link_width=64)
    run = receive(p, stream_of(p, 1, seed=3), error=False)
    assert run.left[0] - run.taken[0] == inspect(DeltaDecompressor(p)).latency


def test_latency_of_a_block_with_checks():
    p = Parameters(lanes=4, memory_lanes=1, outliers=0, link_width=64, link_checks=True)
    run = receive(p, stream_of(p, 1, seed=3), error=False)
    assert run.left[0] - run.taken[-1] == inspect(DeltaDecompressor(p)).latency


@pytest.mark.parametrize(("name", "latency"), [("tiny", 17), ("edge", 17), ("ulx3s", 12), ("paper", 12)])
def test_scans_where_link_width_times_lanes_is_small(name, latency):
    assert inspect(DeltaDecompressor(preset(name))).latency == latency


def test_throughput_in_words():
    unit = inspect(DeltaDecompressor(preset("edge")))
    assert unit.throughput == (
        "one group per clock, or 64 bits per clock, whichever is lower; at most one clock more at the end of a block"
    )


@pytest.mark.filterwarnings("ignore:.*created but never used")
def test_rejects():
    with pytest.raises(TypeError, match=r"^parameters must be Parameters, not None$"):
        DeltaDecompressor(None)
    gc.collect()  # the refused component must go while its warning is ignored
