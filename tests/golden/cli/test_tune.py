import json

import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion.differential.method import Method

pytestmark = pytest.mark.golden

OWN = """
from tests.golden.diffusion.sampling.networks import random_unet
def network():
    return random_unet()
"""


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN)
    return f"{path}:network"


def test_a_method_is_written_for_other_commands(own, tmp_path):
    out = tmp_path / "mine.json"
    arguments = ("--network", own, "--target", 40, "--steps", 4, "--count", 2, "--out", out, "--json")
    result = invoke("tune", *arguments)
    assert result.exit_code == 0, result.output
    mine, named = json.loads(result.stdout)
    assert (mine["method"], named["method"]) == ("mine", "closed-int3")
    assert mine["psnr_mean"] > 37 and mine["link_bits"] > 0 and mine["array"] >= 1
    method = Method.named(str(out))
    assert method.flow == "closed_loop" and method.layer_passes and method.layer_output_bits
    again = invoke("compare", "--network", own, "--method", out, "--steps", 4, "--count", 2, "--json")
    assert json.loads(again.stdout)[0]["psnr_mean"] == pytest.approx(mine["psnr_mean"])


def test_a_target_out_of_reach_is_told_and_nothing_written(own, tmp_path):
    out = tmp_path / "mine.json"
    result = invoke("tune", "--network", own, "--target", 99, "--steps", 4, "--k", 3, "--out", out)
    assert result.exit_code == 2 and not out.exists()
    assert "Error: Target must be at most " in result.stderr and "not 99" in result.stderr.replace("\n", " ")


def test_commands_say_what_unknown_gains_cost_until_they_are_measured(own, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ("compare", "--network", own, "--method", "closed-int3", "--steps", 2, "--count", 1)
    sentence = f"Gains of '{own}' are not known: every output takes a bit more."
    assert sentence in invoke(*arguments).stderr
    assert sentence not in invoke(*arguments[:4], "raw-int8", *arguments[5:]).stderr
    assert invoke("gains", "--network", own, "--steps", 2, "--count", 1).exit_code == 0
    assert sentence not in invoke(*arguments).stderr


@pytest.mark.parametrize("arguments", [("--k", 5), ("--target", 5), ("--out", "method.txt")])
def test_refusals(arguments):
    result = invoke("tune", "--network", "unet", *arguments)
    assert result.exit_code == 2 and "Error" in result.stderr
