import math
import re
from pathlib import Path

import pytest

from golden.diffusion.cost.layer import layer_shape
from golden.diffusion.layers import Convolution, Linear
from golden.diffusion.networks import published
from golden.diffusion.networks.builder import unallocated

pytestmark = pytest.mark.golden

EXACT = ("guided-diffusion-128", "guided-diffusion-256", "guided-diffusion-512", "ldm-4", "sd15")
EXACT += ("dit-xl-2", "dit-xl-2-512")


def work(name, batch=1):
    """Multiply-accumulates of a step, and those of them with a weight."""
    network = published.network(name)
    macs = network.macs(batch)
    return sum(macs.values()), sum(macs[layer.name] for layer in network.layers if not layer.bilinear)


@pytest.mark.parametrize("name", EXACT)
def test_totals_are_those_published(name):
    found = published.PUBLISHED[name]
    macs = work(name)[found.counted == "weights"]
    # published MACs have three to five digits, parameters three (two for LDM-4 and Stable Diffusion)
    assert macs == pytest.approx(found.macs, rel=0.001)
    assert published.learnt(name) == pytest.approx(found.parameters, rel=0.0025)


def test_every_product_of_stable_diffusion():
    # 859,520,964 is the sum over the state dictionary of the published checkpoint
    assert published.learnt("sd15") == 859_520_964
    macs, _ = work("sd15")
    assert macs == pytest.approx(401.6e9, rel=0.001) and work("sd15", batch=2)[0] == 2 * macs


@pytest.mark.parametrize("name, pieces, share", [("stdit-xl-2", 20, 0.05), ("stdit3-xl-2", 32, 0.1)])
def test_blocks_of_stdit(name, pieces, share):
    # attention over space and time and to the text have 4 width^2 each, the feed-forward 8
    blocks = [layer for layer in published.network(name).layers if "blocks." in layer.name]
    assert sum(layer.weight.size for layer in blocks if isinstance(layer, Linear)) == 28 * pieces * 1152**2
    # what is reported is rounded, and below what the blocks alone have
    found = published.PUBLISHED[name]
    assert published.learnt(name) == pytest.approx(found.parameters, rel=share)


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_layers_have_shapes_for_the_cost_model(name):
    network = published.network(name)
    shapes, macs = network.shapes(), network.macs()
    assert shapes[network.layers[-1].name][1] == network.config["channels_out"]
    for layer in network.layers:
        read = [shapes[source] for source in layer.inputs]
        shape, elements = layer_shape(layer, read[0]), math.prod(shapes[layer.name])
        assert (shape is not None) == isinstance(layer, Convolution | Linear), layer.name
        if shape is not None:
            found = shape.macs, shape.inputs, shape.outputs
            assert found == (macs[layer.name], math.prod(read[0]), elements), layer.name
        elif layer.bilinear:
            assert macs[layer.name] == elements * read[0][-1] > 0
        else:
            assert macs[layer.name] == 0


def test_table_of_the_documentation():
    page = (Path(__file__).resolve().parents[4] / "docs/networks.md").read_text()
    table = {name: rest.split(" | ") for name, rest in re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page, re.M)}
    assert table.keys() >= published.PUBLISHED.keys()
    for name, found in published.PUBLISHED.items():
        network, (macs, weight_macs) = published.network(name), work(name)
        shapes = network.shapes()
        activations = sum(math.prod(shapes[layer.name]) for layer in network.layers)
        expected = [macs / 1e9, weight_macs / 1e9, (found.macs or 0) / 1e9]
        expected += [published.learnt(name) / 1e6, found.parameters / 1e6, activations / 1e6]
        for cell, value in zip(table[name], expected, strict=True):
            digits = len(cell.partition(".")[2])
            assert float(cell.replace(",", "") or 0) == round(value, digits), (name, cell, value)


def test_no_weight_is_allocated():
    value = unallocated("weight", (10_000, 10_000, 3, 3))
    assert value.shape == (10_000, 10_000, 3, 3) and value.strides == (0, 0, 0, 0)
    network = published.network("stdit3-xl-2")
    held = sum(value.nbytes for value in network.parameters().values() if any(value.strides))
    assert held < 50e6


def test_levels_of_guided_diffusion():
    # 64 channels a head, attention at 32, 16 and 8 pixels on both sides and at the bottom
    def scores(name):
        return [shape for layer, shape in published.network(name).shapes().items() if layer.endswith(".scores")]

    found = scores("guided-diffusion-256")
    assert {(shape[-1], shape[1]) for shape in found} == {(1024, 8), (256, 16), (64, 16)}
    assert len(found) == 3 * (2 + 3) + 1
    assert {shape[1] for shape in scores("guided-diffusion-128")} == {4}


def test_unknown_name():
    with pytest.raises(ValueError, match=r"^Published network must be one of .*did you mean sd15"):
        published.network("sd-15")
