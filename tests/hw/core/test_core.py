"""The core: its engines' ports come out under their names, and counters get what the array has done."""

import pytest

from golden.parameters import Parameters, preset
from hw.bus.ports import MemoryRead, MemoryWrite
from hw.control.cluster import memory_ports
from hw.core.core import Core
from tests.hw.streams import inspect, refusal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("form", ["direct", "compressed"])
def test_what_goes_out_of_the_core(form):
    core = inspect(Core(preset("tiny").with_settings([f"link_form={form}"])))
    for engine in core._engines:
        inspect(engine)
    assert core.engines == ("load", "multiply")
    reads = {"load_weights_read", "load_spools_read"} | ({"load_tables_read"} if form == "compressed" else set())
    assert set(memory_ports(core, MemoryRead)) == reads and not memory_ports(core, MemoryWrite)
    stalls = [f"multiply_without_{cause}" for cause in ("records", "sums", "half", "fields")]
    assert core.events == dict.fromkeys(["link_outputs", *stalls], 1)
    assert list(core.counts.payload.shape().members) == ["groups", "zero_groups", "addresses", "skipped"]


@pytest.mark.parametrize(
    "settings, lengths", [([], False), (["overflow_policy=replay", "exponent_policy=layer"], True)]
)
def test_what_goes_out_with_masks(settings, lengths):
    masks = ['dataflows=["closed_loop","sign_mask"]', "link_form=direct"]
    core = inspect(Core(preset("tiny").with_settings([*masks, *settings])))
    for engine in core._engines:
        inspect(engine)
    reads = {f"load_{what}_read" for what in ("weights", "spools", "signs_tables", "scales_tables")}
    assert set(memory_ports(core, MemoryRead)) == reads | ({"load_tables_read"} if lengths else set())
    assert core.events["link_outputs"] == 2  # a vector in each form may leave in one clock
    assert "down_groups" in core.signature.members


def test_refusals():
    sentence = "exponent_policy must be group for the closed loop, not layer"
    assert str(refusal(Core, Parameters(exponent_policy="layer", output_passes=1))) == sentence
    assert str(refusal(Core, None)) == "parameters must be Parameters, not None"


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (["lanes=64", "outliers=8", "digit_width=8"], "rows must be at most 93 with groups of 702 bits, not 128"),
        (["near_lanes=16", "columns=16"], "rows must be at most 117 with sums read together of 560 bits, not 128"),
    ],
)
def test_buses_of_all_rows_are_vectors_of_verilog(settings, sentence):
    wide = Parameters().with_settings(["memory_lanes=4", "rows=128", *settings])
    assert str(refusal(Core, wide)) == sentence
