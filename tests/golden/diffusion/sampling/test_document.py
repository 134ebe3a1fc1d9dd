import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.golden

PAGE = Path(__file__).resolve().parents[4] / "docs/sampling.md"


def test_examples_of_the_page_run(monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 4
    found = {}
    for block in blocks:
        exec(block, found)
    assert found["others"].shape == (2, 1, 16, 16) and found["stream"].calls == 8
