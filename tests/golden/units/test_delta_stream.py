"""`delta_compressor` and `delta_decompressor` against a writer of bit texts made from docs/formats.md alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.diffusion import zoo
from golden.parameters import PRESETS, Parameters
from golden.units import delta_compressor as compressor
from golden.units.delta_compressor import cost, delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer, quantise_passes

pytestmark = pytest.mark.golden

REPLAY = {"exponent_policy": "layer", "overflow_policy": "replay"}
CASES = {
    "edge": PRESETS["edge"],
    "ulx3s": PRESETS["ulx3s"],
    "tiny": PRESETS["tiny"],
    "paper": PRESETS["paper"],
    "k2": Parameters(digit_width=2, lanes=5, outliers=2, memory_lanes=1, link_width=32),
    "k8": Parameters(digit_width=8, lanes=64, outliers=8, link_width=512),
    "k5": Parameters(digit_width=5, lanes=7, outliers=3, memory_lanes=1, link_width=64),
    "replay": Parameters(lanes=8, outliers=1, link_width=128, **REPLAY),
    "replay 3": Parameters(digit_width=4, lanes=12, outliers=3, link_width=64, **REPLAY),
}


def binary(value: int, width: int) -> str:
    """Bits, bit 0 first."""
    return "".join(str(value >> place & 1) for place in range(width))


def group_text(groups, g, predictor, before, first_of_block, parameters):
    k, n, m = parameters.digit_width, parameters.lanes, parameters.outliers
    code, replay = int(groups.exponent[g]), bool(groups.replay[g])
    if code == 62:
        return "100"
    if code == 63:
        return "1111" + binary(63, 6)
    if replay:
        usable = not first_of_block and before == code
        text = "1110" if usable else "1111" + binary(62, 6) + binary(code, 6)
    else:
        text = {0: "0", 1: "101", -1: "110"}.get(code - predictor, "1111" + binary(code, 6))
    slots = [
        (int(groups.outlier_lane[g, j]), int(groups.outlier_value[g, j]))
        for j in range(groups.outliers)
        if groups.outlier_valid[g, j]
    ]
    if m:
        text += binary(len(slots), m.bit_length())
    if not replay:
        digits = groups.digits[g].tolist()
        r = max(k - 3, 0)
        h = [abs(q) >> r for q in digits]
        text += "".join("1" if x > 0 else "0" for x in h)
        if k >= 3:
            text += "".join("1" if x > 1 else "0" for x in h if x > 0)
            text += "".join("1" if x > 2 else "0" for x in h if x > 1)
        text += "".join(binary(abs(q) % 2**r, r) for q in digits)
        text += "".join("1" if q < 0 else "0" for q in digits if q)
    for lane, value in slots:
        text += binary(lane, (n - 1).bit_length()) + binary(value, 16)
    return text


def stream(groups, parameters, passes):
    words = []
    for start in range(0, len(groups), 64):
        predictors, number, text = [24] * passes, 0, ""
        block = range(start, min(start + 64, len(groups)))
        for g in block:
            before = None if g == start or groups.exponent[g - 1] >= 62 else int(groups.exponent[g - 1])
            text += group_text(groups, g, predictors[number % passes], before, g == start, parameters)
            if not groups.replay[g]:
                if groups.exponent[g] < 62:
                    predictors[number % passes] = int(groups.exponent[g])
                number += 1
        words += pack(len(block), passes, text, parameters)
    return words


def pack(count, passes, text, parameters, *, marker=None, length=None):
    text = (
        binary(0xE0 + passes - 1 if marker is None else marker, 8)
        + binary(count - 1, 6)
        + binary(len(text) if length is None else length, 18)
        + text
    )
    width = parameters.link_width
    text += "0" * (-len(text) % width)
    return [int(text[i : i + width][::-1], 2) for i in range(0, len(text), width)]


def groups_of(rng, parameters, count, passes=1):
    field = np.clip(15 + np.cumsum(rng.integers(-1, 2, count))[:, None] // 2, 2, 29)
    field = field - rng.geometric(0.35, (count, parameters.lanes)) + 1
    bits = np.clip(field, 0, 30) << 10 | rng.integers(0, 1024, field.shape) | rng.integers(0, 2, field.shape) << 15
    bits[rng.random(count) < 0.1] = 0
    bits[rng.random(count) < 0.05, 0] = 0x7C00
    exponent = np.clip(field.max(axis=1) + 8 - parameters.digit_width, 0, 42 - parameters.digit_width)
    return quantise_passes(bits.astype(np.uint16), parameters, passes, floor=3, exponent=exponent).groups


@pytest.mark.parametrize("passes", [1, 2, 5, 8])
@pytest.mark.parametrize("name", CASES)
def test_streams(name, passes):
    parameters = CASES[name]
    groups = groups_of(np.random.default_rng(passes), parameters, 130, passes)
    words = delta_compressor(groups, parameters, passes=passes)
    assert words == stream(groups, parameters, passes)
    decoded = delta_decompressor(words, parameters, passes=passes)
    assert not decoded.error and decoded.status == {"error": False}
    assert len(decoded.groups) == len(groups) and decoded.groups.equals(groups).all()
    assert cost(groups, parameters, passes=passes).bits == len(words) * parameters.link_width


def test_every_digit_of_every_width():
    for k in range(2, 9):
        parameters = Parameters(digit_width=k, lanes=64, outliers=0, link_width=64)
        top = 2 ** (k - 1) - 1
        digits = np.resize(np.arange(-top, top + 1), (5, 64))
        groups = DeltaGroups.zeros(5, parameters).replace(exponent=np.array([0, 1, 0, 42 - k, 24]), digits=digits)
        decoded = delta_decompressor(delta_compressor(groups, parameters), parameters)
        assert not decoded.error and decoded.groups.equals(groups).all()


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_groups(data):
    """Groups no quantiser would make in this order, replays anywhere."""
    parameters = Parameters(digit_width=4, lanes=4, outliers=2, link_width=32, memory_lanes=1, **REPLAY)
    count, passes = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    code = rng.choice([0, 1, 23, 24, 25, 38, 62, 63], count)
    replay = (rng.random(count) < 0.3) & (code < 62)
    digits = np.where((replay | (code >= 62))[:, None], 0, rng.integers(-7, 8, (count, 4)))
    groups = DeltaGroups.zeros(count, parameters).replace(exponent=code, replay=replay, digits=digits)
    for g in range(count):
        lanes = np.sort(rng.permutation(4)[: rng.integers(0, 3)]) if code[g] < 62 else []
        for slot, lane in enumerate(lanes):
            groups.outlier_valid[g, slot], groups.outlier_lane[g, slot] = True, lane
            groups.outlier_value[g, slot] = rng.integers(0, 2**16)
            groups.digits[g, lane] = 0
    words = delta_compressor(groups, parameters, passes=passes)
    assert words == stream(groups, parameters, passes)
    decoded = delta_decompressor(words, parameters, passes=passes)
    assert not decoded.error and decoded.groups.equals(groups).all()


# Malformed streams -------------------------------------------------------------------------------------------------

TINY = Parameters(digit_width=3, lanes=4, outliers=1, link_width=32, memory_lanes=1)
ODD = Parameters(digit_width=3, lanes=5, outliers=2, link_width=32, memory_lanes=1)  # lanes 5..7, count 3 do not exist
REPLAYING = Parameters(digit_width=3, lanes=4, outliers=1, link_width=32, memory_lanes=1, **REPLAY)
ONE = "0" + "0" + "1000" + "0" + "1"  # e = 0, no outlier, digits -1, 0, 0, 0
GOOD = (24, (-1, 0, 0, 0))
BAD = (63, (0, 0, 0, 0))


def decode(words, parameters=TINY):
    decoded = delta_decompressor(words, parameters)
    decoded.groups.check(parameters)
    rows = zip(decoded.groups.exponent.tolist(), decoded.groups.digits.tolist(), strict=True)
    return [(code, tuple(digits)) for code, digits in rows], decoded.error


NEXT = pack(1, 1, ONE, TINY)


def test_the_hand_made_group_is_good():
    assert decode(pack(2, 1, ONE + ONE, TINY) + NEXT) == ([GOOD] * 3, False)


@pytest.mark.parametrize(
    ("count", "text", "good"),
    [
        (3, ONE + "1111" + binary(62, 6) + ONE + ONE, 1),  # a replay group where there are none
        (3, ONE + "1111" + binary(40, 6) + ONE[1:] + ONE, 1),  # code 40 = 43 - k
        (3, ONE + "1111" + binary(61, 6) + ONE[1:] + ONE, 1),
        (3, ONE + "1110" + ONE[1:] + ONE, 1),
        (3, "1111" + binary(39, 6) + ONE[1:] + "101" + ONE[1:] + ONE, 1),  # 39 + 1
        (3, "1111" + binary(0, 6) + ONE[1:] + "110" + ONE[1:] + ONE, 1),  # 0 - 1
        (3, ONE + ONE + ONE[:-1], 2),  # the last group has a bit beyond length
        (4, ONE + ONE, 2),
    ],
    ids=["replay", "43 - k", "61", "1110", "39 + 1", "0 - 1", "cut", "too few"],
)
def test_a_bad_group_poisons_the_rest_of_its_block(count, text, good):
    groups, error = decode(pack(count, 1, text, TINY) + NEXT)
    assert error
    assert all(code < 62 for code, _ in groups[:good])
    assert groups[good:] == [BAD] * (count - good) + [GOOD]


def test_groups_that_end_early_and_padding_only_raise_the_error():
    assert decode(pack(2, 1, ONE + ONE + "0", TINY) + NEXT) == ([GOOD] * 3, True)
    words = pack(1, 1, ONE, TINY)
    words[-1] |= 1 << 31
    assert decode(words + NEXT) == ([GOOD] * 2, True)


def test_lanes_and_counts_that_do_not_exist():
    zero = "0" + binary(2, 2) + "00000"

    def outliers(*lanes):
        return "".join(binary(lane, 3) + binary(0x3C00, 16) for lane in lanes)

    tail = pack(1, 1, "100", ODD)
    assert decode(pack(2, 1, zero + outliers(1, 4) + "100", ODD) + tail, ODD)[1] is False
    for lanes in ((4, 4), (3, 1), (4, 5), (7, 7)):
        words = pack(2, 1, zero + outliers(*lanes) + "100", ODD) + tail
        groups, error = decode(words, ODD)
        assert error and [code for code, _ in groups] == [63, 63, 62]
    words = pack(2, 1, "0" + binary(3, 2) + "00000" + outliers(0, 1, 2) + "100", ODD) + tail
    groups, error = decode(words, ODD)
    assert error and [code for code, _ in groups] == [63, 63, 62]


def test_replay_groups():
    outlier = "1" + binary(3, 2) + binary(0x4900, 16)
    long = "1111" + binary(62, 6)
    tail = pack(1, 1, "100", REPLAYING)

    def codes(text, count):
        decoded = delta_decompressor(pack(count, 1, text, REPLAYING) + tail, REPLAYING)
        return decoded.groups.exponent.tolist(), decoded.groups.replay.tolist(), decoded.error

    assert codes(ONE + "1110" + outlier, 2) == ([24, 24, 62], [False, True, False], False)
    assert codes(long + binary(30, 6) + outlier + "1110" + outlier, 2) == ([30, 30, 62], [True, True, False], False)
    assert codes("100" + long + binary(30, 6) + outlier, 2) == ([62, 30, 62], [False, True, False], False)
    assert codes("1110" + outlier, 1) == ([63, 62], [False, False], True)  # starts a block
    assert codes("100" + "1110" + outlier, 2) == ([62, 63, 62], [False] * 3, True)  # after a zero group
    assert codes("1111" + binary(63, 6) + "1110" + outlier, 2) == ([63, 63, 62], [False] * 3, True)
    assert codes(long + binary(62, 6) + outlier, 1) == ([63, 62], [False] * 2, True)
    assert codes(long + binary(40, 6) + outlier, 1) == ([63, 62], [False] * 2, True)


def test_bad_headers_announce_nothing():
    for words in (
        pack(2, 1, ONE + ONE, TINY, marker=0xE8),
        pack(2, 1, ONE + ONE, TINY, length=1),  # fewer bits than groups
        pack(2, 1, ONE + ONE, TINY, length=2 * (10 + 1 + 4 * 4 + 18) + 1),  # more than two of the longest
    ):
        assert decode(words + NEXT) == ([GOOD], True)
        assert decode(NEXT + words) == ([GOOD, BAD], True)  # nothing left to mark last
    assert decode([0, 0xFFFF_FFFF, 0x12345678]) == ([BAD], True)


@pytest.mark.parametrize("passes", range(1, 9))
def test_other_passes_are_refused(passes):
    other = 1 + passes % 8
    words = pack(2, other, ONE + ONE, TINY) + pack(1, passes, ONE, TINY)
    decoded = delta_decompressor(words, TINY, passes=passes)
    assert decoded.error and decoded.groups.exponent.tolist() == [24]


def test_resumes_at_the_next_marker_not_after_the_claimed_length():
    words = pack(2, 1, ONE + ONE, TINY, length=1)[:1] + NEXT
    assert decode(words) == ([GOOD], True)


def test_truncated():
    text = "".join([ONE] * 20)
    words = pack(20, 1, text, TINY)
    for kept in range(1, len(words)):
        whole = (kept * 32 - 32) // len(ONE)
        assert decode(words[:kept]) == ([GOOD] * whole + [BAD] * (20 - whole), True)
    assert decode(words) == ([GOOD] * 20, False)
    assert decode([]) == ([], False)


@pytest.mark.parametrize("name", ["edge", "replay", "paper", "k8"])
def test_flipped_bits_never_stop_a_decoder(name):
    """Whatever a bit does, the blocks after the damaged one that keep their place arrive unharmed."""
    parameters = CASES[name]
    rng = np.random.default_rng(6)
    groups = groups_of(rng, parameters, 400)
    parts = [groups[i : i + 64] for i in range(0, len(groups) - 63, 64)]
    blocks = [delta_compressor(part, parameters) for part in parts]
    for _ in range(15):
        broken = [list(block) for block in blocks]
        word = int(rng.integers(len(broken[1])))
        bit = int(rng.integers(32, parameters.link_width)) if word == 0 and parameters.link_width > 32 else None
        if word == 0 and bit is None:
            continue
        bit = int(rng.integers(parameters.link_width)) if bit is None else bit
        broken[1][word] ^= 1 << bit
        decoded = delta_decompressor(sum(broken, []), parameters)
        assert len(decoded.groups) == 64 * len(parts)  # marker and length are sound: the number is kept
        assert decoded.groups[:64].equals(parts[0]).all()
        assert decoded.groups[128:].equals(DeltaGroups.concatenate(parts[2:])).all()
    for _ in range(20):
        noise = [int.from_bytes(rng.bytes(parameters.link_width // 8), "little") for _ in range(30)]
        decoded = delta_decompressor(noise + blocks[0], parameters)
        assert decoded.error


# Sizes ---------------------------------------------------------------------------------------------------------------


def test_the_goal_of_bits_per_element_on_real_deltas():
    """At most 2.1 bits per element at k = 3, n = 32, headers, exponents and padding included."""
    recording = zoo.recorded()
    values = recording.groups(32)[1:48].reshape(-1, 32).view(np.uint16)
    parameters = Parameters(digit_width=3, lanes=32, outliers=0, link_width=128)
    groups = delta_quantizer(values, parameters).groups
    spent = cost(groups, parameters)
    assert spent.bits == len(delta_compressor(groups, parameters)) * 128
    assert spent.bits < 1.95 * values.size
    limit = compressor.entropy_bits(groups)
    assert limit < spent.bits < limit + 0.3 * values.size
    assert spent.bits < compressor.list_bitmap_bits(groups, parameters)


def test_published_sizes():
    """1.86 % outliers at k = 3 cost 4.24 bits in the published form."""
    parameters = Parameters(lanes=50, outliers=1, memory_lanes=1)
    count = 10_000
    groups = DeltaGroups.zeros(count, parameters).replace(exponent=np.full(count, 24))
    valid = (np.arange(count) % 100 < 93)[:, None]  # 93 outliers in 100 * 50 lanes
    groups = groups.replace(outlier_valid=valid, outlier_value=np.where(valid, 0x3C00, 0))
    assert compressor.list_bitmap_bits(groups, parameters) / (50 * count) == pytest.approx(4.24, abs=0.005)


def test_entropy():
    parameters = Parameters(lanes=4, outliers=0, memory_lanes=1)
    groups = DeltaGroups.zeros(4, parameters).replace(
        exponent=np.full(4, 24), digits=np.array([[0, 0, 1, 1], [2, 2, 2, 2], [1, 1, 0, 0], [2, 2, 2, 2]])
    )
    assert compressor.entropy_bits(groups) == pytest.approx(16 * 1.5)
    assert compressor.entropy_bits(groups, passes=2) == pytest.approx(8.0)


def test_costs_by_field():
    groups = DeltaGroups.zeros(2, TINY).replace(
        exponent=np.array([24, 25]), digits=np.array([[3, 0, -2, 0], [1, 1, 0, 0]])
    )
    groups.outlier_valid[1], groups.outlier_lane[1], groups.outlier_value[1] = True, 3, 0x5000
    spent = cost(groups, TINY)
    assert (spent.header, spent.exponent, spent.count, spent.planes) == (32, 1 + 3, 2, (4 + 2 + 2) + (4 + 2 + 0))
    assert (spent.rest, spent.signs, spent.outliers, spent.padding) == (0, 4, 18, (-(4 + 2 + 14 + 4 + 18)) % 32)
    assert cost(groups[:0], TINY).bits == 0 and delta_compressor(groups[:0], TINY) == []


def test_bad_arguments():
    groups = DeltaGroups.zeros(1, TINY)
    for passes in (0, 9, 1.0):
        with pytest.raises(ValueError, match=rf"^passes must be in 1\.\.8, not {passes}$"):
            delta_compressor(groups, TINY, passes=passes)
        with pytest.raises(ValueError, match=rf"^passes must be in 1\.\.8, not {passes}$"):
            delta_decompressor([], TINY, passes=passes)
    with pytest.raises(ValueError, match="^Delta group must have digits in -3..3, not as in group 0$"):
        delta_compressor(groups.replace(exponent=np.array([24]), digits=np.array([[-4, 0, 0, 0]])), TINY)
    with pytest.raises(ValueError, match=r"^Words must be in 0\.\.2\^32 - 1, not 4294967296$"):
        delta_decompressor([2**32], TINY)


def test_the_longest_group_is_as_the_format_says():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    assert re.search(r"`G = 10 \+ ceil\(log2\(m\+1\)\) \+ n \* \(1 \+ \[k>=3\]\*2 \+ r \+ 1\)", text)
    for parameters in CASES.values():
        k, n, m = parameters.digit_width, parameters.lanes, parameters.outliers
        expected = 10 + int(np.ceil(np.log2(m + 1))) + n * (1 + (2 if k >= 3 else 0) + max(k - 3, 0) + 1)
        expected += m * (int(np.ceil(np.log2(n))) + 16)
        assert compressor.Layout.of(parameters).longest == expected


def test_the_worked_example_of_the_document():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    example = text[text.index("### Worked example") :].split("\n## ")[0]
    words = [int(word, 16) for word in re.findall(r"`0x([0-9a-f]{8})`", example)]
    parameters = Parameters(digit_width=3, lanes=4, outliers=1, link_width=32, memory_lanes=1)
    decoded = delta_decompressor(words, parameters)
    assert not decoded.error and decoded.groups.exponent.tolist() == [25, 62]
    assert decoded.groups.digits.tolist() == [[1, 0, -3, 0], [0] * 4]
    assert decoded.groups.dequantise()[0].tolist() == [2.0, 0.0, -6.0, 100.0]
    assert delta_compressor(decoded.groups, parameters) == words
    bits = "".join(re.sub("[^01]", "", row.split("|")[1]) for row in re.findall(r"^\| `[01` ]+\|", example, re.M))
    assert bits == "".join(binary(word, 32) for word in words[1:])[:34]
