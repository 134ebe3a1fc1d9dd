"""The page on networks of one's own, run as it stands."""

import re
import shlex
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from golden.__main__ import main
from tests.golden.diffusion.networks.own_network import EXAMPLE, EXPECTED, WEIGHTS, blocks, inputs, output

pytestmark = pytest.mark.golden


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A folder with the page's module and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "digits8", raising=False)
    shutil.copy(WEIGHTS, tmp_path)
    (tmp_path / "digits8.py").write_text(blocks("python")[1])
    return tmp_path


def test_the_network_is_torchs(page):
    from digits8 import network

    with np.load(EXPECTED) as file:
        np.testing.assert_allclose(network()(*inputs()), file["output"], rtol=1e-4, atol=1e-5)
    assert blocks("python")[1].count("\n") <= 60


def test_the_example_is_the_pages():
    """But for the docstrings that the example's files have."""
    for name, block in zip(("model", "digits8"), blocks("python"), strict=False):
        text = (EXAMPLE / f"{name}.py").read_text(encoding="utf-8")
        bare = [re.sub(r'^ *""".*?"""\n\n?', "", each, flags=re.M | re.S) for each in (text, block)]
        assert bare[0] == bare[1]


def test_the_record_is_torchs():
    pytest.importorskip("torch", reason="needs the extra 'import'")
    with np.load(EXPECTED) as file:
        np.testing.assert_allclose(output(), file["output"], rtol=1e-4, atol=1e-5)


def test_the_use_from_python(page):
    found = {}
    exec(blocks("python")[2], found)
    assert found["images"].shape == (8, 1, 8, 8)
    three, four = found["table"]
    assert four["psnr_mean"] > three["psnr_mean"] > 40


def test_the_commands(page):
    (commands,) = blocks("sh")
    lines = commands.splitlines()
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "golden"]
        result = CliRunner().invoke(main, words[3:])
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert (page / "digits8.png").exists()
