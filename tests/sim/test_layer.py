"""A layer run: what it feeds to the units, and the units on it."""

import dataclasses
import json

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.parameters import preset
from sim import layer
from sim.__main__ import main


@pytest.fixture(scope="module")
def recorded():
    return zoo.recorded()


@pytest.mark.golden
def test_sums_are_the_convolution_of_the_deltas(recorded):
    # With all positions the sums must be near the convolution of the true deltas, of another hand: numpy's correlate.
    parameters = preset("ulx3s")
    made = layer.prepare(recorded, parameters, 4, 5)
    case = made.cases["multiplier_group"][0]
    sums = np.asarray(case.outputs["o"]["sum"]).reshape(64, 64)
    delta = recorded.inputs[0][4, 0].astype(np.float64) - recorded.inputs[0][3, 0].astype(np.float64)
    scale = made.cases["channel_scale"][0].inputs["i"]["lsb"].reshape(64, 64)
    padded = np.pad(delta, ((0, 0), (1, 1), (1, 1)))
    for channel, y, x in ((0, 0, 0), (17, 3, 5), (63, 7, 7)):
        expected = (padded[:, y : y + 3, x : x + 3] * recorded.weight[channel].astype(np.float64)).sum()
        found = sums[8 * y + x, channel] * 2.0 ** float(scale[8 * y + x, channel])
        spread = np.abs(padded[:, y : y + 3, x : x + 3]).max() * np.abs(recorded.weight[channel]).astype(float).sum()
        assert abs(found - expected) < 0.1 * spread


@pytest.mark.golden
@pytest.mark.parametrize("name", ["tiny", "edge", "ulx3s", "paper"])
def test_shares_bits_and_quality(recorded, name):
    made = layer.prepare(recorded, preset(name), 1, 4, positions=8)
    assert made.positions == 8 and made.all_positions == 64
    assert [step.step for step in made.steps] == [1, 2, 3]
    for step in made.steps:
        assert step.zero + step.inlier + step.outlier == pytest.approx(1)
        assert 0 < step.input_entropy < step.input_list_bitmap
        if name != "tiny":  # the exponent of a group weighs too much on four lanes
            assert step.input_bits < step.input_list_bitmap and step.output_bits < step.output_list_bitmap
        assert 0 < step.flips < 0.2 * step.elements
    assert made.steps[0].psnr > 30


@pytest.mark.golden
def test_a_stride_and_an_open_end():
    found = layer.recording("down0.reduce", 2, 3)
    assert found.stride == 2 and not found.relu
    made = layer.prepare(found, preset("edge"), 2, 3, positions=4)
    assert made.steps[0].psnr > 30


@pytest.mark.golden
def test_what_is_not_recorded_is_refused(recorded):
    found = layer.recording("down0.reduce", 2, 3)
    with pytest.raises(ValueError, match="^Steps must be recorded from 2 on, but step 3 is not$"):
        layer.prepare(found, preset("edge"), 3, 4)
    with pytest.raises(ValueError, match="^positions must be at least 1, not 0$"):
        layer.prepare(recorded, preset("edge"), 1, 2, positions=0)
    with pytest.raises(
        ValueError, match=r"^Layer 'down1.block.conv1' must pad half of an odd kernel, without dilation"
    ):
        layer.prepare(dataclasses.replace(recorded, plain=False), preset("edge"), 1, 2)


@pytest.mark.cocotb
def test_the_command_compares_every_value(capsys, tmp_path):
    picture = tmp_path / "layer.png"
    arguments = ["layer", "--preset", "tiny", "--steps", "3:5", "--positions", "2", "--json", "--plot", str(picture)]
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert not ending.value.code
    report = json.loads(capsys.readouterr().out)
    assert report["layer"] == "down1.block.conv1" and report["positions"] == 2
    assert [row["step"] for row in report["steps"]] == [3, 4]
    assert all(row["cycles per group"] == pytest.approx(1) for row in report["steps"])
    assert [row["unit"] for row in report["units"]] == list(layer.UNITS)
    assert all(row["mismatches"] == 0 and row["vectors"] > 0 for row in report["units"])
    assert picture.read_bytes().startswith(b"\x89PNG")
