"""Commands on folders of checkpoints: text, labels, latents and videos."""

import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.cli.subject import outline, subject
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run as execute
from golden.diffusion.sampling import STABLE_DIFFUSION, Sampler
from golden.diffusion.zoo import DRAWS, Recording, importer, scheduler
from golden.diffusion.zoo.quality import psnr
from tests.golden.diffusion.zoo import diffusers_cases as cases

pytestmark = pytest.mark.golden

TEXTS = np.random.default_rng(0).standard_normal((2, 7, 12)).astype(np.float32)


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def rows(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A pipeline of Stable Diffusion in the current folder, with a small random U-Net, and states of two texts."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cases.RECORDED / "text", "pipe/unet")
    (tmp_path / "pipe/scheduler").mkdir()
    config = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085}
    config |= {"beta_end": 0.012, "clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}
    (tmp_path / "pipe/scheduler" / scheduler.FILE).write_text(json.dumps(config))
    np.savez("texts.npz", text=TEXTS, **{"null.text": TEXTS[0] * 0.5})
    return tmp_path


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Copies a recorded model into the current folder under its own name."""
    monkeypatch.chdir(tmp_path)
    return lambda name: shutil.copytree(cases.RECORDED / name, tmp_path / "models" / name)


def test_a_pipeline_is_its_network_and_scheduler(pipeline):
    one = subject("pipe", pipeline / "texts.npz")
    assert one.network.name == "pipe" and one.sampler == Sampler(STABLE_DIFFUSION, clip=False) and not one.digits
    assert one.note == "noise levels of pipe/scheduler/scheduler_config.json"
    given = one.conditioning(5)
    np.testing.assert_array_equal(given.values["text"], TEXTS[[0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(given.null["text"], np.repeat(TEXTS[:1], 5, axis=0) * 0.5)
    expected = importer.load(pipeline / "pipe/unet", tokens=7).parameters()
    assert all(np.array_equal(value, expected[name]) for name, value in one.network.parameters().items())
    assert subject("pipe", pipeline / "texts.npz", "ddpm").sampler.eta == 1


def test_samplers_of_folders(model):
    one = subject(str(model("unet_of_guided_diffusion")))
    assert (
        one.sampler == scheduler.DEFAULTS["UNet2DModel"]
        and one.note == "noise levels of published networks of its class"
    )
    learned = subject("models/unet_of_guided_diffusion", sampler="ddpm").sampler
    assert learned.eta == 1 and learned.variance == "learned"
    (model("unet_of_ddpm") / scheduler.FILE).write_text(
        '{"_class_name": "DDPMScheduler", "variance_type": "fixed_large"}'
    )
    assert subject("models/unet_of_ddpm").sampler.variance == "large"
    assert subject("models/unet_of_ddpm", sampler="ddim").sampler == scheduler.DEFAULTS["UNet2DModel"]


def test_names_of_the_zoo_come_first(model, tmp_path):
    shutil.copytree(cases.RECORDED / "text", tmp_path / "unet")
    assert subject("unet").digits and subject("unet").note == ""
    assert outline("./unet").config["text_width"] == 12
    assert [name for name in DRAWS if subject(name).digits] == list(DRAWS)


def test_sample_draws_latents(pipeline):
    arguments = ("--conditioning", "texts.npz", "--guidance", 2, "--steps", 3, "--count", 3)
    result = run("sample", "--network", "pipe", *arguments, "--method", "dense,closed-int4", "--out", "a.png")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    told = r"3 images in 3 steps; latents of 4 channels, the first 3 over [\d.]+; noise levels of pipe/scheduler/sch"
    assert re.match(rf"a.png, dense: {told}", first) and re.match(rf"a.png, closed-int4: {told}", second)
    assert "classifier" not in result.output
    sheet = matplotlib.image.imread("a.png")
    assert sheet.shape == (2 * 26 + 2, 3 * 26 + 2, 3)
    # what is drawn are the samples of the library
    one = subject("pipe", pipeline / "texts.npz")
    images = one.sampling(3, 3, guidance=2.0).images()
    scale = float(re.search(r"over ([\d.]+);", first)[1])
    pixel = np.clip((images[1, :3, 0, 0] / scale + 1) / 2, 0, 1)
    np.testing.assert_allclose(sheet[2, 26 + 2], pixel, atol=0.01)


def test_sample_draws_videos_and_colours(model):
    model("latte"), model("unet_of_ddpm")
    np.savez("t.npz", text=TEXTS[0], **{"null.text": 0})  # one text, without its axis
    arguments = ("--steps", 2, "--count", 2, "--plot")
    result = run("sample", "--network", "models/latte", "--conditioning", "t.npz", "--guidance", 3, *arguments, "v.png")
    assert result.exit_code == 0, result.output
    assert "v.png: 2 images in 2 steps; latents of 4 channels" in result.output
    assert "frames of a video in a row; noise levels of published networks" in result.output
    result = run("sample", "--network", "models/unet_of_ddpm", "--sampler", "ddpm", *arguments[:-1], "--out", "c.png")
    assert result.exit_code == 0, result.output
    assert result.output == "c.png: 2 images in 2 steps; noise levels of published networks of its class\n"
    assert matplotlib.image.imread("c.png").shape == (28, 2 * 26 + 2, 3)


def test_compare_against_the_range_of_latents(pipeline):
    arguments = ("--conditioning", "texts.npz", "--guidance", 2, "--steps", 3, "--count", 2, "--seed", 4)
    (row,) = rows("compare", "--network", "pipe", "--method", "closed-int4", *arguments)
    one = subject("pipe", pipeline / "texts.npz")
    sampling = one.sampling(2, 3, guidance=2.0, seed=4)
    dense, found = (execute(sampling, Method.named(name)).images for name in ("dense", "closed-int4"))
    assert row["network"] == "pipe" and row["peak"] == pytest.approx(np.ptp(dense))
    assert row["psnr_mean"] == pytest.approx(psnr(found, dense, np.ptp(dense)).mean()) == row["drift"][-1]
    assert [row[key] for key in ("ssim_mean", "agreement", "found", "frechet")] == [None] * 4


def test_compare_colours_and_prices(model):
    model("unet_of_ddpm")
    arguments = ("--steps", 2, "--count", 2, "--pareto", "p.png")
    (row,) = rows("compare", "--network", "models/unet_of_ddpm", "--method", "closed-int4", *arguments)
    assert row["peak"] == 2 and 0 < row["ssim_mean"] <= 1 and row["frechet"] is None and row["link_bits"] > 0


def test_stats_capture_and_layers(model):
    model("dit")
    arguments = ("--network", "models/dit", "--labels", "3,1", "--count", 2)
    inputs, outputs = rows("stats", *arguments, "--method", "closed-int4", "--steps", 2, "--guidance", 2)
    assert inputs["network"] == "models/dit" and inputs["elements"] and outputs["elements"]
    layer = "transformer_blocks.1.attn1.to_q"
    result = run("capture", *arguments, "--layer", layer, "--steps", "1:3", "--total", 4, "--out", "c.npz")
    assert result.exit_code == 0, result.output
    assert Recording.load("c.npz").labels.tolist() == [3, 1]
    found = rows("layers", "--network", "models/dit")
    assert layer in [row["layer"] for row in found] and found[-1]["shape"] == "4x8x8"


def test_a_recording_without_labels(pipeline):
    layer = "mid_block.resnets.0.conv1"
    arguments = ("--conditioning", "texts.npz", "--guidance", 2, "--count", 1, "--total", 3, "--steps", "0:2")
    result = run("capture", "--network", "pipe", "--layer", layer, *arguments, "--out", "c.npz")
    assert result.exit_code == 0, result.output
    recording = Recording.load("c.npz")
    assert recording.labels is None and recording.inputs[0].shape[:2] == (2, 2)  # steps; without and with the text


def test_traffic_needs_no_weights(pipeline, model):
    (pipeline / "pipe/unet" / importer.WEIGHTS).unlink()
    given = ("--input-bits", 3, "--output-bits", 8, "--zero-groups", 0)
    found = rows("traffic", "--network", "pipe", "--method", "closed-int3", *given)
    assert {row["network"] for row in found} == {"pipe"}
    work = sum(outline("pipe").macs().values())
    assert 0.9 * work < found[-1]["macs"] < work  # without what depends on time and text alone


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            "sample",
            "Network 'pipe' must be given text (1, 77, 12), or more items, by --conditioning FILE.npz, which "
            "numpy.savez(FILE, text=...) writes",
        ),
        ("sample --labels 3 --conditioning texts.npz", "Labels must be left out where 'pipe' takes none or a file has"),
        (
            "compare --guidance 2 --conditioning plain.npz",
            "Conditioning must contain 'null.text' for guidance, (7, 12) or 0, not only 'text'",
        ),
        ("stats --conditioning wrong.npz", "Conditioning 'text' must have the shape (images, 7, 12), not (2, 7, 13)"),
        (
            "sample --conditioning other.npz",
            "Conditioning must be one of the known names, not 'txt'; did you mean text",
        ),
        ("sample --conditioning none.npz", "Conditioning 'text' must be of at least one image, not of none"),
        ("sample --conditioning pipe/unet/config.json", "Conditioning must be an .npz of numpy.savez, not 'pipe/unet"),
        ("sample --conditioning nothing.npz", "File must be accessible, not 'nothing.npz': no such file or directory"),
        ("sample --network pipe/scheduler", "Network must be of the zoo or a folder with a config.json, not 'pipe/sch"),
        ("layers --network ./nowhere", "Network must be of the zoo or a folder with a config.json, not './nowhere'"),
        ("traffic --network pip", "Network must be one of the known names, not 'pip'"),
    ],
)
def test_bad_input_is_one_sentence(pipeline, arguments, message):
    np.savez("plain.npz", text=TEXTS)
    np.savez("wrong.npz", text=np.zeros((2, 7, 13)))
    np.savez("other.npz", txt=TEXTS)
    np.savez("none.npz", text=TEXTS[:0])
    before = sorted(pipeline.iterdir())
    command, *rest = arguments.split()
    result = run(command, *([] if "--network" in rest else ["--network", "pipe"]), *rest)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}"), result.stderr
    assert result.stderr.count("\n") == 1 and not result.stdout and sorted(pipeline.iterdir()) == before
