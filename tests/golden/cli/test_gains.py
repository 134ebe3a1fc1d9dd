import json

import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.diffusion import zoo
from golden.diffusion.differential.method import Method

pytestmark = pytest.mark.golden


def invoke(*arguments, **how):
    return CliRunner().invoke(main, ["gains", *arguments], **how)


def test_bits_of_every_product_and_a_method_of_them(tmp_path):
    out = tmp_path / "method.json"
    result = invoke("--network", "unet", "--steps", "2", "--count", "1", "--json", "--out", str(out))
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    products = [layer.name for layer in zoo.load("unet").layers if layer.contracted]
    assert set(row["layer"] for row in rows) <= set(products) and len(rows) > 30
    assert all(row["gain"] > 0 for row in rows)
    method = Method.from_file(out)
    assert method.layer_output_bits == {row["layer"]: row["bits"] for row in rows}
    elements = sum(row["elements"] for row in rows)
    assert sum(row["bits"] * row["elements"] for row in rows) / elements == pytest.approx(12.75, abs=0.2)
    assert method.output_allocation == "even"


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--method", "paper"], "Method must be a closed loop with output_bits above 0, not 'paper'"),
        (["--network", "nothing"], "not 'nothing'"),
        (["--out", "bits.txt"], "must end in .json"),
    ],
)
def test_refusals(arguments, sentence):
    result = invoke(*arguments, standalone_mode=False)
    assert sentence in str(result.exception)
