import dataclasses
import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.cli.compare import front
from golden.diffusion import zoo
from golden.diffusion.sampling import Cache, Sampling
from golden.diffusion.zoo import quality

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_rows(tmp_path):
    picture = tmp_path / "drift.png"
    arguments = ("--network", "unet,dit", "--steps", 3, "--count", 2, "--seed", 5, "--json", "--plot", picture)
    result = run("compare", "--method", "dense,raw-int8,closed-int3", *arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["network"], row["method"]) for row in rows] == [
        (network, method) for network in ("unet", "dit") for method in ("dense", "raw-int8", "closed-int3")
    ]
    for row in rows:
        assert list(row) == [
            *("method", "network", "steps", "images", "psnr_mean", "psnr_min", "peak", "ssim_mean", "agreement"),
            *("found", "frechet", "drift", "seconds", "time_ratio"),
        ]
        assert row["steps"] == 3 and row["images"] == 2 and len(row["drift"]) == 3
        assert row["frechet"] is None  # of two images the distance falls as they get worse
        if row["method"] == "dense":
            assert row["psnr_mean"] is None and row["psnr_min"] is None and row["drift"] == [None] * 3
            assert row["ssim_mean"] == 1 and row["agreement"] == 1
        else:
            assert 20 < row["psnr_min"] < row["psnr_mean"] < 80
            assert row["drift"][-1] == row["psnr_mean"]
    assert matplotlib.image.imread(picture).ndim == 3
    assert f"Picture: {picture}" in result.stderr


def test_what_is_measured_is_the_distance_to_the_dense_images(tmp_path, monkeypatch):
    """A method that is one step of the dense sampling late, so that every figure can be had without the command."""
    from golden.diffusion.differential import compare
    from golden.diffusion.differential.method import METHODS
    from golden.diffusion.differential.run import Run

    network, labels = zoo.load("unet"), np.arange(16) % 10  # as many as the Frechet distance needs
    sampling = Sampling(network, labels, 4, seed=7)
    steps = [step.image for step in sampling.walk()]

    def late(sampling, method, *, track, exact=False):
        dense = method.flow == "dense"
        trajectory = np.stack(steps if dense else [steps[0], *steps[:-1]])
        return Run(trajectory[-1], trajectory, None)

    monkeypatch.setattr(compare, "run", late)
    (row,) = compare.compare(sampling, {"late": METHODS["raw-int8"][1]})
    each = [10 * np.log10(4 / np.mean((steps[2][i] - steps[3][i]).astype(float) ** 2)) for i in range(16)]
    assert row["psnr_mean"] == pytest.approx(np.mean(each)) and row["psnr_min"] == pytest.approx(min(each))
    assert row["drift"][0] is None and row["drift"][2] == pytest.approx(quality.psnr(steps[1], steps[2]).mean())
    assert row["found"] == np.mean(zoo.classify(steps[2]) == labels)
    assert row["agreement"] == np.mean(zoo.classify(steps[2]) == zoo.classify(steps[3]))
    assert row["frechet"] == pytest.approx(quality.frechet(zoo.statistics(steps[2]), zoo.digits()))


def test_methods_can_be_exact():
    arguments = ("--network", "dit", "--steps", 2, "--count", 1, "--json")
    plain, exact = (run("compare", "--method", "paper", *arguments, *flag) for flag in ((), ("--exact",)))
    assert exact.exit_code == 0, exact.output
    (one,), (other,) = (json.loads(result.stdout) for result in (plain, exact))
    assert one["drift"] == other["drift"] and other["seconds"] > one["seconds"]  # the bits that floating point gives
    assert run("compare", "--method", "raw-int8-tensor", "--exact", *arguments).exit_code == 0
    result = run("compare", "--method", "paper,dense", "--exact", *arguments)
    assert result.exit_code == 2
    assert "Methods must have an exact form, not 'dense': flow must be" in result.output


