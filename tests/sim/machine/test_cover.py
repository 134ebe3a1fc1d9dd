"""A small network on machines of every pair of presets, digits, outliers, links, lanes and widths of memory."""

import itertools

import pytest

from golden.diffusion.differential.method import Method
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from sim.machine.run import SideBySide
from sim.machine.trust import small_sections
from sim.machine.verilated import MachineModel, Memory, VerilatedPort

LEVELS = {
    "preset": ("tiny", "edge", "wide"),
    "digit_width": (3, 4),
    "outliers": (0, 1),
    "link_form": ("direct", "compressed"),
    "near_lanes": (2, 4),
    "memory_width": (32, 256),
}

COVER = (
    ("tiny", 3, 1, "compressed", 2, 32),
    ("tiny", 3, 0, "direct", 2, 32),
    ("tiny", 4, 1, "compressed", 4, 256),
    ("edge", 4, 0, "direct", 4, 32),
    ("edge", 3, 1, "compressed", 2, 32),
    ("edge", 3, 0, "direct", 4, 256),
    ("wide", 3, 0, "compressed", 4, 32),
    ("wide", 4, 1, "direct", 2, 256),
)

BEYOND = ("link_checks=true", "group_buffer=240", "weight_buffer=72")
"""Of the first build: checks on the link, and buffers that hold a part of the largest tensor and of its weights."""


def method(build):
    name, digits, *values = build
    base = preset("edge").with_settings(["lanes=32", "rows=3", "tile_positions=32"]) if name == "wide" else preset(name)
    settings = [f"{key}={value}" for key, value in zip(list(LEVELS)[2:], values, strict=True)]
    machine = base.with_settings([*settings, *(BEYOND if build == COVER[0] else ())])
    return on_machine(Method.named(f"closed-int{digits}"), options.Machine(name, machine))


@pytest.mark.unit
def test_every_pair_of_values_is_covered():
    for first, second in itertools.combinations(range(len(LEVELS)), 2):
        pairs = set(itertools.product(*(list(LEVELS.values())[one] for one in (first, second))))
        assert {(build[first], build[second]) for build in COVER} == pairs
    assert len(COVER) <= 8


@pytest.mark.cocotb
@pytest.mark.slow
@pytest.mark.parametrize("build", COVER)
def test_memories_and_counters_are_equal_on_machines_of_every_pair(build, fresh_seed):
    chosen = method(build)
    made = small_sections(chosen, fresh_seed % 5)
    model = MachineModel(Accelerator(chosen.machine), optimise="-O1")
    how = Memory(latency=9, mode="both", seed=fresh_seed)
    both = SideBySide(made, lambda p, memory: VerilatedPort(model, p, memory, how), lambda section: True)
    rows = list(both.run())
    assert len(rows) == len(made.sections) > 40
    assert {row.name: row.odd for row in rows if row.odd} == {}
    layers = {type(layer).__name__ for section in made.sections for layer in section.layers}
    assert {"Convolution", "Norm", "MatMul", "Softmax", "Move", "Concat"} <= layers, layers
