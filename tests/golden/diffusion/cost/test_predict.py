import dataclasses

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.cost import predict as cost
from golden.diffusion.cost.flows import FLOWS
from golden.diffusion.cost.layer import LayerShape, Load
from golden.diffusion.cost.predict import explain, predict
from golden.diffusion.cost.rates import Rates, group_bits
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run
from golden.diffusion.sampling import Sampling
from golden.parameters import PRESETS, Parameters

pytestmark = pytest.mark.golden

LAYER = LayerShape(in_channels=64, out_channels=64, kernel=3, height=8, width=8)
EDGE = dataclasses.replace(PRESETS["edge"], state_width=24)
"""k 3, n 16, m 1, 2 x 4, link 64 bits, 4 memory lanes, 4 output passes."""


def test_shape():
    assert (LAYER.inputs, LAYER.positions, LAYER.outputs) == (4096, 64, 4096)
    assert LAYER.macs == 64 * 64 * 64 * 9
    assert LAYER.groups_per_output(EDGE) == 9 * 4
    odd = LayerShape(in_channels=65, out_channels=3, kernel=3, height=7, width=5, stride=2, batch=2)
    assert (odd.positions, odd.inputs) == (2 * 4 * 3, 2 * 65 * 35)
    assert odd.groups_per_output(EDGE) == 9 * 5
    assert LayerShape(in_channels=64, out_channels=64, kernel=3).groups_per_output(PRESETS["paper"]) == 10  # 576 / 60


def explained(shape=LAYER, parameters=EDGE):
    return {row["flow"]: row for row in explain(shape, parameters)}


def of_layer(flow, rates, parameters=EDGE, **how):
    return predict(dataclasses.replace(Load.alone(LAYER), **how), flow, rates, parameters)


