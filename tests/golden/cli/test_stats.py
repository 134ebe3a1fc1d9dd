import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion.differential.measure import count
from golden.diffusion.differential.quantise import Grouping, quantise
from golden.parameters import Parameters
from golden.units import delta_compressor
from golden.units.delta_quantizer import quantise_passes

pytestmark = pytest.mark.golden


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_rows_by_layer_and_step_add_up_to_the_total(tmp_path):
    picture = tmp_path / "stats.png"
    tables = {}
    for by in ("total", "layer", "step"):
        plot = ("--plot", picture) if by == "step" else ()
        result = run("stats", "--method", "closed-int3,paper", "--steps", 3, "--count", 1, "--by", by, "--json", *plot)
        assert result.exit_code == 0, result.output
        tables[by] = json.loads(result.stdout)
    assert matplotlib.image.imread(picture).ndim == 3
    assert {(row["method"], row["side"]) for row in tables["total"]} == {
        *(("closed-int3", "inputs"), ("closed-int3", "outputs"), ("paper", "outputs"))
    }
    for total in tables["total"]:
        assert total["zero"] + total["inlier"] + total["outlier"] == pytest.approx(1)
        for by in ("layer", "step"):
            parts = [row for row in tables[by] if all(row[key] == total[key] for key in ("method", "side"))]
            assert sum(row["elements"] for row in parts) == total["elements"]
            for key in ("zero", "outlier", "passes", "bits", "joint", "entropy"):
                sum_ = sum(row[key] * row["elements"] for row in parts)
                assert sum_ == pytest.approx(total[key] * total["elements"]), key
    closed, paper = tables["step"][:3], tables["step"][6:]
    assert {row["step"] for row in closed} == {0, 1, 2}
    assert paper[0]["flips"] is None and all(0 < row["flips"] < 0.5 for row in paper[1:])
    names = {row["layer"] for row in tables["layer"] if row["method"] == "paper"}
    assert {"image", "down1.block.norm1", "down1.attention.tokens"} <= names


def test_rows_of_layers_in_steps_of_several_networks():
    arguments = ("--network", "unet,dit", "--method", "closed-int3", "--steps", 2, "--count", 1, "--json", "--by")
    both, layers = (json.loads(run("stats", *arguments, by).stdout) for by in ("layer-step", "layer"))
    assert {row["network"] for row in both} == {"unet", "dit"} and {row["step"] for row in both} == {0, 1}
    for layer in layers:
        parts = [row for row in both if all(row[key] == layer[key] for key in ("network", "side", "layer"))]
        assert len({row["step"] for row in parts}) == len(parts) and len(parts) > 0
        assert sum(row["elements"] for row in parts) == layer["elements"]
        sent = sum(row["bits"] * row["elements"] for row in parts)
        assert sent == pytest.approx(layer["bits"] * layer["elements"])


def test_deep_layers_send_nothing_between_cache_steps():
    arguments = ("--method", "closed-int3", "--steps", 3, "--count", 1, "--cache", 3, "--by", "layer-step", "--json")
    rows = json.loads(run("stats", *arguments).stdout)
    assert {row["step"] for row in rows if row["layer"].startswith("middle.")} == {0}
    assert {row["step"] for row in rows if row["layer"].startswith("down0.")} == {0, 1, 2}


def test_every_value_is_counted_once_in_the_open_loop():
    """The three readers of the tokens of an attention layer get the same groups: 64 channels on 8 x 8 pixels."""
    result = run("stats", "--method", "paper", "--steps", 1, "--count", 2, "--by", "layer", "--json")
    rows = {row["layer"]: row for row in json.loads(result.stdout)}
    assert rows["down1.attention.tokens"]["elements"] == 2 * 64 * 64


@pytest.mark.parametrize(
    "k, n, m, passes, layer", [(3, 32, 0, 1, None), (4, 32, 0, 3, None), (3, 16, 1, 2, None), (3, 16, 2, 1, -9)]
)
def test_bits_are_those_of_the_stream(k, n, m, passes, layer):
    """`count` estimates padding of blocks, half a word each; all else is exact."""
    policy = {} if layer is None else {"exponent_policy": "layer", "output_passes": 1}
    parameters = Parameters(digit_width=k, lanes=n, outliers=m, **policy)
    random = np.random.default_rng(k + n)
    values = (random.standard_t(3, (5, 64, 8, 8)) * 0.01 * random.random((5, 64, 8, 8))).astype(np.float16)
    grouping = Grouping(-3, (64,), n)
    sent = quantise(values.astype(np.float32), grouping, parameters, passes=passes, exponent=layer)
    row = count(sent, grouping, parameters, m)
    vectors = np.moveaxis(values.reshape(5, -1, n, 8, 8), (1, 2), (-2, -1)).reshape(-1, n)
    code = 0 if layer is None else layer + 24
    groups = quantise_passes(vectors.view(np.uint16), parameters, passes, exponent=code).groups
    cost = delta_compressor.cost(groups, parameters, passes=passes)
    blocks = -(-len(groups) // 64)
    assert abs(row.bits - cost.bits) < blocks * parameters.link_width / 2
    assert row.bits - blocks * parameters.link_width / 2 == pytest.approx(cost.bits - cost.padding)
    assert row.zero_groups == groups.zero.sum() and row.outliers == groups.outlier_valid.sum()
    first = groups[::passes]
    assert row.first_zeros == (first.digits == 0).sum() - row.outliers
    if layer is None:
        more = quantise_passes(
            vectors.view(np.uint16), Parameters(digit_width=k, lanes=n, outliers=m + 1), 1, exponent=0
        ).groups
        assert row.crowded == ((more.exponent < first.exponent) & ~more.zero).sum()
    else:
        over = np.abs(vectors.astype(float)) >= (2**k - 1) / 2 * 2.0**layer
        assert row.crowded == (over.sum(axis=1) > m).sum() > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--method dense", "Method must send digits to be measured, not 'dense', which is dense"),
        ("--by channel", "Invalid value for '--by': 'channel' is not one of 'layer', 'step', 'layer-step', 'total'."),
        ("--network units", "Network must be one of the known names, not 'units'; did you mean unet"),
        ("--plot nowhere/stats.png", "Folder of the output must exist, not 'nowhere'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("stats", *arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1 and not result.stdout
