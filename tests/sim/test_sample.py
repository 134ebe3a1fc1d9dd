"""``sim sample`` as a user types it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sim.__main__

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(sim.__main__.main, ["sample", *arguments])


def test_a_picture_is_drawn_by_the_interpreter(tmp_path):
    picture = tmp_path / "three.png"
    drawn = run("--label", "3", "--steps", "3", "--png", str(picture), "--json")
    assert drawn.exit_code == 0, drawn.output
    found = json.loads(drawn.output)
    (image,) = found["images"]
    assert image["PSNR dB"] > 45 and image["classified"] == image["dense classified"] == 3
    assert found["executor"] == "golden" and "layers" not in found and found["run"][0]["groups"] > 0
    sheet = np.asarray(Image.open(picture))
    assert sheet.shape == (2 + 48 + 2, 2 + 48 + 2 + 48 + 2)  # the machine's beside the network's
    left, right = sheet[2:50, 2:50].astype(int), sheet[2:50, 52:100].astype(int)
    assert np.abs(left - right).max() < 8 and left.std() > 30


def test_several_pictures_are_rows(tmp_path):
    picture = tmp_path / "two.png"
    drawn = run("--label", "3,8", "--steps", "2", "--preset", "edge", "--png", str(picture))
    assert drawn.exit_code == 0, drawn.output
    assert np.asarray(Image.open(picture)).shape[1] == 4 * 50 + 2
    assert "Memories are equal" not in drawn.output  # nothing was compared


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--label", "10"), "Labels must be comma-separated digits from 0 to 9, not '10'"),
        (("--steps", "0"), "Steps must be in 1..1000, not 0"),
        (("--network", "unot"), "Network must be one of the known names, not 'unot'; did you mean unet"),
        (("--png", "none/x.png"), "Folder of the output must exist, not 'none'"),
        (("--png", "x.jpg"), "Output must end in .png, not 'x.jpg'"),
        (("--method", "paper"), "Method of a program must be a closed loop, not of flow sign_mask"),
        (("--resume",), "--resume must be with the executor verilog, not with golden, which has no clocks"),
        (("--clock", "80"), "--clock must be with the executor verilog, not with golden, which has no clocks"),
        (
            ("--executor", "verilog", "--resume"),
            "File must be accessible, not 'build/sample-unet-closed-int4-edge.npz': no such file or directory",
        ),
        (("--clock", "nan", "--executor", "verilog"), "Invalid value for '--clock': nan is not a finite number."),
        (("--clock", "0", "--executor", "verilog"), "Invalid value for '--clock': 0.0 is not in the range x>0."),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.exit_code == 2 and found.stderr.startswith(f"Error: {sentence}"), found.stderr
    assert found.stderr.count("\n") == 1 and found.stdout == ""
    assert not list(tmp_path.iterdir())
