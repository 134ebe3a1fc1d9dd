"""`JointStream` against fractions and a writer of bit texts made from docs/formats.md alone."""

import re
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.parameters import Parameters
from golden.units.joint_stream import JointGroups, JointStream

pytestmark = pytest.mark.golden


def machine(k, n=8, link=32, **more):
    return Parameters(digit_width=k, lanes=n, outliers=0, memory_lanes=1, link_width=link, **more)


def binary(value: int, width: int) -> str:
    """Bits, bit 0 first."""
    return "".join(str(value >> place & 1) for place in range(width))


def walk(row, k, width, least):
    """Rules 1 to 4 for one group of finite values: code, finer bits, integers, first digits."""
    xs = [Fraction(float(x)) for x in row]
    for code in range(least, 43 - k):
        r = min(width - k, code - least)
        integers = [round(x / Fraction(2) ** (code - 24 - r)) for x in xs]
        digits = [floor(Fraction(q, 2**r) + Fraction(1, 2)) for q in integers]
        if all(2 * abs(q) < (2**k - 1) * 2**r for q in integers):
            assert all(abs(q) < 2 ** (k - 1) for q in digits)
            finer = [q - d * 2**r for q, d in zip(integers, digits, strict=True)]
            assert all(-(2**r) <= 2 * t < 2**r for t in finer)
            assert any(digits) == any(integers)
            return (code if any(integers) else 62), r, integers, digits
    raise AssertionError("no exponent is enough")


def group_text(code, r, integers, digits, predictor, k):
    if code == 62:
        return "100"
    if code == 63:
        return "1111" + binary(63, 6)
    text = {0: "0", 1: "101", -1: "110"}.get(code - predictor, "1111" + binary(code, 6))
    rest = max(k - 3, 0)
    high = [abs(q) >> rest for q in digits]
    text += "".join("1" if h > 0 else "0" for h in high)
    if k >= 3:
        text += "".join("1" if h > 1 else "0" for h in high if h > 0)
        text += "".join("1" if h > 2 else "0" for h in high if h > 1)
    text += "".join(binary(abs(q) % 2**rest, rest) for q in digits)
    text += "".join("1" if q < 0 else "0" for q in digits if q)
    return text + "".join(binary(q % 2**r, r) for q in integers)


def stream_text(rows, k, width, least, link):
    words = []
    for start in range(0, len(rows), 64):
        text, predictor = "", 24
        block = rows[start : start + 64]
        for row in block:
            group = (63, 0, [], []) if not np.isfinite(row).all() else walk(row, k, width, least)
            text += group_text(*group, predictor, k)
            predictor = group[0] if group[0] < 62 else predictor
        text = binary(0xD8, 8) + binary(len(block) - 1, 6) + binary(len(text), 18) + text
        text += "0" * (-len(text) % link)
        words += [int(text[i : i + link][::-1], 2) for i in range(0, len(text), link)]
    return words


def values_of(rng, count, n, low=-18, high=6):
    field = np.clip(np.cumsum(rng.integers(-1, 2, count))[:, None] * 0.5, low, high)
    values = rng.standard_normal((count, n)) * np.exp2(field + rng.integers(-3, 1, (count, n)))
    values[rng.random(count) < 0.1] = 0
    values[rng.random(count) < 0.1] *= 2.0**-12
    return values.astype(np.float16)


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("width, least", [(8, 12), (13, 14), (16, 0), (13, 24)])
def test_streams(k, width, least):
    rng = np.random.default_rng(100 * k + width)
    values = values_of(rng, 130, 8)
    values[rng.integers(0, 130, 3), 2] = np.inf, np.nan, -np.inf
    joint = JointStream(machine(k), width, least)
    finite = np.isfinite(values)
    fixed = np.where(finite, values, 0).astype(np.float64) * 2.0**24
    groups, overflow = joint.quantise(fixed.astype(np.int64), poisoned=~finite.all(axis=1))
    assert not overflow
    words = joint.encode(groups)
    assert words == stream_text(values, k, width, least, 32)
    decoded = joint.decode(words)
    np.testing.assert_array_equal(decoded.exponent, groups.exponent)
    np.testing.assert_array_equal(decoded.integers, groups.integers)
    # one rounding, to the last step
    sound = groups.exponent < 62
    last = groups.exponent.astype(int) - joint.finer(groups.exponent)
    error = np.abs(joint.fixed(groups) - values.astype(np.float64) * 2.0**24)
    assert (error[sound] <= 2.0 ** (last[sound, None] - 1)).all()


