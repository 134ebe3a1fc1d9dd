"""Bitstreams of the demo, packed by the real tools."""

import dataclasses

import pytest

from fpga.bitstream import build_demo
from fpga.content import recorded_content
from fpga.flow import DoesNotFit, Flow
from fpga.parts import BOARDS
from golden.parameters import PRESETS

pytestmark = pytest.mark.synth


def _build(flow, folder, board, count):
    content = recorded_content(PRESETS[board.preset], count)
    return build_demo(flow, board, content, title=board.preset, seeds=(1,), folder=folder)


def test_icebreaker(tmp_path):
    board, flow = BOARDS["icebreaker"], Flow(tmp_path)
    measurement, bitstream = _build(flow, tmp_path, board, 256)
    measurement.require(12)
    assert measurement.cells.bram >= 4  # the ROMs are block RAM
    assert measurement.cells.luts < 3000
    assert b"\x7e\xaa\x99\x7e" in bitstream.read_bytes()[:64]  # the synchronisation word of iCE40

    # The same, already mapped, for a part with less memory.
    part = dataclasses.replace(board.part, capacity={**board.part.capacity, "bram": 3})
    with pytest.raises(
        DoesNotFit, match=r"^The demo of tiny does not fit .*: it needs \d+ BRAM of 3; nothing was placed$"
    ):
        _build(flow, tmp_path, dataclasses.replace(board, part=part), 256)


@pytest.mark.slow
def test_ulx3s(tmp_path):
    measurement, bitstream = _build(Flow(tmp_path), tmp_path, BOARDS["ulx3s-85f"], 1024)
    measurement.require(25)
    assert measurement.cells.bram >= 8
    assert b"\xff\xff\xbd\xb3" in bitstream.read_bytes()[:256]  # the preamble of ECP5
