"""The cyclic check: its polynomial, and that damage of the promised kinds never passes, in both streams."""

import dataclasses
import itertools

import numpy as np
import pytest

from golden.parameters import preset
from golden.units import cyclic_check
from golden.units.cyclic_check import check_bits
from golden.units.delta_compressor import cost, delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from golden.units.delta_group import DeltaGroups
from golden.units.joint_stream import JointGroups, JointStream

pytestmark = pytest.mark.golden

PLAIN = preset("tiny")
TINY = dataclasses.replace(PLAIN, link_checks=True)


def remainder(bits):
    """Long division, bit by bit."""
    value = 0
    for bit in [*bits, *[0] * 16]:
        value = value << 1 | int(bit)
        if value >> 16:
            value ^= 0b1_0000_0000_0010_1101
    return [int(letter) for letter in f"{value:016b}"]


def test_the_polynomial_is_primitive():
    """Its order is 2^16 - 1: by the factors 3, 5, 17, 257 of that number."""

    def times(a, b):
        result = 0
        for place in range(16):
            result ^= (a << place) * (b >> place & 1)
        for place in range(31, 15, -1):
            result ^= (cyclic_check.POLYNOMIAL << place - 16) * (result >> place & 1)
        return result

    def power(exponent):
        result, square = 1, 2
        while exponent:
            result = times(result, square) if exponent & 1 else result
            square, exponent = times(square, square), exponent >> 1
        return result

    order = 2**16 - 1
    assert power(order) == 1
    assert all(power(order // factor) != 1 for factor in (3, 5, 17, 257))


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 32, 500])
def test_against_long_division(length):
    bits = np.random.default_rng(length).integers(0, 2, length).astype(np.bool_)
    assert check_bits(bits).tolist() == remainder(bits)


def test_two_flips_a_period_apart_cancel_and_no_closer_ones():
    bits = np.zeros(1 << 16, np.bool_)
    bits[0] = True
    alone = check_bits(bits)
    bits[-1] = True
    assert not check_bits(bits).any() and alone.any()
    bits[-2:] = [True, False]
    assert check_bits(bits).any()


def groups_of(count, seed):
    random = np.random.default_rng(seed)
    groups = DeltaGroups.zeros(count, TINY)
    digits = random.integers(-3, 4, (count, 4))
    digits[:, 0] = random.choice([-3, -1, 1, 2], count)
    return groups.replace(exponent=random.integers(22, 27, count), digits=digits)


@pytest.mark.parametrize("passes", [1, 3, 8])
def test_sound_streams_arrive(passes):
    groups = groups_of(130, passes)
    words = delta_compressor(groups, TINY, passes=passes)
    decoded = delta_decompressor(words, TINY, passes=passes)
    assert not decoded.error and decoded.groups.equals(groups).all()
    assert cost(groups, TINY, passes=passes).bits == len(words) * TINY.link_width
    assert delta_decompressor(words, PLAIN, passes=passes).error  # the setting is part of the marker


def damages(length):
    """Every single flip, every two, every burst of up to 16 bits (all its inner patterns at a few places)."""
    for place in range(length):
        yield 1 << place
    for one, other in itertools.combinations(range(length), 2):
        yield 1 << one | 1 << other
    random = np.random.default_rng(5)
    for width in range(3, 17):
        for place in range(length - width + 1):
            inner = int(random.integers(0, 1 << width - 2))
            yield (1 | inner << 1 | 1 << width - 1) << place
    for place in (0, 25, 40, 50, length - 16):
        for inner in range(0, 1 << 14, 7):
            yield (1 | inner << 1 | 1 << 15) << place


def damaged(words, damage):
    return [word ^ damage >> 32 * index & 0xFFFFFFFF for index, word in enumerate(words)]


def test_no_damage_of_the_promised_kinds_passes():
    """In a short block; the block behind it arrives whole, whatever happens to the first one."""
    block = delta_compressor(groups_of(2, 1), TINY)
    following = groups_of(1, 2)
    after = delta_compressor(following, TINY)
    count = 0
    for damage in damages(32 * len(block)):
        decoded = delta_decompressor(damaged(block, damage) + after, TINY)
        assert decoded.error, hex(damage)
        assert decoded.groups[:-1].poisoned.all(), hex(damage)
        assert decoded.groups[len(decoded.groups) - 1].equals(following).all(), hex(damage)
        count += 1
    assert count > 15_000


def test_nor_in_the_joint_stream():
    stream = JointStream(TINY, 6, 20)
    groups = JointGroups(np.array([25, 24], np.uint8), np.array([[4, -1, -14, 0], [1, 2, 3, -4]], np.int32))
    words = stream.encode(groups)
    found = stream.decode(words)
    assert np.array_equal(found.exponent, groups.exponent) and np.array_equal(found.integers, groups.integers)
    for damage in damages(32 * len(words)):
        with pytest.raises(ValueError, match="^Joint block must have "):
            stream.decode(damaged(words, damage))


def test_without_checks_damage_passes():
    """So the tests above can fail."""
    block = delta_compressor(groups_of(2, 1), PLAIN)
    flips = [1 << place for place in range(32, 32 * len(block))]
    seen = [delta_decompressor(damaged(block, flip), PLAIN).error for flip in flips]
    assert 0 < sum(seen) < len(seen)
