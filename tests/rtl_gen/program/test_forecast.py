"""Forecasts against what was measured on the emitted Verilog, and against themselves."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import rtl_gen.__main__
from golden.diffusion import zoo
from golden.diffusion.cost.cambricon_d import BANDWIDTH
from golden.diffusion.cost.predict import predict
from golden.diffusion.cost.rates import Rates
from golden.diffusion.cost.traffic import loads
from golden.diffusion.differential.method import Method
from golden.machine.command import Emit, LoadWeights, Multiply, Operation
from golden.machine.work import needed_groups, work
from golden.parameters import PRESETS, preset
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.forecast import forecast
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

FIGURES = Path(__file__).resolve().parents[3] / "docs/figures"


def on(name, method="closed-int4"):
    return on_machine(Method.named(method), options.Machine(name, preset(name)))


@pytest.mark.parametrize(
    "recorded, network, machine", [("verilog-unet", "unet", "edge"), ("verilog-dit", "dit", "edge")]
)
def test_clocks_of_every_step_are_those_of_the_verilog(recorded, network, machine):
    """Within 4 %, over the whole sampling within 3 %: no weights, no calibration, no image."""
    rows = json.loads((FIGURES / f"{recorded}.json").read_text())["output"]["by step"]
    measured = {row["step"]: row["clocks"] for row in rows}
    found = forecast(zoo.load(network), on(machine), steps=len(rows))
    for step, line in zip(found.steps, found.lines, strict=True):
        index = int(re.findall(r"\d+", step.name)[0])
        assert line.clocks == pytest.approx(measured[index], rel=0.04), step.name
    *_, whole = found.by_step()
    assert whole["clocks"] == pytest.approx(sum(measured.values()), rel=0.03)


def test_layers_and_steps_add_up():
    found = forecast(random_unet(), on("tiny"), steps=6, samples=1)
    assert sum(step.count for step in found.steps) == 6
    *kinds, whole = found.by_step()
    assert whole["clocks"] == sum(step.count * row["clocks"] for step, row in zip(found.steps, kinds, strict=True))
    needed = sum(step.count * needed_groups(step.commands) for step in found.steps)
    assert whole["use"] == pytest.approx(needed / (2 * whole["clocks"]), abs=1e-3)
    *layers, every = found.by_layer()
    assert (every["clocks"], every["use"]) == (whole["clocks"], whole["use"])
    assert sum(row["use"] * 2 * row["clocks"] for row in layers) == pytest.approx(needed, rel=0.01)
    assert sum(row["clocks"] for row in layers) <= whole["clocks"]


def test_speed_and_traffic_over_dense_by_hand():
    """Weights, groups and outputs as operations move them; products of two activations are left out."""
    network = random_unet(1)
    found = forecast(network, on("tiny"), steps=6)
    wide, narrow = found.against_dense(8.0)
    assert (wide["bytes a clock"], narrow["bytes a clock"]) == (BANDWIDTH, found.parameters.memory_width / 8)
    p, moved, weights = found.parameters, 0, 0
    bilinear = {number for number, layer in enumerate(network.layers) if layer.bilinear}
    for step in found.steps:
        for one in step.commands:
            if not isinstance(one, Operation) or one.tag in bilinear:
                continue
            if isinstance(one, LoadWeights):
                moved += step.count * work(one, p).read
            if isinstance(one, Emit) and one.sent:
                moved += step.count * work(one, p).vectors * (one.passes + 1) * 6  # 6 + 4 x 4 + 19 bits
            if isinstance(one, Multiply) and one.leave:
                moved += step.count * (one.rows + 1) * one.lines * one.columns * one.collected
    for load in loads(network):
        if load.weights:
            weights += 6 * predict(load, "dense", Rates(), PRESETS["paper"]).weights
    assert wide["traffic"] == narrow["traffic"] == pytest.approx(moved / weights, abs=0.01)
    assert 0 < narrow["speedup"] and 0 < wide["speedup"]


def test_the_command(tmp_path):
    arguments = ["forecast", "--network", "unet", "--preset", "ulx3s", "--images", "1,2", "--steps", "3", "--json"]
    arguments.append("--activity")
    found = CliRunner().invoke(rtl_gen.__main__.main, arguments)
    assert found.exit_code == 0, found.output
    one, two = json.loads(found.stdout)["samplings"]
    assert (one["images"], two["images"]) == (1, 2) and one["steps"] == "all"
    assert 0.05 < one["zero"] < 0.3 and 1.9 < two["Mbit up"] / one["Mbit up"] < 2.1
    assert one["clocks"] < two["clocks"] < 2 * one["clocks"] and one["use"] < two["use"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--preset", "edgy"], "Preset must be one of the known names, not 'edgy'"),
        (["--images", "0"], "Images must be at least 1, not 0"),
        (["--network", "dit-xl-2", "--activity"], "Network must have weights for --activity, which 'dit-xl-2' has not"),
        (["--method", "dense"], "Method of a program must send digits, not be of flow dense"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence):
    found = CliRunner().invoke(rtl_gen.__main__.main, ["forecast", "--network", "unet", *arguments])
    assert found.exit_code == 2 and sentence in found.output, found.output