def test_sign_mask_by_hand():
    got = explained()["sign_mask"]
    assert group_bits(EDGE) == 6 + 16 * 3 + 1 * (1 + 4 + 16)  # 75
    assert got["compute_cycles"] == 32 * 16 * 36
    assert got["weight_bytes"] == 64 * 36 * (16 * 2 + 2)
    assert got["link_in_bytes"] == 4096 // 8
    assert got["link_out_bytes"] == 75 * 4096 // 16 // 8  # one input pass of the next layer
    assert got["memory_read_bytes"] == got["memory_write_bytes"] == got["state_bytes"] == 4096 * 3 + 512
    assert got["link_cycles"] == -(-(78336 + 512 + 2400) // 8)
    assert got["memory_cycles"] == -(-12800 // 12)
    assert (got["cycles"], got["bound"]) == (18432, "compute")
    assert got["utilisation"] == 1.0
    assert got["input_buffer_bytes"] == 75 * 4096 // 16 // 8
    assert got["weight_buffer_bytes"] == 2 * 4 * 36 * 34
    assert got["accumulator_bytes"] == 8 * 4
    assert got["link_bytes"] == 512 + 2400 and got["memory_bytes"] == 25600


def test_other_flows_by_hand():
    rates = Rates(input_bits=4.0, output_bits=8.0, passes=2)
    dense, diffy, closed = (of_layer(flow, rates) for flow in ("dense", "diffy", "closed_loop"))
    assert list(explained()) == list(FLOWS)
    assert (dense.link_in, dense.link_out, dense.kept) == (8192, 8192, 0)
    assert dense.read + dense.written == dense.link and dense.weights == 64 * 576 * 2
    assert dense.cycles == 32 * 16 * int(np.ceil(576 / (0.239 * 16 + 1)))
    assert (diffy.link_in, diffy.link_out, diffy.kept) == (16384, 16384, 16384)
    assert diffy.cycles == 2 * 18432
    assert (closed.link_in, closed.link_out) == (2 * 1024, 4 * 1024)
    assert (closed.read, closed.written) == (3 * 12288, 2 * 12288)
    assert closed.kept == 2 * 12288


def test_clocks_of_every_part():
    clocks = of_layer("closed_loop", Rates(input_bits=4.0, output_bits=8.0, passes=2)).clocks(EDGE)
    assert clocks == {"compute": 2 * 18432, "link": (78336 + 2048 + 4096) // 8, "memory": 3 * 12288 // 12}


def test_published_dense_equivalent():
    """60 int3 and 4 FP16 multipliers cost 18.3 FP16 multipliers."""
    assert cost.machine(PRESETS["paper"])["dense_lanes"] == pytest.approx(18.3, abs=0.05)


def test_machine_figures():
    figures = cost.machine(EDGE)
    assert figures["group_bits"] == 75 and figures["groups"] == 8 and figures["macs_per_cycle"] == 128
    assert figures["inlier_product_bits"] == 17  # k + F + 2
    assert cost.machine(PRESETS["paper"])["inlier_product_bits"] == 13  # k - 1 + f + 1
    assert figures["memory_word_bits"] == 96
    replay = Parameters(exponent_policy="layer", overflow_policy="replay")
    assert group_bits(replay) == 76
    for parameters in PRESETS.values():
        assert all(value >= 0 for value in cost.machine(parameters).values())


def test_zeros():
    base = of_layer("closed_loop", Rates()).cycles
    assert of_layer("closed_loop", Rates(zero_groups=0.5)).cycles == base * 3 // 4  # both rows zero
    assert of_layer("closed_loop", Rates(zero_groups=1.0)).cycles == 0


def test_repairs():
    machine, rates = Parameters(flip_repair=True, state_width=24), Rates(flips=0.25)
    assert of_layer("sign_mask", rates, machine).link_in == of_layer("sign_mask", rates).link_in + 1024 * 8
    # a tenth of the groups have repairs; rows in lockstep wait for those of either
    rates = Rates(flips=0.25, repairs=0.1)
    plain, repaired = (of_layer("sign_mask", rates, machine, masked_operand=masked) for masked in (False, True))
    assert plain.cycles == 18432 and repaired.cycles == pytest.approx(1.2 * 18432)
    assert (
        of_layer("sign_mask", dataclasses.replace(rates, repairs=9.0), machine, masked_operand=True).cycles == 4 * 18432
    )


def test_raw_attention_is_passes_of_digits():
    rates = Rates(passes=1.5, zero_groups=0.5, raw_passes=4)
    assert of_layer("sign_mask", rates, raw=True).cycles == 4 * 18432
    assert of_layer("closed_loop", rates, raw=True).cycles == 1.5 * 18432 * 3 / 4


def test_flips_are_measured():
    network = zoo.load("unet")
    notes = run(Sampling(network, [3], 3), Method.named("paper"), measured=True).measure
    flipped, masked = (sum(pair[i] for pair in notes.flips.values()) for i in (0, 1))
    rates = Rates.measured(notes, joint=True)
    assert rates.flips == flipped / masked > 0
    assert rates.raw_passes == 3 and rates.repairs == 0  # of attention; nothing is repaired
    paper = Method.named("paper")
    repairing = dataclasses.replace(paper, machine=dataclasses.replace(paper.machine, flip_repair=True))
    notes = run(Sampling(network, [3], 3), repairing, measured=True).measure
    found = [row for (_, name), row in notes.raws.items() if network.by_name[name].kind == "relu"]
    groups = sum(row.groups - row.zero_groups for row in found), sum(row.vectors for row in found)
    assert 0 < Rates.measured(notes, joint=True).repairs == groups[0] / groups[1] < 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "pool"}, ValueError, "kind must be convolution or linear, not 'pool'"),
        ({"kernel": 0}, ValueError, "kernel must be at least 1, not 0"),
        ({"batch": 1.5}, TypeError, "batch must be an integer, not 1.5"),
        ({"height": True}, TypeError, "height must be an integer, not True"),
        ({"kind": "linear", "kernel": 3}, ValueError, "kernel of a linear layer must be 1, not 3"),
        ({"kind": "linear", "stride": 2}, ValueError, "stride of a linear layer must be 1, not 2"),
    ],
)
def test_bad_shapes(arguments, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        LayerShape(**{"in_channels": 1, "out_channels": 1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zero_groups": 1.5}, r"zero_groups must be in 0\.\.1, not 1\.5"),
        ({"flips": -0.5}, r"flips must be in 0\.\.1, not -0\.5"),
        ({"input_bits": float("nan")}, "input_bits must be finite, not nan"),
        ({"passes": -1}, "passes must be at least 0, not -1"),
    ],
)
def test_bad_rates(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Rates(**arguments)


def test_unknown_flow():
    with pytest.raises(
        ValueError, match="^Flow must be one of the known names, not 'sign-mask'; did you mean sign_mask?"
    ):
        of_layer("sign-mask", Rates())
