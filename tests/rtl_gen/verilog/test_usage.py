# amaranth: UnusedElaboratable=no
import dataclasses

import pytest

from golden.parameters import preset
from hw.units import UNITS
from rtl_gen.verilog.emission import emit
from rtl_gen.verilog.usage import recorded

pytestmark = pytest.mark.unit

TINY = preset("tiny")


def test_what_is_read_is_remembered():
    parameters = recorded(TINY)
    assert parameters.used == set()
    assert parameters.lane_width == TINY.lane_width
    assert parameters.used == {"lanes"}
    assert recorded(TINY).used == set()


@pytest.mark.parametrize("name", ["outlier_selector", "channel_scale", "sign_mask"])
def test_the_text_is_that_of_the_parameters_themselves(name):
    def code(text):
        return text.partition("module")[2]

    emitted = emit(UNITS[name](recorded(TINY)))
    assert code(emitted.text) == code(emit(UNITS[name](TINY)).text)


def test_header_lists_what_is_used():
    head = emit(UNITS["outlier_selector"](recorded(TINY))).text.partition("module")[0]
    listed = {field.name for field in dataclasses.fields(TINY) if f"\n//   {field.name} = " in head}
    assert listed == {"lanes", "outliers", "pipeline_depth"}
