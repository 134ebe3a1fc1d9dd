"""The serial forms of the delta stream as Verilog: word for word, group for group as the oracle of the format."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from hw.link.serial_delta import SerialDeltaCoder, SerialDeltaDecoder
from sim import engine
from tests.hw import delta_streams
from tests.hw.streams import refusal

pytestmark = pytest.mark.cocotb

NOTHING = np.zeros(0, np.uint8)

SHAPES = {
    "tiny": {"lanes": 4, "memory_lanes": 2, "link_width": 32},
    "edge": {"lanes": 16, "link_width": 64, "link_checks": True},
    "without outliers": {"lanes": 32, "outliers": 0, "link_width": 128, "near_lanes": 8},
    "two bits": {"lanes": 12, "digit_width": 2, "outliers": 3, "link_width": 32},
    "steps": {"lanes": 60, "digit_width": 8, "outliers": 4, "link_width": 256},
}


@pytest.fixture(params=SHAPES, scope="module")
def parameters(request):
    return Parameters(**SHAPES[request.param])


@pytest.fixture(scope="module")
def coder(parameters):
    return SerialDeltaCoder(parameters)


@pytest.fixture(scope="module")
def decoder(parameters):
    return SerialDeltaDecoder(parameters)


def by_field(p, groups):
    """Groups of `delta_streams` as arrays by field."""
    values = {
        "exponent": np.array([group["exponent"] for group in groups]),
        "digits": np.array([group["digits"] for group in groups]).reshape(-1, p.lanes),
    }
    if p.outliers:
        values["outliers"] = {
            name: np.array([[slot[name] for slot in group["outliers"]] for group in groups]).reshape(-1, p.outliers)
            for name in ("valid", "lane", "value")
        }
    return values


def words_of(found):
    """Words and marks of an output stream."""
    data = found["data"]
    if data.ndim > 1:
        data = [sum(1 << int(bit) for bit in np.flatnonzero(row)) for row in data]
    return [int(word) for word in data], [bool(last) for last in found["last"]]


def random_streams(p, r, count):
    """Streams of one to several blocks, long and short."""
    return [
        delta_streams.random_groups(p, r.choice([1, 2, 63, 64, 65, 130]), seed=r.randrange(1 << 30))
        for _ in range(count)
    ]


@pytest.mark.parametrize(("passes", "mode"), [(1, "both"), (3, "none"), (8, "reset")])
def test_coder(parameters, coder, passes, mode, fresh_seed):
    """Words as the format has them, streams one after the other."""
    p, r = parameters, random.Random(fresh_seed)
    streams = random_streams(p, r, 4)
    groups = [group for stream in streams for group in stream]
    last = np.concatenate([np.arange(1, len(stream) + 1) == len(stream) for stream in streams])
    outcome = engine.run(
        coder,
        NOTHING,
        [],
        streams={"i": {"group": by_field(p, groups), "last": last}},
        settings={"passes": passes - 1},
        mode=mode,
        seed=fresh_seed,
    )
    expected = [delta_streams.encode(p, stream, passes) for stream in streams]
    words, marks = words_of(outcome.streams["o"])
    assert words == [word for stream in expected for word in stream]
    assert marks == [place == len(stream) for stream in expected for place in range(1, len(stream) + 1)]


def decode(decoder, streams, passes, seed, mode="both"):
    """Outcome of streams of words."""
    width = decoder.signature.members["i"].signature.members["payload"].shape["data"].width
    words = [word for stream in streams for word in stream]
    bits = np.array([[word >> place & 1 for place in range(width)] for word in words], bool)
    last = np.concatenate([np.arange(1, len(stream) + 1) == len(stream) for stream in streams])
    given = {"i": {"data": bits, "last": last}}
    settings = {"passes": passes - 1}
    return engine.run(decoder, NOTHING, [], streams=given, settings=settings, seed=seed, mode=mode, patience=3000)


def check_groups(p, found, expected, last):
    """Groups of an output stream."""
    wanted = by_field(p, expected)
    np.testing.assert_array_equal(found["group"]["exponent"], wanted["exponent"])
    np.testing.assert_array_equal(found["group"]["digits"], wanted["digits"])
    for name in wanted.get("outliers", {}):
        np.testing.assert_array_equal(found["group"]["outliers"][name], wanted["outliers"][name])
    np.testing.assert_array_equal(found["last"], last)


@pytest.mark.parametrize(("passes", "mode"), [(1, "both"), (3, "none"), (8, "reset")])
def test_decoder(parameters, decoder, passes, mode, fresh_seed):
    """Groups as they were coded, streams one after the other."""
    p, r = parameters, random.Random(fresh_seed)
    streams = random_streams(p, r, 4)
    outcome = decode(decoder, [delta_streams.encode(p, stream, passes) for stream in streams], passes, fresh_seed, mode)
    assert not outcome.status["error"]
    last = np.concatenate([np.arange(1, len(stream) + 1) == len(stream) for stream in streams])
    check_groups(p, outcome.streams["o"], [group for stream in streams for group in stream], last)


def damaged(p, r, words, passes):
    """A stream with something wrong, most of the time."""
    words, width = list(words), p.link_width
    kind = r.randrange(5)
    if kind == 0:
        words[r.randrange(len(words))] ^= 1 << r.randrange(width)
    elif kind == 1:
        words[0] ^= 1 << r.randrange(32)
    elif kind == 2:
        del words[r.randrange(len(words)) :]
    elif kind == 3:
        words[r.randrange(len(words))] = r.getrandbits(width)
    else:
        words.append(r.getrandbits(width) & ~0xFF | r.choice([0, 0xE0 + passes - 1]))
    return words or [0]


def test_damage(parameters, decoder, fresh_seed):
    """An error where the format has one, and no other."""
    p, r = parameters, random.Random(fresh_seed)
    errors = 0
    for number in range(60):
        passes = r.choice([1, 1, 2, 8])
        groups = delta_streams.random_groups(p, r.choice([1, 5, 66]), seed=r.randrange(1 << 30))
        words = delta_streams.encode(p, groups, passes)
        if number:  # the first one is as it was sent
            words = damaged(p, r, words, passes)
        expected, error = delta_streams.decode(
            p, [(word, place == len(words) - 1) for place, word in enumerate(words)], passes
        )
        outcome = decode(decoder, [words], passes, number)
        assert bool(outcome.status["error"]) == error, words
        if not error:
            groups, last = [item["group"] for item in expected], [item["last"] for item in expected]
            check_groups(p, outcome.streams["o"], groups, last)
        errors += error
    assert 10 < errors < 60


def test_golden_agrees(parameters, fresh_seed):
    """The streams of this test's oracle are golden's."""
    p = parameters
    groups = delta_streams.random_groups(p, 70, seed=fresh_seed)
    decoded = delta_decompressor(delta_streams.encode(p, groups, 2), p, passes=2)
    assert not decoded.error
    assert delta_compressor(decoded.groups, p, passes=2) == delta_streams.encode(p, groups, 2)


@pytest.mark.parametrize("kind", [SerialDeltaCoder, SerialDeltaDecoder])
def test_replay_groups_are_refused(kind):
    """Only the parallel forms know them."""
    p = Parameters(exponent_policy="layer", overflow_policy="replay")
    expected = "overflow_policy must be saturate for the serial forms of the delta stream, not replay"
    assert str(refusal(kind, p)) == expected
