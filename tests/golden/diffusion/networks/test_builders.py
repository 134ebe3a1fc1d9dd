import dataclasses

import numpy as np
import pytest

from golden.diffusion.networks import Recorder, stored
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.latte import LatteConfig, latte
from golden.diffusion.networks.sources import grid
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d

pytestmark = pytest.mark.golden

UNET = UNet2DConfig(side=8, widths=(8, 12), groups=4, middle_groups=4, time_width=16, heads=(1, 2))
TEXT = dataclasses.replace(UNET, down=("none", "text"), up=("text", "none"), middle="text", text_width=6, tokens=3)
DIT = DiT2DConfig(side=8, width=16, heads=2, depth=2, classes=5)
LATTE = LatteConfig(frames=3, side=8, width=16, heads=2, depth=1, text_width=6, tokens=3)


@pytest.mark.parametrize("build, config", [(unet2d, UNET), (unet2d, TEXT), (dit2d, DIT), (latte, LATTE)])
def test_a_network_is_built_again_from_its_parameters(build, config):
    rng = np.random.default_rng(6)
    outline = build(config, unallocated)
    parameters = {
        name: rng.standard_normal(value.shape).astype(np.float32) * 0.2 for name, value in outline.parameters().items()
    }
    first = build(config, stored(parameters))
    second = build(config, stored(first.parameters()))
    inputs = [
        rng.standard_normal((2, *shape)).astype(np.float32) if shape else np.array([1, 4])
        for shape in outline.inputs.values()
    ]
    recorder = Recorder()
    value = first(*inputs, executor=recorder)
    np.testing.assert_array_equal(value, second(*inputs))
    assert np.isfinite(value).all() and value.std() > 0
    shapes = outline.shapes(2)
    assert all(record.output.shape == shapes[name] for name, record in recorder.records.items())


def test_items_of_a_batch_do_not_meet():
    rng = np.random.default_rng(7)
    shapes = {name: value.shape for name, value in latte(LATTE, unallocated).parameters().items()}
    network = latte(LATTE, stored({name: rng.standard_normal(shape) * 0.2 for name, shape in shapes.items()}))
    video, text = (rng.standard_normal((3, *network.inputs[name])).astype(np.float32) for name in ("video", "text"))
    timestep = np.array([5, 50, 500])
    together = network(video, timestep, text)
    for item in range(3):
        alone = network(video[item : item + 1], timestep[item : item + 1], text[item : item + 1])
        np.testing.assert_allclose(alone[0], together[item], rtol=1e-4, atol=1e-5)


def test_grid_holds_the_column_first():
    table = grid(8, 2, 3, (1.0, 0.5))
    assert table.shape == (6, 8) and table.dtype == np.float32
    column, row = 1.0, 1.0
    expected = [np.sin(column), np.sin(column / 100), np.cos(column), np.cos(column / 100)]
    expected += [np.sin(row), np.sin(row / 100), np.cos(row), np.cos(row / 100)]
    np.testing.assert_allclose(table[5], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "config, change, message",
    [
        (UNET, {"side": 0}, r"U-Net side must be at least 1, not 0"),
        (UNET, {"side": 9}, r"U-Net side must be a multiple of 2, not 9"),
        (UNET, {"widths": ()}, r"U-Net widths must name at least one level, not \(\)"),
        (UNET, {"down": ("none",)}, r"U-Net down must have 2 values, one for each level, not 1"),
        (UNET, {"blocks": (1, 0)}, r"U-Net blocks\[1\] must be at least 1, not 0"),
        (UNET, {"groups": 5}, r"U-Net widths must be a multiple of groups 5, not 8"),
        (UNET, {"heads": (3, 5)}, r"U-Net widths must be a multiple of heads 5, not 12"),
        (UNET, {"middle_groups": 5}, r"U-Net widths must be a multiple of middle_groups 5, not 12"),
        (
            UNET,
            {"widths": (3, 12), "groups": 3, "middle_groups": 3},
            r"U-Net widths.* must be a multiple of 2, not 3",
        ),
        (
            UNET,
            {"activation": "mish"},
            r"U-Net activation must be silu or relu or gelu or .*, not 'mish'",
        ),
        (UNET, {"up": ("self", "other")}, r"U-Net up\[1\] must be none or self or text, not 'other'"),
        (UNET, {"middle": "other"}, r"U-Net middle must be none or self or text or None, not 'other'"),
        (UNET, {"shrink": ("pool", "residual")}, r"U-Net shrink\[0\] must be convolution or residual, not 'pool'"),
        (UNET, {"time_norm": "spatial"}, r"U-Net time_norm must be default or scale_shift, not 'spatial'"),
        (TEXT, {"tokens": 0}, r"U-Net text_width and tokens must be positive where it takes text, not 6 and 0"),
        (DIT, {"patch": 3}, r"DiT side must be a multiple of patch 3, not 8"),
        (DIT, {"width": 18}, r"DiT width must be a multiple of 4, not 18"),
        (DIT, {"heads": 3}, r"DiT width must be a multiple of heads 3, not 16"),
        (DIT, {"activation": "swiglu"}, r"DiT activation must be geglu or gelu or gelu-approximate, not 'swiglu'"),
        (LATTE, {"frames": 0}, r"Latte frames must be at least 1, not 0"),
        (LATTE, {"patch": 3}, r"Latte side must be a multiple of patch 3, not 8"),
        (LATTE, {"width": 18}, r"Latte width must be a multiple of 4, not 18"),
        (LATTE, {"heads": 3}, r"Latte width must be a multiple of heads 3, not 16"),
        (LATTE, {"activation": "relu"}, r"Latte activation must be geglu or gelu or gelu-approximate, not 'relu'"),
    ],
)
def test_rules(config, change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(config, **change)
