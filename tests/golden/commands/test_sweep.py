import json

import matplotlib.image
import numpy as np
import pytest
from click.testing import CliRunner

from golden import zoo
from golden.__main__ import main
from golden.differential.sweep import sweep, variants

pytestmark = pytest.mark.golden


def test_every_decision_has_its_variants():
    found = variants()
    for word in ("n = 16", "m = 1", "layer exponent", "output passes", "state 16", "F = 12", "prediction", "residual"):
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
    result = CliRunner().invoke(main, [*arguments, "--variant", "closed-int4;closed-int4: exact outputs;paper"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert matplotlib.image.imread(picture).ndim == 3 and f"Picture: {picture}" in result.stderr
    assert rows == [json.loads(line) for line in out.read_text().splitlines()]
    closed, exact, paper = rows
    assert [row["variant"] for row in rows] == ["closed-int4", "closed-int4: exact outputs", "paper"]
    assert closed["psnr_mean"] > paper["psnr_mean"] and closed["output_bits"] > 5 and exact["output_bits"] == 0
    assert 0 < closed["link_joint"] <= closed["link"] and all(np.isfinite(row["psnr_min"]) for row in rows)


def test_refusals():
    result = CliRunner().invoke(main, ["sweep", "--variant", "closed-int5"], standalone_mode=False)
    assert "Variant must be one of the known names, not 'closed-int5'" in str(result.exception)
    with pytest.raises(ValueError, match=r"^Variant must be one of the known names, not 'closed'"):
        list(sweep(zoo.load("unet"), 2, ["closed"], images=1))


def test_list_names_the_variants():
    result = CliRunner().invoke(main, ["sweep", "--list", "--variant", "paper*"])
    assert result.exit_code == 0 and "paper: k = 4" in result.output.splitlines()
