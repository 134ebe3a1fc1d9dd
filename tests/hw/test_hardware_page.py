"""The example of docs/hardware.md runs, and does what the page says."""

import random
import re
from pathlib import Path

import pytest

from tests.hw.streams import PATTERNS, exchange

pytestmark = pytest.mark.unit

PAGE = Path(__file__).resolve().parents[2] / "docs/hardware.md"


def example():
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(block, names)
    return names["Dot"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 3])
def test_example(depth, pattern):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    inputs = [[{name: r.getrandbits(8) for name in "ab"} for _ in range(2)] for _ in range(40)]
    result = exchange(example()(depth), inputs, pattern=pattern, seed=seed)
    assert result.outputs == [sum(pair["a"] * pair["b"] for pair in pairs) for pairs in inputs]
    if pattern == "none":
        assert {left - taken for taken, left in zip(result.taken, result.left, strict=True)} == {depth}


def test_folders_are_those_of_the_page():
    root = PAGE.parents[1] / "hw"
    rooms = {path.name for path in root.iterdir() if (path / "__init__.py").is_file()}
    assert set(re.findall(r"^\| `hw/(\w+)` \|", PAGE.read_text(), re.MULTILINE)) == rooms
