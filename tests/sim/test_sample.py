"""``sim sample`` as a user types it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sim.__main__
from sim.machine import drawn
from sim.machine.checkpoint import Checkpoint
from sim.machine.verilated import MachineModel

pytestmark = pytest.mark.golden

NETWORK = "tests.golden.diffusion.sampling.networks:random_unet"  # with attention


def run(*arguments):
    return CliRunner().invoke(sim.__main__.main, ["sample", *arguments])


def test_a_picture_is_drawn_by_the_interpreter(tmp_path):
    picture = tmp_path / "three.png"
    ended = run(
        "--executor", "golden", "--label", "3", "--steps", "3", "--png", str(picture), "--clock", "50", "--json"
    )
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert len(found["images a second"]) == 4
    (image,) = found["images"]
    assert image["PSNR dB"] > 45 and image["classified"] == image["dense classified"] == 3
    assert found["executor"] == "golden" and "layers" not in found and found["run"][0]["groups"] > 0
    sheet = np.asarray(Image.open(picture))
    assert sheet.shape == (2 + 128 + 2, 2 + 128 + 2 + 128 + 2)  # the machine's beside the network's
    left, right = sheet[2:130, 2:130].astype(int), sheet[2:130, 132:260].astype(int)
    assert np.abs(left - right).max() < 8 and left.std() > 30


def test_several_pictures_are_rows(tmp_path):
    picture = tmp_path / "two.png"
    ended = run("--executor", "golden", "--label", "3,8", "--steps", "2", "--png", str(picture))
    assert ended.exit_code == 0, ended.output
    assert np.asarray(Image.open(picture)).shape[1] == 4 * 130 + 2
    assert "Memories are equal" not in ended.output  # nothing was compared


@pytest.mark.cocotb
def test_the_verilog_draws_stops_and_goes_on(tmp_path, monkeypatch):
    """As by Ctrl-C behind step 0 of 2; then the rest, in another process or in this one."""
    monkeypatch.setattr(drawn, "MachineModel", lambda unit, **how: MachineModel(unit, optimise="-O1", **how))
    folder = tmp_path / "build"
    folder.mkdir()
    monkeypatch.setattr(drawn.drawing, "FOLDER", folder)
    given = ("--network", NETWORK, "--preset", "tiny", "--method", "closed-int3")
    given += ("--steps", "2", "--executor", "verilog")
    kept = Checkpoint.save

    def interrupted(checkpoint, path):
        kept(checkpoint, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", interrupted)
        stopped = run(*given, "--label", "3")
    assert stopped.exit_code == 130, stopped.output
    (file,) = folder.iterdir()
    told, *_, aborted = stopped.stderr.splitlines()
    assert (told, aborted) == (f"Steps that have ended are in {file}: --resume goes on behind them.", "Aborted.")
    refused = run(*given, "--label", "8", "--resume")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"Error: Checkpoint must be of this program ({NETWORK}, ")
    rest = run(*given, "--label", "3", "--resume", "--clock", "50", "--json")
    assert rest.exit_code == 0, rest.output
    assert not list(folder.iterdir())
    found = json.loads(rest.stdout)
    assert [row["step"] for row in found["by step"]] == [0, 1]
    total = found["run"][0]
    assert total["clocks"] == sum(row["clocks"] for row in found["by step"]) > 100_000
    assert 0.5 < total["clocks"] / total["predicted"] < 2 and 0 < total["use"] < 1
    assert sum(row["share of clocks"] for row in found["layers"]) == pytest.approx(1, abs=1e-3)
    assert found["images a second"][0]["images a second"] == pytest.approx(50e6 / total["clocks"], rel=0.01)
    golden = run(*given[:-1], "golden", "--label", "3", "--json")
    assert json.loads(golden.stdout)["images"] == found["images"]


@pytest.mark.slow
@pytest.mark.cocotb
@pytest.mark.parametrize(
    "given",
    ["unet --label 3 --cache 2", "dit --label 7,1", "unet-silu --label 5 --guidance 3"],
)
def test_shipped_networks_are_drawn_by_the_verilog(given):
    ended = run("--network", *given.split(), "--steps", "3")
    assert ended.exit_code == 0, ended.output
    assert "Memories are equal after each of 3 steps, and so are all counters at the end." in ended.output


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--label", "10"), "Labels must be comma-separated digits from 0 to 9, not '10'"),
        (("--steps", "0"), "Steps must be in 1..1000, not 0"),
        (("--network", "unot"), "Network must be one of the known names, not 'unot'; did you mean unet"),
        (("--png", "none/x.png"), "Folder of the output must exist, not 'none'"),
        (("--png", "x.jpg"), "Output must end in .png, not 'x.jpg'"),
        (("--method", "dense"), "Method of a program must send digits, not be of flow dense"),
        (
            ("--executor", "golden", "--resume"),
            "--resume must be with the executor verilog, not with golden, which has no clocks",
        ),
        (
            ("--resume",),
            "File must be accessible, not 'build/sample-unet-closed-int4-edge.npz': no such file or directory",
        ),
        (("--clock", "nan"), "Invalid value for '--clock': nan is not a finite number."),
        (("--clock", "0"), "Invalid value for '--clock': 0.0 is not in the range x>0."),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.exit_code == 2 and found.stderr.startswith(f"Error: {sentence}"), found.stderr
    assert found.stderr.count("\n") == 1 and found.stdout == ""
    assert not list(tmp_path.iterdir())
