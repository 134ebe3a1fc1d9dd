import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.streams import calibrate_stream, pushed, streamed
from golden.diffusion.sampling.streaming import Similarity, Stream, Streaming
from golden.diffusion.zoo.moving import digit_video
from golden.diffusion.zoo.quality import psnr

pytestmark = pytest.mark.golden

LEVELS = (500, 200)


def run(*arguments):
    return CliRunner().invoke(main, ["stream", "--timesteps", "500,200", *map(str, arguments)])


def test_rows_are_those_of_the_library(tmp_path):
    picture = tmp_path / "s.png"
    arguments = ("--method", "dense,closed-int3", "--frames", 6, "--shift", "0.5,0", "--json", "--plot", picture)
    result = run("--reference", "frames,timesteps", *arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["reference"], row["method"]) for row in rows] == [
        (along, method) for along in ("frames", "timesteps") for method in ("dense", "closed-int3")
    ]
    network, how = zoo.load("unet"), Method.named("closed-int3")
    seen, other = (digit_video(digit, 6, shift=(0.5, 0)) for digit in (3, 5))
    for dense, row in (rows[:2], rows[2:]):
        assert dense["psnr"] == [None] * 5 and dense["input_bits"] is None and dense["psnr_mean"] is None
        along = {"reference": row["reference"]}
        profile = calibrate_stream(network, other, 5, Streaming(LEVELS, **along))
        found = streamed(network, how, seen, 3, Streaming(LEVELS, **along), profile)
        plain = pushed(Stream(network, 3, Streaming(LEVELS, **along)), seen)
        assert row["psnr"] == pytest.approx(psnr(found.images, plain).tolist())
        assert row["input_bits"] == pytest.approx(found.input_bits) and row["images"] == 5 and row["skipped"] == 0
    assert matplotlib.image.imread(picture).ndim == 3 and f"Picture: {picture}" in result.stderr


def test_deep_layers_can_be_reused_frame_by_frame():
    arguments = (
        "--method",
        "dense,paper",
        "--frames",
        5,
        "--cache",
        "1,2",
        "--video",
        "turn",
        "--json",
        "--by",
        "frame",
    )
    rows = json.loads(run(*arguments).stdout)
    assert len(rows) == 2 * 2 * 4 and {row["image"] for row in rows} == {0, 1, 2, 3}
    dense = [row["psnr"] for row in rows if row["method"] == "dense" and row["cache"] == 2]
    assert any(value is not None for value in dense)  # it is the whole stream that all are compared with


def test_frames_left_out_are_those_of_the_filter():
    network, video = zoo.load("unet"), digit_video(3, 8, shift=(0, 0.125))
    plain = Stream(network, 3, Streaming(LEVELS, similarity=Similarity(0.9, 2, seed=1)))
    for frame in video:
        plain.push(frame)
    arguments = ("--frames", 8, "--similarity", 0.9, "--max-skips", 2, "--seed", 1, "--digit", 3, "--json")
    rows = json.loads(run("--method", "closed-int3,closed-int4", *arguments).stdout)
    assert 0 < rows[0]["skipped"] < 8 and {row["skipped"] for row in rows} == {rows[0]["skipped"]}
    seeded = digit_video(3, 8, shift=(0, 0.125), seed=1)
    again = Stream(network, 3, Streaming(LEVELS, similarity=Similarity(0.9, 2, seed=1), seed=1))
    assert sum(again.push(frame) is None for frame in seeded) <= 8 and rows[0]["skipped"] == 8 - again.calls


@pytest.mark.parametrize("residual", ["self", "onetime", "full"])
def test_guided_streams_of_other_networks(residual):
    arguments = ("--network", "unet-silu", "--residual", residual, "--guidance", 2, "--frames", 6, "--json")
    (row,) = json.loads(run("--method", "closed-int4", *arguments).stdout)
    assert np.isfinite(row["psnr_mean"]) and row["network"] == "unet-silu"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--frames 2", "Frames must be more than the 2 items of the stream, not 2"),
        ("--residual full", "Network must have a null label to be guided, not 'unet'"),
        (
            "--network classifier",
            "Network must take {'image': (1, 16, 16), 'timestep': (), 'label': ()} to be given digits that move",
        ),
        ("--video moves", "Video must be one of the known names, not 'moves'; did you mean move"),
        ("--reference frame", "Stream reference must be frames or timesteps or measured, not 'frame'"),
        ("--cache 2 --reference timesteps", "Stream interval must be 1 with references along timesteps, not 2"),
        ("--cache 0", "Stream interval must be at least 1, not 0"),
        ("--cache x", "Intervals of --cache must be comma-separated integers, not 'x'"),
        ("--cache 2 --network dit", "Branch must be the name of a layer, as 'dit' joins no values, not 0"),
        ("--shift 1", "Shift must be DOWN,RIGHT in pixels, not '1'"),
        ("--shift 1,nan", "Shift must be finite, not '1,nan'"),
        ("--similarity nan", "Invalid value for '--similarity': nan is not a finite number."),
        ("--max-skips 3", "--similarity must be given with --max-skips, not left out"),
        ("--timesteps 100,200", "Stream timesteps must be at least one, and fall, not (100, 200)"),
        ("--plot s.txt", "Output must end in .png, not 's.txt'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1 and not result.stdout and not list(tmp_path.iterdir())
