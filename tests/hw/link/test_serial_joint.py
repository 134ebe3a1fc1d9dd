"""The joint stream as Verilog: word for word, vector for vector as the oracle of the format."""

import functools

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.joint_stream import JointStream
from hw.link.joint_link import JointLink
from hw.link.serial_joint import SerialJointCoder, SerialJointDecoder
from sim import engine

pytestmark = pytest.mark.cocotb

SHAPES = {
    "tiny": {"lanes": 4, "memory_lanes": 2, "link_width": 32},
    "edge": {"lanes": 16, "link_width": 64, "link_checks": True},
    "two bits and no more": {"lanes": 12, "digit_width": 2, "joint_width": 2, "near_lanes": 12, "link_width": 32},
    "rests": {"lanes": 16, "digit_width": 5, "joint_width": 11, "near_lanes": 4, "link_width": 128},
    "steps": {"lanes": 36, "digit_width": 8, "joint_width": 16, "near_lanes": 1, "link_width": 256},
}


@pytest.fixture(params=SHAPES)
def parameters(request):
    return Parameters(**SHAPES[request.param])


@functools.cache
def model(kind, p):
    return engine.build(kind(p))


def tiles(draw, p, count):
    """Joint vectors of tiles, each with its floor: of every size, zero and poisoned ones among them."""
    found = []
    for _ in range(count):
        floor, size = int(draw.integers(43 - p.digit_width)), int(draw.choice([1, 2, 63, 64, 65, 130]))
        values = draw.integers(-(2**40), 2**40, (size, p.lanes)) >> draw.integers(0, 41, (size, 1))
        values >>= draw.integers(0, 9, values.shape)
        values[draw.random(size) < 0.1] = 0
        stream = JointStream(p, p.joint_width, floor)
        found.append((stream, stream.quantise(values, floor - 30, draw.random(size) < 0.05)[0]))
    return found


def parts(p, streams):
    """What comes in, or out, for tiles."""
    each = p.lanes // p.near_lanes
    ends = np.concatenate([np.arange(1, len(groups) + 1) == len(groups) for _, groups in streams])
    floors = np.concatenate([np.full(len(groups), stream.floor) for stream, groups in streams])
    last = np.tile(np.arange(1, each + 1) == each, len(ends))
    return {
        "exponent": np.repeat(np.concatenate([groups.exponent for _, groups in streams]), each).astype(np.int64),
        "values": np.concatenate([groups.integers for _, groups in streams]).reshape(-1, p.near_lanes).astype(np.int64),
        "last": last,
        "end": np.repeat(ends, each) & last,
        "floor": np.repeat(floors, each),
    }


def words(p, streams):
    """Words of encoded tiles as bits, and marks."""
    found = [stream.encode(groups) for stream, groups in streams]
    data = [word for one in found for word in one]
    return {
        "data": np.array([[word >> bit & 1 for bit in range(p.link_width)] for word in data], np.bool_),
        "last": np.concatenate([np.arange(1, len(one) + 1) == len(one) for one in found]),
        "floor": np.concatenate(
            [np.full(len(one), stream.floor) for one, (stream, _) in zip(found, streams, strict=True)]
        ),
    }


def same(got, expected):
    assert set(got) == set(expected)
    for name, values in expected.items():
        found = np.asarray(got[name])
        if found.ndim < values.ndim and values.shape[1] > 1:
            found = found[:, None] >> np.arange(values.shape[1]) & 1
        np.testing.assert_array_equal(found.reshape(values.shape), values, err_msg=name)


def run(kind, p, given, **how):
    return model(kind, p).run(np.zeros(0, np.uint8), [], streams={"i": given}, **how)


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_coder(parameters, mode, fresh_seed):
    p, streams = parameters, tiles(np.random.default_rng(fresh_seed), parameters, 4)
    outcome = run(SerialJointCoder, p, parts(p, streams), mode=mode, seed=fresh_seed % 1000)
    same(outcome.streams["o"], words(p, streams))


def test_words_that_take_long_are_waited_for():
    """A lane a clock: between the last of so wide words lie hundreds of clocks in which nothing moves."""
    p = Parameters(**SHAPES["steps"])
    streams = tiles(np.random.default_rng(6729), p, 4)
    same(run(SerialJointCoder, p, parts(p, streams), mode="both", seed=729).streams["o"], words(p, streams))


@pytest.mark.parametrize("mode", ["both", "reset"])
def test_decoder(parameters, mode, fresh_seed):
    p, streams = parameters, tiles(np.random.default_rng(fresh_seed), parameters, 4)
    outcome = run(SerialJointDecoder, p, words(p, streams), mode=mode, seed=fresh_seed % 1000)
    assert not outcome.status["error"]
    same(outcome.streams["o"], parts(p, streams))


def damaged(draw, p, data):
    """A stream with something wrong, most of the time."""
    data, kind = list(data), int(draw.integers(5))
    if kind == 0:
        data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(p.link_width))
    elif kind == 1:
        data[0] ^= 1 << int(draw.integers(32))
    elif kind == 2:
        del data[int(draw.integers(len(data))) :]
    elif kind == 3:
        data[int(draw.integers(len(data)))] = int.from_bytes(draw.bytes(p.link_width // 8))
    else:
        data.append(int.from_bytes(draw.bytes(p.link_width // 8)) & ~0xFF | int(draw.choice([0, 0xD8])))
    return data or [0]


def test_damage(parameters, fresh_seed):
    """An error where the format has one, and no other."""
    p, draw, errors = parameters, np.random.default_rng(fresh_seed), 0
    for number in range(40):
        ((stream, groups),) = tiles(draw, p, 1)
        data = stream.encode(groups)
        data = damaged(draw, p, data) if number % 8 else data
        try:
            decoded = stream.decode(data)
        except ValueError:
            decoded = None
        given = {
            "data": np.array([[word >> bit & 1 for bit in range(p.link_width)] for word in data], np.bool_),
            "last": np.arange(1, len(data) + 1) == len(data),
            "floor": np.full(len(data), stream.floor),
        }
        outcome = run(SerialJointDecoder, p, given, seed=number, patience=3000)
        assert bool(outcome.status["error"]) == (decoded is None), data
        errors += decoded is None
        if decoded is not None:
            same(outcome.streams["o"], parts(p, [(stream, decoded)]))
    assert 5 < errors <= 35


@pytest.mark.parametrize("link_form", ["direct", "compressed"])
def test_link(link_form, fresh_seed):
    """What comes down is what was sent; the words that cross are those of the format."""
    p = Parameters(link_form=link_form)
    streams = tiles(np.random.default_rng(fresh_seed), p, 3)
    outcome = run(JointLink, p, parts(p, streams), mode="both", seed=fresh_seed % 1000)
    same(outcome.streams["o"], parts(p, streams))
    assert not outcome.status["damaged"]
    assert bool(outcome.status["words"]) == (link_form == "compressed")


def test_clocks_of_a_vector():
    """A vector of 16 outputs takes 36 clocks at most, on either side: on ``edge`` the array makes one in 34."""
    p, draw = Parameters(), np.random.default_rng(3)
    values = draw.integers(-(2**20), 2**20, (64, p.lanes))
    stream = JointStream(p, p.joint_width, 0)
    streams = [(stream, stream.quantise(values, -24)[0])]
    for kind, given in ((SerialJointCoder, parts(p, streams)), (SerialJointDecoder, words(p, streams))):
        outcome = run(kind, p, given, mode="none")
        assert outcome.cycles["o"][-1] - outcome.cycles["i"][0] <= 64 * 36
