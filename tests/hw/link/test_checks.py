"""Checks of blocks in hardware: amaranth's own and golden's agree, and damage of the promised kinds never passes."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.cyclic_check import check_bits
from hw.link.checks import ALGORITHM, CheckReader, CheckWriter
from hw.units import DeltaDecompressor
from sim import engine
from tests.golden.units.test_cyclic_check import damages
from tests.hw import delta_streams
from tests.hw.streams import exchange, inspect, refusal

WIDTHS = (32, 64, 128, 512)
TINY = {"lanes": 4, "memory_lanes": 2, "link_width": 32}


def machine(width, *, checked):
    return Parameters(lanes=4, memory_lanes=1, link_width=width, link_checks=checked)


def blocks(width, seed):
    """Words of streams of blocks, without checks and with them.

    The two forms differ in a bit of the marker, too, which neither part changes: it is set in both.
    """
    forms, r = [machine(width, checked=checked) for checked in (False, True)], random.Random(seed)
    result = [], []
    for count in r.sample([1, 1, 1, 2, 2, 3, 3, 64, 66, 130], 10):
        groups = delta_streams.random_groups(forms[0], count, seed=r.random())
        for start in range(0, count, 64):
            bits, _ = delta_streams.encode_block(forms[0], groups[start : start + 64], 1)
            for p, words in zip(forms, result, strict=True):
                data = delta_streams.to_words(p, bits[:3] + "1" + bits[4:])
                words += [
                    {"data": word, "last": int(start + 64 >= count and place == len(data))}
                    for place, word in enumerate(data, 1)
                ]
    return result


@pytest.mark.unit
def test_the_check_is_goldens(fresh_seed):
    draw = np.random.default_rng(fresh_seed)
    for words in (1, 2, 9):
        bits = draw.integers(0, 2, (words, 64)).astype(np.bool_)
        data = [int.from_bytes(np.packbits(word, bitorder="little").tobytes(), "little") for word in bits]
        found = ALGORITHM(64).compute(data)
        assert [found >> place & 1 for place in range(16)] == check_bits(bits.ravel()).tolist()


@pytest.mark.unit
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("pattern", ["none", "both"])
def test_checks_are_put_in_and_taken_out(width, pattern, fresh_seed):
    plain, checked = blocks(width, fresh_seed)
    put_in = exchange(CheckWriter(width), plain, outputs=len(checked), pattern=pattern)
    assert put_in.outputs == checked
    marker, longest = delta_streams.MARKER + 8, delta_streams.longest(machine(width, checked=True))
    taken_out = exchange(
        CheckReader(width, longest), checked, outputs=len(plain), pattern=pattern, ports={"marker": marker}
    )
    assert taken_out.outputs == plain
    if pattern == "none":
        assert put_in.taken[-1] < len(checked)
        assert put_in.left[0] - put_in.taken[0] == inspect(CheckWriter(width)).latency
        # One clock more for each of up to 13 blocks; behind the longest one short ones may have to wait for it once.
        assert taken_out.taken[-1] < len(checked) + 13 + 64 * longest / width


@pytest.mark.cocotb
def test_no_damage_of_the_promised_kinds_passes():
    """Every single flip, every two, bursts of up to 16 bits, in a short block, through the emitted decompressor."""
    p, plain = (Parameters(**TINY, link_checks=checked) for checked in (True, False))
    groups = delta_streams.random_groups(p, 2, seed=4, density=1.0, exponents=(22, 26))
    block = delta_streams.encode(p, groups, 1)
    every = list(damages(32 * len(block)))
    assert len(every) > 15_000
    sound, good = run(p, block, [0])
    assert not sound.status["error"] and good == [2]
    outcome, good = run(p, block, every)
    assert outcome.status["error"] and not any(good)
    # Without checks some of it passes: so the test can fail.
    block = delta_streams.encode(plain, groups, 1)
    assert any(run(plain, block, [1 << place for place in range(32, 32 * len(block))])[1])


def run(p, block, damage):
    """Outcome of the block under each damage, and how many good groups came of each."""
    words = np.array([[word ^ each >> 32 * index & 0xFFFFFFFF for index, word in enumerate(block)] for each in damage])
    last = np.tile(np.arange(1, len(block) + 1) == len(block), len(damage))
    outcome = engine.run(
        DeltaDecompressor(p),
        np.zeros(0, np.uint8),
        [],
        streams={"i": {"data": words.ravel(), "last": last}},
        mode="none",
    )
    found = outcome.streams["o"]
    ends = np.cumsum(found["last"]) - found["last"]
    assert ends[-1] == len(damage) - 1
    return outcome, np.bincount(ends, found["group"]["exponent"] != 63, len(damage)).astype(int).tolist()


@pytest.mark.unit
@pytest.mark.parametrize("kind", [CheckWriter, lambda width: CheckReader(width, 40)])
def test_rejects(kind):
    assert str(refusal(kind, 16)) == "width must be at least 32, not 16"
