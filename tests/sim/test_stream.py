"""``sim stream`` as a user types it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sim.__main__

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(sim.__main__.main, ["stream", *arguments])


def test_a_video_is_drawn_by_the_interpreter(tmp_path):
    picture = tmp_path / "video.png"
    drawn = run("--executor", "golden", "--frames", "3", "--timesteps", "300,100", "--png", str(picture), "--json")
    assert drawn.exit_code == 0, drawn.output
    found = json.loads(drawn.output)
    assert [image["image"] for image in found["images"]] == [0, 1]
    assert all(image["PSNR dB"] > 45 and image["classified"] == 3 for image in found["images"])
    assert found["timesteps"] == [300, 100] and "layers" not in found and found["run"][0]["groups"] > 0
    sheet = np.asarray(Image.open(picture)).astype(int)
    assert sheet.shape == (3 * 50 + 2, 2 * 50 + 2)  # frames, images, the dense network's
    images, dense = sheet[52:100], sheet[102:150]
    assert np.abs(images - dense).max() < 8 and images.std() > 30


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--frames", "4"), "Frames must be more than the 4 slots of the stream, not 4"),
        (("--timesteps", "100,300"), "Stream timesteps must "),
        (("--digit", "10"), "Invalid value for '--digit': 10 is not in the range 0<=x<=9."),
        (("--shift", "1"), "Shift must be DOWN,RIGHT in pixels, not '1'"),
        (("--png", "none/x.png"), "Folder of the output must exist, not 'none'"),
        (("--method", "dense"), "Method of a program must send digits, not be of flow dense"),
        (
            ("--executor", "golden", "--resume"),
            "--resume must be with the executor verilog, not with golden, which has no clocks",
        ),
        (
            ("--resume",),
            "File must be accessible, not 'build/stream-unet-closed-int4-edge.npz': no such file or directory",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.exit_code == 2 and found.stderr.startswith(f"Error: {sentence}"), found.stderr
    assert found.stderr.count("\n") == 1 and found.stdout == ""
    assert not list(tmp_path.iterdir())
