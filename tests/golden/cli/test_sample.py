import dataclasses
import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import prepared
from golden.diffusion.differential.run import run as execute
from golden.diffusion.sampling import Cache, Sampling, deepcache
from golden.diffusion.zoo.pictures import grid, write_png

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_methods_side_by_side(tmp_path):
    out, plot = tmp_path / "bare.png", tmp_path / "named.png"
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(dataclasses.replace(Method.named("closed-int3"), passes=2).to_dict()))
    arguments = ("--steps", 2, "--count", 3, "--method", f"dense,paper,{file}", "--out", out, "--plot", plot)
    result = run("sample", "--network", "dit", *arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"{out} and {plot}, {name}" for name in ("dense", "paper", "mine")
    ]
    assert matplotlib.image.imread(out).shape[:2] == (3 * 50 + 2, 3 * 50 + 2)
    assert matplotlib.image.imread(plot).ndim == 3


def test_plot_alone_writes_one_picture_and_says_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("sample", "--network", "dit", "--steps", 1, "--count", 2, "--plot")
    assert result.exit_code == 0 and result.output.startswith("build/side.png: 2 images in 1 steps")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["build/side.png"]
    again = run("sample", "--network", "dit", "--steps", 1, "--count", 1, "--plot")
    assert again.stderr == "build/side.png exists and will be replaced.\n"


def test_images_are_those_of_the_method_whatever_the_batch():
    network, method = zoo.load("unet"), Method.named("closed-int3")
    sampling = Sampling(network, [3, 1, 4], 2, seed=2)
    images = sampling.images(prepared(sampling, method, exact=True), batch=2)
    # exact: in floating point a batch of another size multiplies in another order, and a digit may fall the other way
    np.testing.assert_array_equal(images, execute(sampling, method, exact=True).images)


def test_images_can_be_exact(tmp_path):
    network, method = zoo.load("dit"), Method.named("closed-int4")
    arguments = [
        "sample",
        "--network",
        "dit",
        "--steps",
        2,
        "--count",
        2,
        "--method",
        "closed-int4",
        "--exact",
        "--out",
    ]
    assert run(*arguments, tmp_path / "exact.png").exit_code == 0
    found = execute(Sampling(network, [0, 1], 2), method, exact=True).images
    write_png(tmp_path / "found.png", grid(found))
    assert (tmp_path / "exact.png").read_bytes() == (tmp_path / "found.png").read_bytes()


def test_json(tmp_path):
    out = tmp_path / "a.png"
    arguments = ("--steps", 4, "--count", 2, "--seed", 3, "--method", "dense,closed-int3", "--out", out, "--json")
    rows = json.loads(run("sample", *arguments, "--cache", 2).stdout)
    assert [row["method"] for row in rows] == ["dense", "closed-int3"]
    for row in rows:
        assert row["file"] == str(out) and row["plot"] is None and row["found"] in (0, 0.5, 1)
        assert (row["network"], row["steps"], row["images"], row["seed"]) == ("unet", 4, 2, 3)
        assert row["cached"] == [0, 2] and row["multiplications"] == Cache([0, 2]).share(zoo.load("unet"), 4)


@pytest.mark.parametrize(
    "arguments, cached",
    [
        (("--cache", 3), deepcache.uniform(10, 3)),
        (("--cache", 3, "--cache-centre", 4, "--cache-power", 1.2), deepcache.centred(10, 3, 4, 1.2)),
        (("--cache", 2, "--cache-power", 1.5), deepcache.rising(10, 2, 1.5)),
    ],
)
def test_cached_images_are_those_of_the_library(tmp_path, arguments, cached):
    out, expected = tmp_path / "a.png", tmp_path / "b.png"
    result = run("sample", "--steps", 10, "--count", 2, "--branch", 1, *arguments, "--out", out)
    assert result.exit_code == 0 and f"{len(cached)} whole ones" in result.output
    write_png(expected, grid(Sampling(zoo.load("unet"), [0, 1], 10, cache=Cache(cached, 1)).images()))
    assert out.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("method", ["dense", "closed-int4", "paper"])
def test_guidance_and_fresh_noise(tmp_path, method):
    arguments = ["sample", "--network", "unet-silu", "--steps", 2, "--count", 2, "--method", method, "--out"]
    plain, guided, fresh = (tmp_path / f"{name}.png" for name in ("plain", "guided", "fresh"))
    assert run(*arguments, plain).exit_code == 0
    assert run(*arguments, guided, "--guidance", 3).exit_code == 0
    assert run(*arguments, fresh, "--sampler", "ddpm").exit_code == 0
    assert len({path.read_bytes() for path in (plain, guided, fresh)}) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--method papr", "Method must be one of the known names, not 'papr'; did you mean paper?"),
        ("--sampler euler", "Invalid value for '--sampler': 'euler' is not one of 'ddim', 'ddpm'."),
        ("--out a.png --plot a.png", "Pictures must be two files, not 'a.png' twice"),
        ("--guidance 3", "Network must have a null label to be guided, not 'unet'"),
        ("--plot a.svg", "Output must end in .png, not 'a.svg'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("sample", *arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1 and not result.stdout
    assert not list(tmp_path.iterdir())
