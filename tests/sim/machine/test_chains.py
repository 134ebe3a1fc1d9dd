"""Programs of the published dataflow on the emitted Verilog of the whole machine, beside the interpreter."""

import pytest

from golden.diffusion.differential.chains import chains
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate, main_values
from golden.diffusion.sampling import Sampling
from golden.machine.command import Accumulate, LoadGroups
from golden.parameters import preset
from hw.accelerator import Accelerator
from rtl_gen import options
from rtl_gen.program.commands import on_machine
from rtl_gen.program.sections import cut_sampling
from sim.machine.run import SideBySide
from sim.machine.verilated import MachineModel, Memory, VerilatedPort
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.cocotb


def machine(*settings):
    return options.Machine("tiny", preset("tiny").with_settings(["link_form=direct", *settings]))


STATIC = ("exponent_policy=layer", "output_passes=1")
REPLAYED = (*STATIC, "overflow_policy=replay")

POLICIES = {
    "by group": (),
    "by group, no outliers": ("outliers=0",),
    "by group, repaired": ("outliers=4", "flip_repair=true"),
    "static": STATIC,
    "static, no outliers, repaired": (*STATIC, "outliers=0", "flip_repair=true"),
    "static, replayed": (*REPLAYED, "outliers=4", "lanes=8"),
    "static, replayed, repaired": (*REPLAYED, "flip_repair=true"),
}
"""As `tests.rtl_gen.program.test_chains` has them of interpreter and golden."""


@pytest.mark.parametrize(
    "settings",
    [pytest.param(given, id=name, marks=[pytest.mark.slow] if given else []) for name, given in POLICIES.items()],
)
def test_chains_of_a_network(settings, fresh_seed):
    """A start, whose signs a product of zero groups writes, and two steps of deltas: all that has part in a chain."""
    method = on_machine(Method.named("paper"), machine(*settings))
    sampling = Sampling(random_unet(fresh_seed % 5), [1], steps=3)
    network = sampling.network
    found = chains(network, main_values(network), method.machine.lanes)
    parts = {layer.name for chain in found for layer in (*chain.layers, *network.consumers(chain.activation.name))}
    made = cut_sampling(sampling, method, calibrate(sampling), 3, lambda layer: layer.name)
    model = MachineModel(Accelerator(method.machine), traced=False, optimise="-O1")
    how = Memory(latency=9, mode="both", seed=fresh_seed)
    both = SideBySide(
        made,
        lambda p, memory: VerilatedPort(model, p, memory, how),
        lambda section: any(layer.name in parts for layer in section.layers),
    )
    rows = [row for row in both.run() if row.ran]
    assert {row.name: row.odd for row in rows if row.odd} == {}
    ran = [command for row in rows for command in row.commands]
    assert sum(isinstance(one, Accumulate) and one.groups for one in ran) >= 3 * len(found) > 0
    assert any(isinstance(one, LoadGroups) and one.masked for one in ran)
