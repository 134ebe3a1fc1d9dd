"""Figures of a sampling, from rows that are made up: by hand."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.networks import Network
from golden.parameters import preset
from rtl_gen.program.sums import SAMPLE_TAG
from sim.machine import figures
from sim.machine.whole import StepRow
from tests.golden.diffusion.sampling.networks import SMALL, random_unet

pytestmark = pytest.mark.golden

NETWORK = random_unet()
TAGS = {layer.name: number for number, layer in enumerate(NETWORK.layers)}


def row(step, by_tag, **counters):
    found = {"array_groups": 0, "array_zero_groups": 0, "link_groups": 0, "link_outputs": 0}
    found |= dict.fromkeys(("load_waiting", "multiply_waiting", "accumulate_waiting", "emit_waiting"), 0)
    return StepRow(step, 90, sum(by_tag.values()), 2.0, found | counters, by_tag)


def test_shares_of_layers():
    attention = next(name for name in TAGS if name.endswith("scores"))
    rows = [row(step, {TAGS["stem.conv"]: 60, TAGS[attention]: 30, SAMPLE_TAG: 10}) for step in range(2)]
    found = {one["layers"]: one for one in figures.shares(NETWORK, rows)}
    assert [one["clocks"] for one in found.values()] == [120, 60, 0, 20]
    assert [one["share of clocks"] for one in found.values()] == [0.6, 0.3, 0.0, 0.1]
    # two levels attend: 4 x 4 positions of 16 channels, down and up; scores and mixtures
    attended = 2 * 2 * 16 * 16 * 16
    assert SMALL.widths[1] == 16 and SMALL.side == 8
    share = found["attention"]["share of MACs"]
    assert found["products with weights"]["share of MACs"] == pytest.approx(1 - share, abs=1e-4)
    assert share == pytest.approx(attended / macs(), abs=1e-4)


def macs():
    """Multiplications of the network, attention included, from the shapes of its weights."""
    shapes = NETWORK.shapes()
    total = 0
    for layer in NETWORK.layers:
        out = shapes[layer.name]
        if layer.kind == "convolution":
            total += int(np.prod(out)) * int(np.prod(layer.weight.shape[1:]))
        elif layer.bilinear:
            inner = shapes[layer.inputs[0]][-1]
            total += int(np.prod(out)) * inner
        elif layer.kind == "linear" and len(out) > 2:
            total += int(np.prod(out)) * layer.weight.shape[1]
    return total


def test_totals_and_steps():
    p = preset("edge")
    rows = [row(0, {1: 100}, array_groups=600, array_zero_groups=80, load_waiting=25), row(1, {1: 300})]
    total = figures.totals(rows, [[], []], p)
    assert (total["clocks"], total["predicted"], total["clocks a second"]) == (400, 180, 100)
    assert total["not zero"] == round(520 / (400 * p.rows * p.columns), 3)
    assert total["load waits"] == round(25 / 400, 3)
    first, second = figures.by_step(rows, [[], []], p)
    assert (first["step"], first["clocks"], second["step"], second["clocks"]) == (0, 100, 1, 300)


def test_bytes_of_each_flow():
    counters = {"memory_states_read": 2_500_000, "memory_states_written": 0, "chip_held_written": 1_000, "clocks": 7}
    assert figures.flows(counters) == [
        {"flow": "states", "read MB": 2.5, "written MB": 0.0},
        {"flow": "held on the chip", "read MB": 0.0, "written MB": 0.001},
    ]


def test_bits_on_the_link():
    """Twice the network: 3 bits for each operand and 5 for each output."""
    shapes = NETWORK.shapes()
    products = [layer for layer in NETWORK.layers if layer.contracted and len(shapes[layer.name]) > 2]
    read = {source for layer in products for source in layer.inputs[: len(layer.contracted)]}
    ins, outs = (2 * sum(int(np.prod(shapes[one])) for one in names) for names in (read, [x.name for x in products]))
    (found,) = figures.link(NETWORK, {"link_group_bits": 3 * ins, "link_output_bits": 5 * outs}, 2)
    assert found == {
        "bits of an operand": 3.0,
        "bits of an output": 5.0,
        "link": pytest.approx((3 * ins + 5 * outs) / (16 * (ins + outs)), abs=1e-4),
    }


def test_images_a_second():
    p = preset("edge")
    counters = {"array_groups": 1600 * p.rows * p.columns}
    mine, bound, dense, unbound = figures.rates(NETWORK, counters, 4000, steps=4, count=2, clock=50.0, p=p)
    assert (mine["clocks an image"], mine["images a second"]) == (2_000, 25_000.0)
    assert (bound["clocks an image"], bound["images a second"]) == (800, 62_500.0)
    assert dense["clocks an image"] == 4 * figures.int8_clocks(NETWORK, p) >= unbound["clocks an image"]
    # where the array is large, bytes bind
    slow, fast = (dataclasses.replace(p, memory_width=width, rows=64, columns=64) for width in (32, 64))
    assert figures.int8_clocks(NETWORK, slow) == pytest.approx(2 * figures.int8_clocks(NETWORK, fast), abs=1)
    alone = [figures.int8_clocks(NETWORK, machine, memory=False) for machine in (slow, fast)]
    assert alone[0] == alone[1] < figures.int8_clocks(NETWORK, fast)


def test_images_against_dense_ones():
    rng = np.random.default_rng(2)
    dense = rng.uniform(-1, 1, (2, 1, 8, 8)).astype(np.float32)
    drawn = dense.copy()
    drawn[1] += 0.02
    nameless = Network("another", NETWORK.inputs, NETWORK.layers, NETWORK.config)  # no digits
    first, second = figures.images(nameless, drawn, dense)
    assert first == {"image": 0, "PSNR dB": float("inf"), "SSIM": 1.0}
    assert second["PSNR dB"] == 40.0  # a peak of 2 over an error of 0.02
