import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.golden.diffusion.zoo.diffusers_cases import RECORDED

pytestmark = pytest.mark.golden

PAGE = Path(__file__).resolve().parents[4] / "docs/networks.md"


def test_examples_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    exec(first, {})
    assert "time.linear1 Role.PRODUCT ('time.encoding',)" in capsys.readouterr().out
    # a small model in the place of the page's
    shutil.copytree(RECORDED / "text", "stable-diffusion/unet")
    rng = np.random.default_rng(0)
    given = {"latents": rng.standard_normal((2, 4, 64, 64)), "timesteps": np.array([1, 500])}
    given["text"] = rng.standard_normal((2, 77, 12))
    exec(second, given)
    assert given["noise"].shape == (2, 4, 64, 64)
