import re
import weakref

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.networks import Network, Recorder, UNetConfig, dense, initial, stored, unet
from golden.diffusion.sampling import noise

pytestmark = pytest.mark.golden

SMALL = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)


@pytest.fixture(scope="module")
def network():
    # every parameter random: a zero would hide what it multiplies
    rng = np.random.default_rng(1)
    start = unet(SMALL, initial(0)).parameters()
    return unet(SMALL, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))


def call(network, **options):
    return network(noise(network, 3, 2), np.array([10, 900]), np.array([1, 7]), **options)


def test_every_layer_is_recorded_under_its_name(network):
    recorder = Recorder()
    output = call(network, executor=recorder)
    assert list(recorder.records) == [layer.name for layer in network.layers]
    assert output is recorder.records[network.layers[-1].name].output
    for layer in network.layers:
        record = recorder.records[layer.name]
        assert len(record.inputs) == len(layer.inputs)
        for source, value in zip(layer.inputs, record.inputs, strict=True):
            if source in recorder.records:
                assert value is recorder.records[source].output
        np.testing.assert_array_equal(layer(*record.inputs), record.output)


def test_recorder_keeps_only_what_was_asked(network):
    recorder = Recorder(["stem.conv"])
    call(network, executor=recorder)
    assert list(recorder.records) == ["stem.conv"]


def test_shapes_are_those_of_an_evaluation(network):
    recorder = Recorder()
    call(network, executor=recorder)
    shapes = network.shapes(2)
    assert {name: record.output.shape for name, record in recorder.records.items()} == {
        layer.name: shapes[layer.name] for layer in network.layers
    }


def test_images_of_a_batch_are_independent(network):
    both = call(network)
    one = network(noise(network, 3, 2)[1:], np.array([900]), np.array([7]))
    np.testing.assert_allclose(both[1:], one, rtol=1e-4, atol=1e-5)


def test_time_and_label_matter(network):
    x = noise(network, 3, 1)
    base = network(x, np.array([10]), np.array([1]))
    assert np.abs(base - network(x, np.array([600]), np.array([1]))).max() > 1e-3
    assert np.abs(base - network(x, np.array([10]), np.array([2]))).max() > 1e-3


def test_an_executor_may_run_the_network_on_deltas(network):
    """Convolutions and linear layers on differences with what they saw before: the same output up to float32."""
    before, sums = {}, {}

    def differential(layer, values):
        if layer.kind not in ("convolution", "linear"):
            return dense(layer, values)
        if layer.name not in sums:
            sums[layer.name] = layer(values[0])
        else:
            delta = values[0] - before[layer.name]
            sums[layer.name] = sums[layer.name] + layer(delta) - layer(np.zeros_like(delta))
        before[layer.name] = values[0]
        return sums[layer.name]

    x, label = noise(network, 3, 2), np.array([1, 7])
    for timestep in (900, 880, 860):
        timestep = np.full(2, timestep)
        got = network(x, timestep, label, executor=differential)
        np.testing.assert_allclose(got, network(x, timestep, label), rtol=1e-3, atol=1e-4)
        x = x - 0.1 * got


def test_given_values_leave_out_what_only_they_need(network):
    x, timestep, label = noise(network, 3, 2), np.array([10, 900]), np.array([1, 7])
    output, kept = network(x, timestep, label, keep=["up1.enlarge", "down0.block.add"])
    np.testing.assert_array_equal(output, network(x, timestep, label))
    recorder = Recorder()
    again = network(x, timestep, label, executor=recorder, given={"up1.enlarge": kept["up1.enlarge"]})
    np.testing.assert_array_equal(again, output)
    assert tuple(recorder.records) == tuple(layer.name for layer in network.evaluated(["up1.enlarge"]))
    assert not any(name.startswith(("down1", "middle", "up1", "down0.reduce")) for name in recorder.records)
    np.testing.assert_array_equal(recorder.records["down0.block.add"].output, kept["down0.block.add"])
    # a layer that is kept is evaluated even where the output does not need it
    _, more = network(x, timestep, label, given=kept, keep=["middle.block.add", "up1.enlarge"])
    assert more["up1.enlarge"] is kept["up1.enlarge"] and more["middle.block.add"].shape == (2, 16, 4, 4)
    with pytest.raises(ValueError, match=r"^Layer must be one of the known names, not 'up1.enlarg'; did you mean up1"):
        network(x, timestep, label, given={"up1.enlarg": x})


