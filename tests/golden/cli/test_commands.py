import json
import re
import shlex
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion.differential.method import METHODS
from golden.diffusion.networks import Network, published
from golden.diffusion.zoo import Recording
from golden.diffusion.zoo.pictures import grid, write_png

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_sample(tmp_path):
    out = tmp_path / "grid.png"
    result = run("sample", "--steps", 3, "--count", 12, "--labels", "3,5", "--seed", 4, "--out", out)
    assert result.exit_code == 0, result.output
    assert "12 images in 3 steps" in result.output
    assert matplotlib.image.imread(out).shape[:2] == (2 * 50 + 2, 10 * 50 + 2)
    first = out.read_bytes()
    run("sample", "--steps", 3, "--count", 12, "--labels", "3,5", "--seed", 4, "--out", out)
    assert out.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_capture(tmp_path):
    out = tmp_path / "c.npz"
    layer = "down1.block.conv1"
    result = run("capture", "--layer", layer, "--steps", "1:3", "--total", 5, "--count", 2, "--labels", 7, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{layer}, steps 1:3 of 5, deltas 2x2x64x8x8" in result.output
    recording = Recording.load(out)
    assert recording.labels.tolist() == [7, 7] and recording.steps.tolist() == [1, 2]
    with np.load(out) as file:
        assert {"inputs", "deltas", "output", "weight", "bias", "norm_weight", "followed_by"} <= set(file)


def test_layers():
    rows = json.loads(run("layers", "--json").output)
    assert rows[0]["layer"] == "time.encoding" and rows[-1]["layer"] == "head.conv"
    (row,) = (row for row in rows if row["layer"] == "down1.block.conv1")
    assert row == {
        "network": "unet",
        "layer": "down1.block.conv1",
        "kind": "convolution",
        "inputs": "down1.block.relu1",
        "shape": "64x8x8",
        "parameters": 64 * 64 * 9 + 64,
        "weights": 64 * 64 * 9,
        "activations": 64 * 8 * 8,
        "macs": 64 * 64 * 9 * 64,
    }
    table = run("layers", "--network", "classifier")
    assert "stage2.conv" in table.output and table.exit_code == 0


@pytest.mark.parametrize("name", ["sd15", "dit-xl-2"])
def test_layers_of_published_networks(name):
    layers, (total,) = (
        json.loads(run("layers", "--network", name, "--json", *only).stdout) for only in ((), ["--totals"])
    )
    known = published.network(name)
    assert len(layers) == total["layers"] == len(known.layers)
    assert sum(row["macs"] for row in layers) == total["macs"] == sum(known.macs().values())
    assert sum(row["activations"] for row in layers) == total["activations"]
    assert [row["weights"] for row in layers] == [
        layer.parameters().get("weight", np.zeros(0)).size for layer in known.layers
    ]
    assert total["parameters"] == published.learnt(name)
    assert total["published_macs"] == published.PUBLISHED[name].macs and abs(total["macs_ratio"] - 1) < 0.01
    table = run("layers", "--network", f"unet,{name}", "--totals")
    assert table.exit_code == 0 and published.PUBLISHED[name].source in table.output


@pytest.mark.parametrize("name", main.commands)
def test_every_command_has_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0 and result.output.startswith("Usage: ") and f"{name} [OPTIONS]" in result.output


def test_without_a_command_the_help_is_printed():
    result, asked = run(), run("--help")
    assert result.exit_code == 0 and result.stdout == asked.stdout and not result.stderr


def test_capture_as_json(tmp_path):
    out = tmp_path / "c.npz"
    result = run("capture", "--layer", "stem.conv", "--steps", "0:2", "--total", 2, "--out", out, "--json")
    (row,) = json.loads(result.stdout)
    assert row["file"] == str(out) and row["deltas"] == [2, 1, 1, 16, 16] and row["images"] == 1
    assert row["zero"] == np.mean(Recording.load(out).deltas() == 0)


def test_training_without_its_extra_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "golden.diffusion.zoo.train", raising=False)
    result = run("train", "--network", "unet", "--out", tmp_path)
    assert result.exit_code == 2 and result.stderr.startswith("Error: Training needs the extra 'train'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "--out"),
        ("sample", "--out", "ok.png", "--plot"),
        ("compare", "--plot"),
        ("compare", "--pareto"),
        ("stats", "--plot"),
        ("stream", "--plot"),
        ("traffic", "--plot"),
        ("sweep", "--plot"),
    ],
)
def test_outputs_are_tried_before_any_work(tmp_path, monkeypatch, arguments):
    def work(*_, **__):
        raise AssertionError("nothing must be computed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Network, "__call__", work)
    Path("ok.png").write_text("old")
    Path("taken.png.part").mkdir()
    result = run(*arguments, "taken.png")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: Output must be writable, not 'taken.png': ")
    assert Path("ok.png").read_text() == "old" and not Path("taken.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("sampel", "Command must be one of the known names, not 'sampel'; did you mean sample or stream?"),
        (
            "sample --network unett",
            "Network must be one of the known names, not 'unett'; did you mean unet or unet-silu?",
        ),
        ("sample --network classifier", "Inputs must begin with a sample and 'timestep', not be 'image'"),
        ("sample --steps 0", "Steps must be in 1..1000, not 0"),
        ("sample --labels 3,12", "Labels must be comma-separated digits from 0 to 9, not '12'"),
        ("sample --labels 3,,4", "Labels must be comma-separated digits from 0 to 9, not ''"),
        ("sample --out grid.jpg", "Output must end in .png, not 'grid.jpg'"),
        ("sample --out nowhere/grid.png", "Folder of the output must exist, not 'nowhere'"),
        ("sample --count 0", "Invalid value for '--count': 0 is not in the range 1<=x<=10000."),
        ("capture --layer stem.conv --steps 1-3 --out c.npz", "Steps must be a half-open range A:B, not '1-3'"),
        (
            "capture --layer stem.conv --steps 3:3 --out c.npz",
            "Steps must be a half-open range within 0:50, not 3:3",
        ),
        (
            "capture --layer stem.conv --steps 0:2000 --total 2000 --out c.npz",
            "Steps must be in 1..1000, not 2000",
        ),
        ("capture --layer stem.conv --steps 0:3", "Missing option '--out'."),
        ("capture --layer nothing --steps 0:3 --out c.npz", "Layer must be one of the known names, not 'nothing'; "),
        ("sample --guidance nan", "Invalid value for '--guidance': nan is not a finite number."),
        ("sample --guidance inf", "Invalid value for '--guidance': inf is not a finite number."),
        ("sample --branch 1", "--cache must be given with --branch, not left out"),
        ("sample --cache 5 --cache-centre 50", "Centre must lie between 0 and the number of steps, 50, not be 50"),
        ("sample --cache 5 --network dit", "Branch must be the name of a layer, as 'dit' joins no values, not 0"),
        ("layers --network unet,unet", "Networks must be different, not 'unet' twice"),
        ("layers --network sd14", "Network must be one of the known names, not 'sd14'; did you mean sd15?"),
        ("layers --network none", "Network must be one of the known names, not 'none'; "),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1 and not result.stdout
    assert not list(tmp_path.iterdir())


def test_the_page_names_every_command_and_method():
    page = (Path(__file__).resolve().parents[3] / "docs/golden.md").read_text()
    for name in (*main.commands, *METHODS):
        assert f"`{name}`" in page or f"-m golden {name}" in page, name
    for line in re.findall(r"^python -m golden (.*)$", page, re.M):
        command, *arguments = shlex.split(line, comments=True)
        context = main.commands[command].make_context(command, arguments)  # refuses unknown options
        assert context.params


def test_grid():
    images = np.stack([np.full((1, 2, 2), level, np.float32) for level in (-2, 0.0, 1)])
    sheet = grid(images, columns=2, scale=2, gap=1)
    assert sheet.shape == (11, 11)
    assert sheet[1, 1] == 0 and sheet[4, 9] == 128 and sheet[9, 4] == 255 and sheet[0, 0] == sheet[9, 9] == 128


def test_png_can_be_read_by_others(tmp_path):
    sheet = np.random.default_rng(0).integers(0, 256, (7, 5), np.uint8)
    write_png(tmp_path / "a.png", sheet)
    read = matplotlib.image.imread(tmp_path / "a.png")
    np.testing.assert_array_equal(np.rint(read * 255).astype(np.uint8), sheet)
