"""Figures of published networks as the two cost models gave them that became one (commit 3384d2d).

Clocks and work of the open loop are newer: raw attention is passes of digits since.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from golden.diffusion import zoo
from golden.diffusion.cost import cambricon_d, traffic
from golden.diffusion.cost.layer import LayerShape
from golden.diffusion.cost.predict import explain, predict, total
from golden.diffusion.cost.rates import Rates
from golden.diffusion.differential.method import Method
from golden.diffusion.networks import published
from golden.parameters import PRESETS

pytestmark = pytest.mark.golden

PINNED = json.loads((Path(__file__).parent / "recorded" / "pinned.json").read_text(encoding="utf-8"))
METHODS = {
    "dense": "dense",
    "int8": "dense",
    "diffy": "closed-int3",
    "raw": "raw-int8",
    "sign_mask": "paper",
    "closed_loop": "closed-int3",
}
RATES = Rates(input_bits=2.7, output_bits=8.4, passes=1.5, zero_groups=0.25)
LAYERS = {
    "convolution": LayerShape(in_channels=64, out_channels=64, kernel=3, height=16, width=16),
    "odd": LayerShape(in_channels=65, out_channels=3, kernel=3, height=7, width=5, stride=2, batch=2),
}


@pytest.mark.parametrize("name", PINNED["networks"])
def test_networks(name):
    network = zoo.load(name) if name in zoo.DRAWS else published.network(name)
    for flow, method in METHODS.items():
        how = Method.named(method)
        machine = dataclasses.replace(how.machine, state_width=24)  # what was pinned
        loads = traffic.loads(network, 2, how.attention)
        cost = total(predict(load, flow, RATES, machine) for load in loads)
        found = {key: getattr(cost, key) for key in PINNED["networks"][name][flow]}
        assert found == pytest.approx(PINNED["networks"][name][flow], rel=1e-9, abs=1e-3), flow


@pytest.mark.parametrize("name", PINNED["published"])
def test_published_machine(name):
    loads = traffic.loads(published.network(name), 1, "raw", modulated=True)
    for flow, pair in PINNED["published"][name].items():
        assert cambricon_d.against_dense(loads, flow, RATES, PRESETS["paper"]) == pytest.approx(pair, abs=2e-6), flow


@pytest.mark.parametrize("preset", PINNED["layers"])
def test_layers(preset):
    for layer, rows in PINNED["layers"][preset].items():
        found = {
            row["flow"]: row for row in explain(LAYERS[layer], dataclasses.replace(PRESETS[preset], state_width=24))
        }
        assert {flow: found[flow] for flow in rows} == rows
