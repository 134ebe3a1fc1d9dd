# amaranth: UnusedElaboratable=no
"""The demo in the Amaranth simulator: what it says on its UART and shows on its LEDs."""

import dataclasses
import functools
import re

import numpy as np
import pytest
from amaranth.sim import Simulator

from fpga.content import Content, recorded_content
from fpga.demo import Demo, UartTransmitter, clocks
from golden.parameters import PRESETS

pytestmark = pytest.mark.unit

_BIT = 2


@functools.cache
def _content(preset: str, count: int) -> Content:
    return recorded_content(PRESETS[preset], count)


def _demo(content: Content, title: str = "tiny") -> Demo:
    return Demo(content, title=title, bit_clocks=_BIT, pause_clocks=5, beat_clocks=50)


def _listen(demo: Demo, lines: int, limit: int = 20_000) -> tuple[list[str], list[int], int]:
    """Lines heard on the UART, LEDs after each, and how often the heartbeat changed."""
    heard, leds, text, beats = [], [], bytearray(), 0

    async def receive(ctx):
        nonlocal beats
        last, wait, bits = ctx.get(demo.leds), None, []
        for _ in range(limit):
            tx, now = ctx.get(demo.tx), ctx.get(demo.leds)
            beats += (now ^ last) >> 2
            last = now
            if wait is None:
                if tx == 0:
                    wait, bits = _BIT + _BIT // 2, []  # the middle of the first data bit
            else:
                wait -= 1
                if wait == 0:
                    bits.append(tx)
                    wait = _BIT
                    if len(bits) == 9:
                        assert bits[8] == 1, "no stop bit"
                        text.append(sum(bit << index for index, bit in enumerate(bits[:8])))
                        wait = None
                        if text.endswith(b"\r\n"):
                            heard.append(text.decode("ascii")[:-2])
                            leds.append(now)
                            text.clear()
                            if len(heard) == lines:
                                return
            await ctx.tick()
        raise AssertionError(f"{len(heard)} of {lines} lines after {limit} clocks: {heard}")

    simulator = Simulator(demo)
    simulator.add_clock(1e-6)
    simulator.add_testbench(receive)
    simulator.run()
    return heard, leds, beats


def test_real_groups_pass_with_and_without_hold_ups():
    heard, leds, beats = _listen(_demo(_content("tiny", 160)), lines=3)
    assert heard == ["driftless PASS 0160/0160 multiplier_group tiny"] * 3
    assert [value & 3 for value in leds] == [1, 1, 1]
    assert beats > 10


@pytest.mark.parametrize(("index", "bit"), [(0, 31), (77, 0), (159, 16)])
def test_a_corrupted_sum_fails_and_is_named(index, bit):
    heard, leds, _ = _listen(_demo(_content("tiny", 160).corrupted(index, bit)), lines=2)
    assert heard == [f"driftless FAIL 0159/0160 multiplier_group tiny, first wrong sum {index:04d}"] * 2
    assert [value & 3 for value in leds] == [2, 2]


def test_a_corrupted_weight_fails():
    content = _content("tiny", 160)
    weights = content.weights.copy()
    used = np.flatnonzero((content.groups.digits[:144] != 0).any(axis=1))[3]
    lane = np.flatnonzero(content.groups.digits[used])[0]
    weights[used, lane] ^= 1 << 9
    heard, _, _ = _listen(_demo(dataclasses.replace(content, weights=weights)), lines=1)
    assert re.fullmatch(rf"driftless FAIL 0\d+/0160 .*, first wrong sum {used:04d}", heard[0])


def test_missing_sums_end_a_round(monkeypatch):
    # A round longer than its patience: sums that never come must not hang the demo.
    monkeypatch.setattr("fpga.demo._CLOCKS_PER_GROUP", 1)
    heard, leds, _ = _listen(_demo(_content("tiny", 40)), lines=1)
    good, first = re.fullmatch(r"driftless FAIL (\d+)/0040 .*, first wrong sum (\d+)", heard[0]).groups()
    assert good == first and int(good) < 40
    assert leds[0] & 3 == 2


@pytest.mark.parametrize("preset", ["edge", "ulx3s"])
def test_other_machines(preset):
    heard, _, _ = _listen(_demo(_content(preset, 48), preset), lines=2)
    assert heard == [f"driftless PASS 0048/0048 multiplier_group {preset}"] * 2


def test_content_is_real():
    content = _content("tiny", 1024)
    assert len(set(content.sums)) > 100
    assert not any(content.poisoned)
    assert content.groups.outlier_valid.sum() > 100
    assert 10 < content.groups.zero.sum() < 900


def test_sums_against_plain_numbers():
    """Sums of the ROM against the recorded deltas and weights themselves, within what digits and weights round away."""
    content = _content("edge", 36 * 3)
    weights = content.weights * 2.0 ** content.scale[:, None]  # in units of the accumulator's least bit
    partial = (content.groups.dequantise().reshape(3, 36, 16) * weights).sum(axis=2).cumsum(axis=1)
    np.testing.assert_allclose(np.array(content.sums).reshape(3, 36), partial, atol=36 * 0.5)


def test_refusals():
    content = _content("tiny", 160)
    with pytest.raises(ValueError, match=r"^bit_clocks must be at least 1, not 0$"):
        Demo(content, title="x", bit_clocks=0, pause_clocks=1, beat_clocks=1)
    with pytest.raises(ValueError, match=r"^title must be printable ASCII without braces, not 'ü'$"):
        Demo(content, title="ü", bit_clocks=1, pause_clocks=1, beat_clocks=1)
    with pytest.raises(ValueError, match=r"^bit_clocks must be at least 1, not 0$"):
        UartTransmitter(0)
    with pytest.raises(ValueError, match=r"^Index of a stored sum must be in 0\.\.159, not 160$"):
        content.corrupted(160)
    with pytest.raises(ValueError, match=r"^Bit of a stored sum must be in 0\.\.31, not 32$"):
        content.corrupted(0, 32)
    with pytest.raises(ValueError, match=r"^Groups of the demo must be in 1\.\.9999, not 0$"):
        recorded_content(PRESETS["tiny"], 0)
    with pytest.raises(ValueError, match=r"^Groups of the demo must be at most 1152, not 1153$"):
        recorded_content(PRESETS["ulx3s"], 1153)


def test_timing_of_the_boards():
    assert clocks(25e6) == {"bit_clocks": 217, "pause_clocks": 25_000_000, "beat_clocks": 12_500_000}
    assert abs(12e6 / clocks(12e6)["bit_clocks"] / 115_200 - 1) < 0.01