@pytest.mark.parametrize("wide", [False, True], ids=["int64", "python integers"])
@pytest.mark.parametrize("k", [2, 3, 4, 8])
@pytest.mark.parametrize("exponent", [-31, -24, -3, 4])
def test_sums_of_an_accumulator_against_fractions(k, exponent, wide):
    rng = np.random.default_rng([k, exponent + 40])
    joint = JointStream(machine(k), 13, 20)
    values = np.rint(rng.standard_normal((60, 8)) * np.exp2(rng.integers(0, 22, (60, 1)))).astype(np.int64)
    top = ((2**k - 1) << 13 - k) - 1 >> 1
    values[0] = 2**40
    groups, overflow = joint.quantise(values.astype(object) << 30 if wide else values, exponent - 30 * wide)
    clamped = 0
    for row, code, integers in zip(values, groups.exponent, groups.integers, strict=True):
        exact = [Fraction(int(v)) * Fraction(2) ** exponent for v in row]
        for least in range(20, 43 - k):
            step = Fraction(2) ** (least - 24 - min(13 - k, least - 20))
            expected = [round(v / step) for v in exact]
            if all(abs(q) * step < Fraction(2**k - 1) * Fraction(2) ** (least - 25) for q in expected):
                break
        else:
            clamped += 1
            expected = [min(max(q, -top), top) for q in expected]
        assert integers.tolist() == expected and code == (least if any(expected) else 62)
    assert overflow == bool(clamped) == (exponent >= -3)


def test_the_longest_groups_fit_the_length():
    parameters = machine(8, 64, 512)
    joint = JointStream(parameters, 16, 0)
    rng = np.random.default_rng(0)
    # every first digit 127 or -127, exponents that jump
    integers = rng.choice([-1, 1], (64, 64)) * (127 * 256 + rng.integers(-128, 128, (64, 64)))
    groups = JointGroups(np.resize([10, 30], 64).astype(np.uint8), integers)
    words = joint.encode(groups)
    longest = 10 + 64 * (1 + 2 + 5 + 1 + 8)
    assert words[0] % 2**32 >> 14 == 64 * longest
    np.testing.assert_array_equal(joint.decode(words).integers, integers)


@settings(deadline=None, max_examples=60, print_blob=True)
@given(st.data())
def test_any_groups(data):
    """Whatever the rules allow, made by no quantiser."""
    k, link = data.draw(st.integers(2, 8)), data.draw(st.sampled_from([32, 64, 128]))
    width, least = data.draw(st.integers(k, 16)), data.draw(st.integers(0, 42 - k))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(1, 80))
    joint = JointStream(machine(k, 5, link), width, least)
    code = rng.integers(least, 43 - k, count)
    code[rng.random(count) < 0.3] = rng.choice([62, 63])
    top = ((2**k - 1) << joint.finer(code)) - 1 >> 1
    integers = np.where((code < 62)[:, None], rng.integers(-top[:, None], top[:, None] + 1, (count, 5)), 0)
    groups = JointGroups(code.astype(np.uint8), integers)
    words = joint.encode(groups)
    assert joint.bits(groups) == link * len(words)
    decoded = joint.decode(words)
    np.testing.assert_array_equal(decoded.exponent, code)
    np.testing.assert_array_equal(decoded.integers, integers)


