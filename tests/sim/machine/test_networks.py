"""Networks on the emitted Verilog of the whole machine: memories and counters as the interpreter leaves them."""

import functools

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.sampling import Sampling
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sections import cut_sampling
from sim.machine.run import SideBySide
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.cocotb

METHOD = on_machine(Method.named("closed-int3"), options.Machine("tiny", preset("tiny")))


@functools.cache
def model():
    return MachineModel(Accelerator(METHOD.machine), traced=True, optimise="-O1")


def sections(seed, *, fenced=True):
    sampling = Sampling(random_unet(seed), [1], steps=3)
    return cut_sampling(sampling, METHOD, calibrate(sampling), 2, lambda layer: not fenced or layer.name)


def every(section):
    return True


def side_by_side(made, how, *, fenced=True):
    return SideBySide(made, lambda p, memory: VerilatedPort(model(), p, memory, how), every, fenced=fenced)


@pytest.mark.parametrize("mode", ["none", "both"])
def test_every_layer_of_a_network(mode, fresh_seed):
    made = sections(fresh_seed % 7)
    how = Memory(latency=40 if mode == "none" else 5, mode=mode, seed=fresh_seed)
    rows = list(side_by_side(made, how).run())
    assert len(rows) > 40 and all(row.ran for row in rows)
    assert {name: odd for row in rows for name, odd in row.odd.items()} == {}
    for row in rows:
        counters = row.counters
        for engine in ("load", "multiply", "accumulate", "emit"):
            count = sum(command.engine == engine for command in row.commands)
            assert len(row.spans[engine]) == count == counters[f"{engine}_operations"]
            assert counters[f"{engine}_busy"] + counters[f"{engine}_waiting"] <= counters["clocks"]


def test_layers_that_run_into_each_other(fresh_seed):
    made = sections(fresh_seed % 5, fenced=False)
    both = side_by_side(made, Memory(mode="idle", seed=fresh_seed), fenced=False)
    assert len(list(both.run())) == 4  # the network and the sampler, twice
    np.testing.assert_array_equal(both.driver.port.memory, both.reference.port.memory)
