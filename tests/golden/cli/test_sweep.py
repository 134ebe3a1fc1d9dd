import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion import zoo
from golden.diffusion.cost import traffic
from golden.diffusion.differential.sweep import sweep, variants
from golden.diffusion.sampling import Sampling

pytestmark = pytest.mark.golden


def test_every_decision_has_its_variants():
    found = variants()
    for word in ("n = 16", "m = 1", "output bit", "state 16", "F = 12", "early", "flip repair"):
        assert any(word in name for name in found), word
    assert len({json.dumps(one.to_dict(), sort_keys=True) for one in found.values()}) == len(found)


def test_rows(tmp_path):
    out = tmp_path / "rows.jsonl"
    picture = tmp_path / "sweep.png"
    arguments = [
        "sweep",
        "--plot",
        str(picture),
        "--network",
        "unet",
        "--steps",
        "3",
        "--count",
        "2",
        "--json",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(main, [*arguments, "--variant", "closed-int4;closed-int4: one output bit less;paper"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert matplotlib.image.imread(picture).ndim == 3 and f"Picture: {picture}" in result.stderr
    assert rows == [json.loads(line) for line in out.read_text().splitlines()]
    closed, less, paper = rows
    assert [row["variant"] for row in rows] == ["closed-int4", "closed-int4: one output bit less", "paper"]
    assert closed["psnr_mean"] > paper["psnr_mean"] and closed["output_bits"] > less["output_bits"] > 5
    assert 0 < closed["link_joint"] <= closed["link"] and all(np.isfinite(row["psnr_min"]) for row in rows)
    assert less["link_bits"] < closed["link_bits"]
    assert all(row["area_cycles"] > 0 for row in rows)
    again = CliRunner().invoke(main, ["sweep", "--read", str(out), "--rank", "--json"])
    assert again.exit_code == 0, again.output
    ranked = json.loads(again.output)
    assert [row["table"] for row in ranked] == ["db_per_byte"] * 3 + ["db_per_area"] * 3
    assert ranked[0]["db_per_byte"] >= ranked[1]["db_per_byte"] >= ranked[2]["db_per_byte"]
    shown = CliRunner().invoke(main, ["sweep", "--read", str(out), "--rank"])
    assert "Sorted by db_per_byte" in shown.output and "Sorted by db_per_area" in shown.output


def test_everything_that_crosses_is_counted():
    """What is not quantised crosses in FP16, so half of Diffy's 32 bits or more; a step without groups is work too."""
    names = ["diffy: digits of closed-int3", "raw-int8", "raw-int8-tensor"]
    diffy, raw, tensor = sweep(Sampling(zoo.load("unet"), [0], 2), names)
    assert diffy["link"] == diffy["link_joint"] == 2 and diffy["link_bits"] == 64
    assert tensor["array"] == raw["array"] == 1
    table = traffic.loads(zoo.load("unet"), 1)
    inputs, outputs = sum(item.inputs for item in table), sum(item.outputs for item in table)
    for row in (raw, tensor):
        expected = (row["input_bits"] * inputs + 16 * outputs) / (16 * (inputs + outputs))
        assert row["link"] == pytest.approx(expected, rel=1e-9) and row["link"] > 0.6


ROW = {"variant": "paper", "network": "unet", "steps": 2, "psnr_mean": 1, "link_bits": 2, "link_joint": 3}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", "null", "[" * 100_000, '{"variant": "paper"}'),
        json.dumps(ROW | {"psnr_mean": "1"}),
        json.dumps(ROW | {"network": 3}),
        json.dumps(ROW | {"area_cycles": "2"}),
        json.dumps(ROW) + "\n{}",
    ],
)
def test_rows_of_something_else_are_refused(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW))
    assert CliRunner().invoke(main, ["sweep", "--read", str(path)]).exit_code == 0
    path.write_text(text)
    result = CliRunner().invoke(main, ["sweep", "--read", str(path)])
    assert result.exit_code == 2
    assert result.stderr == f"Error: Rows must be those of `golden sweep --out`, not '{path}'\n"


def test_refusals():
    result = CliRunner().invoke(main, ["sweep", "--variant", "closed-int5"], standalone_mode=False)
    assert "Variant must be one of the known names, not 'closed-int5'" in str(result.exception)
    with pytest.raises(ValueError, match=r"^Variant must be one of the known names, not 'closed'"):
        list(sweep(Sampling(zoo.load("unet"), [0], 2), ["closed"]))


def test_list_names_the_variants():
    result = CliRunner().invoke(main, ["sweep", "--list", "--variant", "paper*"])
    assert result.exit_code == 0 and "paper: k = 4" in result.output.splitlines()