def test_values_are_dropped_after_their_last_reader(network):
    """At no time are more values alive than are still to be read."""
    alive = set()
    order = [layer.name for layer in network.layers]

    def executor(layer, values):
        assert alive <= {source for other in network.layers[order.index(layer.name) :] for source in other.inputs}
        value = layer(*values).copy()
        alive.add(layer.name)
        weakref.finalize(value, alive.remove, layer.name)
        return value

    call(network, executor=executor)


def test_macs(network):
    macs = network.macs(2)
    assert macs["stem.conv"] == 2 * 64 * 9 * 8
    assert macs["down0.reduce"] == 2 * 16 * 9 * 8 * 16
    assert macs["down1.attention.scores"] == 2 * 16 * 16 * 16
    assert macs["down1.block.norm1"] == 0


def test_consumers(network):
    assert [layer.name for layer in network.consumers("down0.block.add")] == ["down0.reduce", "up0.concat"]
    assert network.consumers("head.conv") == ()


def test_parameters_make_the_same_network(network):
    again = unet(SMALL, stored(network.parameters()))
    np.testing.assert_array_equal(call(again), call(network))
    assert UNetConfig(**again.config) == SMALL


@pytest.mark.parametrize(
    "inputs, error, message",
    [
        ((1, 2), TypeError, "Inputs of network 'unet' must be image, timestep, label, not 2 arrays"),
        ((np.zeros((2, 1, 8, 9)), [1, 2], [1, 2]), ValueError, "Input 'image' must have the shape (batch, 1, 8, 8), "),
        ((np.zeros((2, 1, 8, 8)), [1], [1, 2]), ValueError, "Batch size must be the same for every input, not image 2"),
    ],
)
def test_bad_call(network, inputs, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        network(*inputs)


def test_bad_graph():
    relu = layers.ReLU("a", ("x",))
    with pytest.raises(ValueError, match=r"^Layer name must be unique in network 'n', not 'a' again$"):
        Network("n", {"x": ()}, [relu, relu], {})
    with pytest.raises(ValueError, match=r"^Input of layer 'b' must be an earlier layer, not 'c'$"):
        Network("n", {"x": ()}, [layers.ReLU("b", ("c",))], {})
    with pytest.raises(TypeError, match=r"^Input of layer 'b' must be a name, not ndarray$"):
        Network("n", {"x": (2,)}, [layers.Norm("b", ("x", np.ones(2)))])
    with pytest.raises(TypeError, match=r"^Layers of network 'n' must be of the class Layer, not str$"):
        Network("n", {"x": (2,)}, ["a"])
    with pytest.raises(TypeError, match=r"^Layer 'a' must read as many values as it takes: missing a required"):
        Network("n", {"x": (2,)}, [layers.Add("a", ("x",))])
    with pytest.raises(ValueError, match=r"^Layer 'b' must read images of 2 channels, not shapes \(1, 3, 4, 4\)$"):
        Network("n", {"x": (3, 4, 4)}, [layers.Convolution("b", ("x",), np.ones((1, 2, 1, 1), np.float32))])
    with pytest.raises(ValueError, match=r"^Network 'n' must have a layer, not none$"):
        Network("n", {"x": ()}, [], {})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"groups": 0}, "U-Net groups must be at least 1, not 0"),
        ({"widths": ()}, "U-Net widths must name at least one level, not ()"),
        ({"attention": (True,)}, "U-Net attention must have 3 flags, not 1"),
        ({"widths": (32, 60, 64)}, "U-Net widths must be a multiple of groups 8, not 60"),
        ({"side": 18}, "U-Net side must be a multiple of 4, not 18"),
        ({"encoding": 33}, "U-Net encoding must be a multiple of 2, not 33"),
    ],
)
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        UNetConfig(**change)


def test_bad_parameters(network):
    parameters = network.parameters()
    with pytest.raises(ValueError, match=r"^Parameter 'stem.conv.bias' must have the shape \(8,\), not \(9,\)$"):
        unet(SMALL, stored(parameters | {"stem.conv.bias": np.zeros(9)}))
    with pytest.raises(ValueError, match=r"^Parameter 'stem.conv.bias' must be finite, not inf$"):
        unet(SMALL, stored(parameters | {"stem.conv.bias": np.full(8, np.inf)}))
    del parameters["stem.conv.bias"]
    with pytest.raises(ValueError, match=r"^Parameters must contain 'stem.conv.bias', not only \d+ others$"):
        unet(SMALL, stored(parameters))
