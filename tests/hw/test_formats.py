"""The examples of docs/formats.md that are not a delta stream, against the payloads of the hardware."""

import json
import re
from pathlib import Path

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from golden.parameters import SCALE_WIDTH, Parameters
from hw import payloads
from tests.hw.streams import pack

pytestmark = pytest.mark.unit

P = Parameters(lanes=4, memory_lanes=2, fraction_bits=10, state_width=24)


def example(section):
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    section = text[text.index(f"## {section}, ") :]
    return re.findall(r"`([^`]+)`", re.search(r"Example.*?(?=\n\n|\n#|\Z)", section, re.S).group())


def test_state():
    words = [pack(payloads.memory_word(P), pair) for pair in ([1, -1], [5, -(2**23)])]
    assert [f"{word:012x}" for word in words] == [
        text for text in example("State") if re.fullmatch("[0-9a-f]{12}", text)
    ]


def test_sign_tensor():
    mask = payloads.near_memory_mask(P)["mask"].shape
    assert f"{pack(mask, [1, 0, 1, 0]):04b}" in example("Sign tensor")


def test_weights():
    record = data.StructLayout({"scale": signed(SCALE_WIDTH), "weights": data.ArrayLayout(payloads.weight(P), 4)})
    assert record.size == 57
    assert f"{pack(record, {'scale': -3, 'weights': [1, -1, 1024, 0]}):x}" in example("Weights")


def test_configuration():
    parameters = Parameters.from_dict(json.loads(example("Configuration files")[-1]))
    assert (parameters.lanes, parameters.outliers, parameters.link_width) == (32, 0, 64)
