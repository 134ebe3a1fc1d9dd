"""Published diffusion networks as graphs without weights: shapes, multiply-accumulates and bytes of every layer.

`network` builds them with the builders that `zoo.importer` reads checkpoints with, so each layer could run.
`PUBLISHED` also holds the totals that their authors, or those who measured them, give.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from golden.common import names
from golden.diffusion.layers import Shape
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.stdit import STDiTConfig, stdit
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published network.

    Members
    -------
    title : str
        What it is, and where its shape stands.
    build : callable
        Builder of the network: ``unet2d``, ``dit2d`` or ``stdit``.
    config : UNet2DConfig, DiT2DConfig or STDiTConfig
        Its shape.
    macs, parameters : float or None
        Published totals, of one image or video in one step; None: none is known.
    source : str
        Who gives them, and what they call them.
    counted : str
        What is in `macs`: ``"all"``, or ``"weights"`` without the products of two activations, which tools that count
        by module do not see.
    """

    title: str
    build: Callable[..., Network]
    config: Any
    macs: float | None = None
    parameters: float | None = None
    source: str = ""
    counted: Literal["all", "weights"] = "all"


def _guided(side: int, widths: tuple[int, ...], time_width: int, heads: tuple[int, ...] = ()) -> UNet2DConfig:
    """U-Net of guided diffusion, conditioned on the class: attention at 32, 16 and 8 pixels, heads of 64 channels.

    Source: openai/guided-diffusion, flags of its README and channel multipliers of ``script_util.py``; out come noise
    and variance. At 128 pixels there are 4 heads at each level. At 512 the encoding of time has 128 channels here and
    256 there.
    """
    levels = range(len(widths))
    down = tuple("self" if side >> level in (32, 16, 8) else "none" for level in levels)
    return UNet2DConfig(
        side=side,
        channels_out=6,
        widths=widths,
        blocks=(2,) * len(widths),
        down=down,
        up=down[::-1],
        shrink=("residual",) * len(widths),
        enlarge=("residual",) * len(widths),
        heads=heads or tuple(width // 64 for width in widths),
        depth=(1,) * len(widths),
        classes=1000,
        time_norm="scale_shift",
        time_width=time_width,
    )


def _latent(
    widths: tuple[int, ...], text: tuple[bool, ...], heads: int, text_width: int, tokens: int, channels: int
) -> UNet2DConfig:
    """U-Net of latent diffusion on 64 x 64 latents: transformers over the text (or one token, the class)."""
    down = tuple("text" if one else "none" for one in text)
    return UNet2DConfig(
        side=64,
        channels_in=channels,
        channels_out=channels,
        widths=widths,
        blocks=(2,) * len(widths),
        down=down,
        up=down[::-1],
        middle="text",
        shrink=("convolution",) * len(widths),
        enlarge=("convolution",) * len(widths),
        heads=(heads,) * len(widths),
        depth=(1,) * len(widths),
        text_width=text_width,
        tokens=tokens,
        middle_groups=0,
        time_width=4 * widths[0],
    )


_DHARIWAL = "Dhariwal and Nichol, 2021, tables of compute and hyperparameters (their FLOPs are multiply-accumulates)"

PUBLISHED: dict[str, Published] = {
    "guided-diffusion-128": Published(
        title="Guided diffusion (ADM), ImageNet 128 x 128",
        build=unet2d,
        config=_guided(128, (256, 256, 512, 768, 1024), 1024, (4,) * 5),
        macs=307e9,
        parameters=421e6,
        source=_DHARIWAL,
    ),
    "guided-diffusion-256": Published(
        title="Guided diffusion (ADM), ImageNet 256 x 256",
        build=unet2d,
        config=_guided(256, (256, 256, 512, 512, 1024, 1024), 1024),
        macs=1120e9,
        parameters=554e6,
        source=_DHARIWAL,
    ),
    "guided-diffusion-512": Published(
        title="Guided diffusion (ADM), ImageNet 512 x 512",
        build=unet2d,
        config=_guided(512, (128, 256, 256, 512, 512, 1024, 1024), 1024),
        macs=1983e9,
        parameters=559e6,
        source=_DHARIWAL,
    ),
    "ldm-4": Published(
        title="LDM-4, ImageNet 256 x 256, 64 x 64 latents, the class as one token of 512 channels",
        build=unet2d,
        config=_latent((192, 384, 576, 960), (False, True, True, True), 1, 512, 1, 3),
        macs=99.82e9,
        parameters=400e6,
        source="MACs: Ma et al., DeepCache, 2024, table 1; parameters: Rombach et al., 2022",
        counted="weights",
    ),
    "sd15": Published(
        title="Stable Diffusion 1.x, 64 x 64 latents (512 x 512 pixels), 77 text tokens, one image without guidance",
        build=unet2d,
        config=_latent((320, 640, 1280, 1280), (True, True, True, False), 8, 768, 77, 4),
        macs=338.83e9,
        parameters=860e6,
        source="MACs: Ma et al., DeepCache, 2024, table 3; parameters: README of Stable Diffusion",
        counted="weights",
    ),
    "dit-xl-2": Published(
        title="DiT-XL/2, ImageNet 256 x 256, 32 x 32 latents",
        build=dit2d,
        config=DiT2DConfig(side=32),
        macs=118.64e9,
        parameters=675e6,
        source="Peebles and Xie, 2023 (their Gflops are multiply-accumulates)",
    ),
    "dit-xl-2-512": Published(
        title="DiT-XL/2, ImageNet 512 x 512, 64 x 64 latents",
        build=dit2d,
        config=DiT2DConfig(side=64),
        macs=524.60e9,
        parameters=675e6,
        source="Peebles and Xie, 2023 (their Gflops are multiply-accumulates)",
    ),
    "stdit-xl-2": Published(
        title="Open-Sora 1.0, STDiT-XL/2, 16 frames of 512 x 512 pixels",
        build=stdit,
        config=STDiTConfig(),
        parameters=724e6,
        source="Open-Sora 1.0, its report",
    ),
    "stdit3-xl-2": Published(
        title="Open-Sora 1.2, STDiT3-XL/2, 16 latent frames of 512 x 512 pixels",
        build=stdit,
        config=STDiTConfig(form="alternating", tokens=300),
        parameters=1.1e9,
        source="Open-Sora 1.2, its report",
    ),
}
"""Published networks by name."""


def network(name: str) -> Network:
    """Network of a name in `PUBLISHED`, for `Network.shapes` and `Network.macs`: its weights are not allocated.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    found = names.lookup("Published network", name, PUBLISHED)
    return found.build(found.config, unallocated, name)


def learnt(name: str) -> int:
    """Learnt values of a published network, biases and tables included: what its builder asks for."""
    found = names.lookup("Published network", name, PUBLISHED)
    asked: list[int] = []

    def count(parameter: str, shape: Shape) -> np.ndarray:
        asked.append(math.prod(shape))
        return unallocated(parameter, shape)

    found.build(found.config, count, name)
    return sum(asked)