def test_the_worked_example_of_the_document():
    page = (Path(__file__).resolve().parents[3] / "docs/formats.md").read_text()
    section = page.split("### Worked example of the joint stream")[1].split("\n## ")[0]
    words = [int(word, 16) for word in re.findall(r"`(0x[0-9a-f]{8})`", section)]
    joint = JointStream(machine(3, 4), 6, 20)
    values = np.array([[1, -0.3125, -3.46875, 0], [0, 0, 0, 0]], np.float16)
    groups, _ = joint.quantise((values.astype(np.float64) * 2.0**24).astype(np.int64))
    assert joint.encode(groups) == words and len(words) == 2
    decoded = joint.decode(words)
    assert decoded.exponent.tolist() == [25, 62]
    assert decoded.integers.tolist() == [[4, -1, -14, 0], [0, 0, 0, 0]]
    assert joint.first(decoded).digits.tolist() == [[1, 0, -2, 0], [0, 0, 0, 0]]
    bits = "".join(re.findall(r"`([01]+)`", section))
    assert bits == binary(words[1], 32)[: len(bits)] and words[0] >> 14 == len(bits)


def test_an_empty_stream():
    joint = JointStream(machine(3), 13, 10)
    empty, _ = joint.quantise(np.zeros((0, 8), np.int64))
    assert joint.encode(empty) == [] and len(joint.decode([])) == 0 and joint.bits(empty) == 0


@pytest.mark.parametrize(
    "width, least, message",
    [
        (2, 10, "width of a joint stream must be in 3..16, not 2"),
        (17, 10, "width of a joint stream must be in 3..16, not 17"),
        (13, 40, "floor of a joint stream must be in 0..39, not 40"),
        (13, 1.5, "floor of a joint stream must be in 0..39, not 1.5"),
    ],
)
def test_settings_are_refused(width, least, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        JointStream(machine(3), width, least)


@pytest.mark.parametrize(
    "code, integers, message",
    [
        (9, [0, 0, 0, 1], "an exponent code in 10..39, 62 or 63"),
        (40, [0, 0, 0, 1], "an exponent code in 10..39, 62 or 63"),
        (61, [0, 0, 0, 1], "an exponent code in 10..39, 62 or 63"),
        (10, [0, 0, 0, 4], "integers below (2^k - 1) 2^(r-1) in magnitude"),
        (12, [0, 0, 0, -14], "integers below (2^k - 1) 2^(r-1) in magnitude"),
        (62, [0, 0, 0, 1], "integers below (2^k - 1) 2^(r-1) in magnitude"),
        (12, [0, 0, 1], "4 lanes"),
    ],
)
def test_groups_are_refused(code, integers, message):
    joint = JointStream(machine(3, 4), 8, 10)
    with pytest.raises(ValueError, match=f"^Joint group must have {re.escape(message)}, not as in group 0$"):
        joint.encode(JointGroups(np.array([code], np.uint8), np.array([integers])))


GOOD = "0" + "1000" + "0" + "1" + "110" * 4  # e = 0, q = -1, 0, 0, 0, r = 3, low bits 3


def block(count, text, *, marker=0xD8, length=None, tail=""):
    text = binary(marker, 8) + binary(count - 1, 6) + binary(len(text) if length is None else length, 18) + text + tail
    text += "0" * (-len(text) % 32)
    return [int(text[i : i + 32][::-1], 2) for i in range(0, len(text), 32)]


def test_the_hand_made_group_is_good():
    decoded = JointStream(machine(3, 4), 6, 20).decode(block(2, GOOD + GOOD))
    assert decoded.integers.tolist() == [[-5, 3, 3, 3]] * 2


@pytest.mark.parametrize(
    "words, rule",
    [
        (block(1, GOOD, marker=0xD7), "the marker 0xd8"),
        (block(1, GOOD, length=200), "the words that its length says"),
        (block(2, GOOD + GOOD[:-1]), "as many whole groups as announced"),
        (block(1, "1111" + binary(40, 6) + GOOD[1:]), "groups of the format"),
        (block(2, GOOD + "1110" + GOOD[1:]), "groups of the format"),
        (block(1, "1111" + binary(62, 6) + GOOD), "groups of the format"),
        (block(1, "1111" + binary(19, 6) + GOOD[1:]), "exponent codes from 20 on"),
        (block(1, GOOD + "0"), "a length that its groups have"),
        (block(1, GOOD, tail="01"), "zeros behind its groups"),
    ],
)
def test_streams_are_refused(words, rule):
    joint = JointStream(machine(3, 4), 6, 20)
    with pytest.raises(ValueError, match=f"^Joint block must have {re.escape(rule)}, not as in block 1$"):
        joint.decode(block(1, GOOD) + words)