def test_prices(tmp_path):
    areas, picture = tmp_path / "area.json", tmp_path / "pareto.png"
    pieces = {
        "multiplier_group, k=3 n=32 m=0, aligned F=10": (32, 1280),
        "multiplier_group, k=8 n=32 m=0, aligned F=10": (32, 5120),
        "dense group, FP16 x FP16, n=16": (16, 3200),
    }
    report = [
        {"piece": piece, "leaves": "ecp5", "lanes": lanes, "cells": {"luts": luts}}
        for piece, (lanes, luts) in pieces.items()
    ]
    areas.write_text(json.dumps(report))
    arguments = ("--steps", 2, "--count", 2, "--json", "--pareto", picture, "--areas", areas)
    result = run("compare", "--method", "dense,paper,closed-int3,closed-int4,raw-int8-tensor", *arguments)
    assert result.exit_code == 0, result.output
    dense, paper, three, four, eight = json.loads(result.stdout)
    assert dense["link_bits"] == 32 and dense["area_cycles"] == 200
    assert paper["area_cycles"] is None  # no group of 60 lanes in the report
    assert three["link_bits"] < four["link_bits"] < 32
    assert eight["link_bits"] < 16 + 8
    assert four["area_cycles"] is None  # nothing is scaled from another k
    assert 40 < three["area_cycles"] < 40 * 4 * 1.5  # passes of step 0, attention in two products
    assert eight["area_cycles"] == 160  # one clock
    assert matplotlib.image.imread(picture).ndim == 3


def test_front():
    points = [(4, 40), (2, 20), (3, 20), (5, 39), (2, 10), (6, 41)]
    assert front(points) == [(2, 20), (4, 40), (6, 41)] and front([]) == []


def test_deepcache_is_compared_with_the_full_sampling():
    rows = json.loads(
        run("compare", "--method", "dense,closed-int3", "--steps", 4, "--count", 2, "--cache", 2, "--json").stdout
    )
    network = zoo.load("unet")
    cache, plain = Cache([0, 2]), Sampling(network, [0, 1], 4)
    alone = dataclasses.replace(plain, cache=cache).images()
    dense = quality.psnr(alone, plain.images()).mean()
    assert rows[0]["psnr_mean"] == pytest.approx(dense) and rows[1]["psnr_mean"] < dense + 3
    assert rows[0]["cached"] == 2 and rows[0]["multiplications"] == cache.share(network, 4)


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '[{"piece": "a"}]', '{"piece": {}}', "[" * 100_000, "nonsense"])
def test_what_is_no_report_of_areas_is_refused(tmp_path, text):
    path = tmp_path / "area.json"
    path.write_text(text)
    result = run("compare", "--areas", path)
    assert result.exit_code == 2
    assert result.stderr == f"Error: Areas must be a report of `python -m fpga area`, not {str(path)!r}\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--method closed-int5", "Method must be one of the known names, not 'closed-int5'; did you mean closed-int"),
        ("--method paper,paper", "Methods must have different names, not 'paper' twice"),
        ("--network unet,ditt", "Network must be one of the known names, not 'ditt'; did you mean dit"),
        ("--network unet,unet", "Networks must be different, not 'unet' twice"),
        ("--cache 2 --pareto", "--cache must be left out with --pareto and --areas, which know no cache steps"),
        ("--network classifier", "Inputs must begin with a sample and 'timestep', not be 'image'"),
        ("--steps 0", "Steps must be in 1..1000, not 0"),
        ("--plot drift.jpg", "Output must end in .png, not 'drift.jpg'"),
        ("--pareto a.png --plot a.png", "Pictures must be two files, not 'a.png' twice"),
        ("--areas nothing.json", "Areas must be a file, not 'nothing.json', which does not exist"),
        ("--areas /dev/null", "Areas must be a report of `python -m fpga area`, not '/dev/null'"),
        ("--method nothing.json", "A method file must be a file, not 'nothing.json', which does not exist"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("compare", *arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1 and not result.stdout
