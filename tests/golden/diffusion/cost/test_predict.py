import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.cost import predict as cost
from golden.diffusion.cost.predict import LayerShape, Traffic, predict
from golden.parameters import PRESETS, Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer

pytestmark = pytest.mark.golden

LAYER = LayerShape(in_channels=64, out_channels=64, kernel=3, height=8, width=8)
EDGE = PRESETS["edge"]  # k 3, n 16, m 1, 2 x 4, link 64 bits, state 24 bits, 4 memory lanes, 4 output passes


def test_shape():
    assert (LAYER.inputs, LAYER.positions, LAYER.outputs) == (4096, 64, 4096)
    assert LAYER.macs == 64 * 64 * 64 * 9
    assert LAYER.groups_per_output(EDGE) == 9 * 4
    odd = LayerShape(in_channels=65, out_channels=3, kernel=3, height=7, width=5, stride=2, batch=2)
    assert (odd.positions, odd.inputs) == (2 * 4 * 3, 2 * 65 * 35)
    assert odd.groups_per_output(EDGE) == 9 * 5
    assert LayerShape(in_channels=64, out_channels=64, kernel=3).groups_per_output(PRESETS["paper"]) == 10  # 576 / 60


def test_sign_mask_by_hand():
    got = predict(LAYER, EDGE)
    assert cost.group_bits(EDGE) == 6 + 16 * 3 + 1 * (1 + 4 + 16)  # 75
    assert got.compute_cycles == 32 * 16 * 36
    assert got.weight_bytes == 64 * 36 * (16 * 2 + 2)
    assert got.link_in_bytes == 4096 // 8
    assert got.link_out_bytes == 75 * 4096 // 16 // 8  # one input pass of the next layer
    assert got.memory_read_bytes == got.memory_write_bytes == got.state_bytes == 4096 * 3 + 512
    assert got.link_cycles == -(-(78336 + 512 + 2400) // 8)
    assert got.memory_cycles == -(-12800 // 12)
    assert (got.cycles, got.bound) == (18432, "compute")
    assert got.utilisation == 1.0
    assert got.input_buffer_bytes == 75 * 4096 // 16 // 8
    assert got.weight_buffer_bytes == 2 * 4 * 36 * 34
    assert got.accumulator_bytes == 8 * 4
    assert got.link_bytes == 512 + 2400 and got.memory_bytes == 25600
    assert got.to_dict()["link_bytes"] == got.link_bytes


def test_other_flows_by_hand():
    dense, diffy, _, closed = cost.compare(LAYER, EDGE, Traffic(bits_per_element=2.0, input_passes=2))
    assert [p.flow for p in cost.compare(LAYER, EDGE)] == list(cost.FLOWS)
    assert (dense.link_in_bytes, dense.link_out_bytes, dense.state_bytes) == (8192, 8192, 0)
    assert dense.memory_bytes == dense.link_bytes and dense.weight_bytes == 64 * 576 * 2
    assert dense.compute_cycles == 32 * 16 * int(np.ceil(576 / (0.239 * 16 + 1)))
    assert (diffy.link_in_bytes, diffy.link_out_bytes, diffy.state_bytes) == (16384, 16384, 16384)
    assert diffy.compute_cycles == 2 * 18432
    assert (closed.link_in_bytes, closed.link_out_bytes) == (2 * 1024, 4 * 1024)
    assert (closed.memory_read_bytes, closed.memory_write_bytes) == (3 * 12288, 2 * 12288)
    assert closed.state_bytes == 2 * 12288


def test_raw_values_read_no_state():
    """Y is written and read once; Diffy moves what dense does. The array and the link of a closed loop do not care."""
    traffic = Traffic(bits_per_element=2.0, input_passes=2)
    anew = Traffic(bits_per_element=2.0, input_passes=2, anew=True)
    dense, diffy, _, closed = cost.compare(LAYER, EDGE, anew)
    plain = predict(LAYER, EDGE, "closed_loop", traffic)
    assert (closed.memory_read_bytes, closed.memory_write_bytes, closed.state_bytes) == (12288, 12288, 0)
    assert (closed.link_bytes, closed.compute_cycles) == (plain.link_bytes, plain.compute_cycles)
    assert (diffy.link_bytes, diffy.memory_bytes, diffy.state_bytes) == (dense.link_bytes, dense.memory_bytes, 0)


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
    assert cost.group_bits(replay) == 76
    for parameters in PRESETS.values():
        assert all(value >= 0 for value in cost.machine(parameters).values())


def test_zeros_and_replays():
    base = predict(LAYER, EDGE).compute_cycles
    assert predict(LAYER, EDGE, traffic=Traffic(zero_groups=0.5)).compute_cycles == base * 3 // 4  # both rows zero
    assert predict(LAYER, EDGE, traffic=Traffic(replay_groups=0.25)).compute_cycles == base * 3 // 2
    assert predict(LAYER, EDGE, traffic=Traffic(zero_groups=1.0)).compute_cycles == 0
    assert predict(LAYER, EDGE, traffic=Traffic(zero_groups=1.0)).bound == "link"


def test_repairs():
    machine = Parameters(flip_repair=True)
    quiet = predict(LAYER, EDGE, traffic=Traffic(flips=0.25))
    assert predict(LAYER, machine, traffic=Traffic(flips=0.25)).link_in_bytes == quiet.link_in_bytes + 1024 * 8


def test_measured_traffic():
    recording = zoo.recorded()
    parameters = Parameters(lanes=32, outliers=0, link_width=128, output_passes=1)
    values = recording.groups(32)[1:6].reshape(-1, 32).view(np.uint16)
    groups = delta_quantizer(values, parameters).groups
    traffic = Traffic.measured(groups, parameters)
    assert traffic.zero_groups == groups.zero.mean() and traffic.replay_groups == 0
    assert 1.0 < traffic.bits_per_element < 2.1
    sparse = DeltaGroups.concatenate([groups, DeltaGroups.zeros(len(groups), parameters)])
    assert Traffic.measured(sparse, parameters).zero_groups == pytest.approx(0.5, abs=0.01)
    # The published dataflow moves less over the link than dense activations do, Diffy's more.
    dense, diffy, sign_mask, closed_loop = cost.compare(LAYER, parameters, traffic)
    assert sign_mask.link_bytes < closed_loop.link_bytes < dense.link_bytes < diffy.link_bytes
    assert sign_mask.compute_cycles < dense.compute_cycles


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
        ({"replay_groups": -1}, "replay_groups must be at least 0, not -1"),
        ({"input_passes": 9}, r"input_passes must be in 1\.\.8, not 9"),
        ({"bits_per_element": -1}, "bits_per_element must be at least 0, not -1"),
    ],
)
def test_bad_traffic(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Traffic(**arguments)


def test_unknown_flow():
    with pytest.raises(
        ValueError, match="^Flow must be one of the known names, not 'sign-mask'; did you mean sign_mask?"
    ):
        predict(LAYER, EDGE, "sign-mask")
    with pytest.raises(ValueError, match="^Groups to measure must be at least one, not none$"):
        Traffic.measured(DeltaGroups.zeros(0, EDGE), EDGE)
