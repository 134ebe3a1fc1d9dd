"""Checkpoints of diffusers as networks: ``UNet2DModel``, ``UNet2DConditionModel``, DiT and Latte.

`load` reads a folder as ``save_pretrained`` writes it (``config.json`` and safetensors) with numpy alone, `convert` a
live torch model. Nothing is downloaded. Whatever would change the result and is not understood is refused by name: an
option of the configuration, a layer by the path of its module, a parameter that is missing, misshapen or left over.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from golden.common import names
from golden.diffusion.layers import Shape
from golden.diffusion.networks.builder import ACTIVATIONS, unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.latte import LatteConfig, latte
from golden.diffusion.networks.sources import Source
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d

__all__ = ["CLASSES", "Options", "build", "configuration", "convert", "load", "outline", "read"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""File of the weights; ``<it>.index.json`` instead, where they are spread over several files."""

TOKENS = 77
"""Text tokens of a U-Net unless told, those of CLIP."""


@dataclass(frozen=True)
class Options:
    """What is understood of the configuration of one class.

    Members
    -------
    read : mapping of str to value
        Options that are read, with diffusers' default.
    fixed : mapping of str to tuple
        Options that must have one of these values; the first one is diffusers' default.
    ignored : frozenset of str
        Options that do not change what a trained network computes in float32.
    former : mapping of str to tuple
        As `fixed`, of options that only configurations of older releases hold.
    """

    read: Mapping[str, Any]
    fixed: Mapping[str, tuple]
    ignored: frozenset[str]
    former: Mapping[str, tuple] = field(default_factory=dict)

    def values(self, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Every option that is read.

        Raises
        ------
        ValueError
            If an option is unknown or has a value that is not supported.
        """
        fixed = {**self.former, **self.fixed}
        for option, value in config.items():
            if option in fixed and value not in fixed[option]:
                allowed = " or ".join(repr(one) for one in fixed[option] if one is not ...)
                raise ValueError(f"Option {option!r} of {name} must be {allowed}, not {value!r}")
            known = option in self.read or option in fixed or option in self.ignored
            if not known and not option.startswith("_"):
                raise ValueError(f"Option {option!r} of {name} is not supported, whatever its value; it is {value!r}")
        for option, allowed in self.fixed.items():
            if option not in config and allowed[0] is Ellipsis:
                raise ValueError(f"Option {option!r} of {name} must be {allowed[1]!r}, not left out")
        return {option: config.get(option, default) for option, default in self.read.items()}


_UNET = {
    "sample_size": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "attention_head_dim": 8,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "time_embedding_dim": None,
}
_UNET_FIXED = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_scale_factor": (1,),
    "class_embed_type": (None,),
}
_UNET2D = Options(
    read={
        **_UNET,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "downsample_type": "conv",
        "upsample_type": "conv",
        "attn_norm_num_groups": None,
        "add_attention": True,
    },
    fixed=_UNET_FIXED,
    ignored=frozenset({"dropout", "num_train_timesteps"}),
)
_CONDITIONAL = Options(
    read={
        **_UNET,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1,
        "use_linear_projection": False,
    },
    fixed={
        **_UNET_FIXED,
        "only_cross_attention": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "num_attention_heads": (None,),
        "dual_cross_attention": (False,),
        "addition_embed_type": (None,),
        "addition_time_embed_dim": (None,),
        "resnet_skip_time_act": (False,),
        "resnet_out_scale_factor": (1.0,),
        "time_embedding_act_fn": (None,),
        "timestep_post_act": (None,),
        "time_cond_proj_dim": (None,),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "projection_class_embeddings_input_dim": (None,),
        "attention_type": ("default",),
        "class_embeddings_concat": (False,),
        "mid_block_only_cross_attention": (None, False),
        "cross_attention_norm": (None,),
        "reverse_transformer_layers_per_block": (None,),
    },
    ignored=frozenset({"dropout", "upcast_attention", "addition_embed_type_num_heads"}),
)
# Latte and DiT were once written as Transformer2DModel.
_FORMER = {
    "attention_type": ("default",),
    "double_self_attention": (False,),
    "num_vector_embeds": (None,),
    "only_cross_attention": (False,),
    "use_linear_projection": (False,),
}
_DIT = Options(
    read={
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "in_channels": 4,
        "out_channels": None,
        "num_layers": 28,
        "attention_bias": True,
        "sample_size": 32,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-5,
    },
    fixed={"norm_type": ("ada_norm_zero",)},
    ignored=frozenset({"dropout", "norm_num_groups", "upcast_attention"}),
    former={**_FORMER, "cross_attention_dim": (None,), "caption_channels": (None,)},
)
_OLD_DIT = Options(
    read={
        **_DIT.read,
        "attention_head_dim": 88,
        "in_channels": None,
        "num_layers": 1,
        "attention_bias": False,
        "sample_size": None,
        "patch_size": None,
        "activation_fn": "geglu",
        "num_embeds_ada_norm": None,
        "norm_elementwise_affine": True,
    },
    fixed={
        **_FORMER,
        "norm_type": (..., "ada_norm_zero"),
        "cross_attention_dim": (None,),
        "caption_channels": (None,),
        "interpolation_scale": (None, 1, 1.0),
        "use_additional_conditions": (None, False),
    },
    ignored=_DIT.ignored,
)
_LATTE = Options(
    read={
        "num_attention_heads": 16,
        "attention_head_dim": 88,
        "in_channels": None,
        "out_channels": None,
        "num_layers": 1,
        "cross_attention_dim": None,
        "attention_bias": False,
        "sample_size": 64,
        "patch_size": None,
        "activation_fn": "geglu",
        "norm_elementwise_affine": True,
        "norm_eps": 1e-5,
        "caption_channels": None,
        "video_length": 16,
    },
    fixed={"norm_type": (..., "ada_norm_single")},
    ignored=frozenset({"dropout", "num_embeds_ada_norm"}),
    former={**_FORMER, "norm_num_groups": (32, None), "upcast_attention": (False, True)},
)

# What follows each residual block, and how the level is left; None: as the configuration says.
_DOWN = {
    "DownBlock2D": ("none", "convolution"),
    "ResnetDownsampleBlock2D": ("none", "residual"),
    "AttnDownBlock2D": ("self", None),
    "CrossAttnDownBlock2D": ("text", "convolution"),
}
_UP = {
    "UpBlock2D": ("none", "convolution"),
    "ResnetUpsampleBlock2D": ("none", "residual"),
    "AttnUpBlock2D": ("self", None),
    "CrossAttnUpBlock2D": ("text", "convolution"),
}
_MIDDLE = {"UNetMidBlock2D": "self", "UNetMidBlock2DCrossAttn": "text"}
_RESAMPLE = {None: "convolution", "conv": "convolution", "resnet": "residual"}


def _choice(what: str, value: Any, choices: Mapping[Any, Any]) -> Any:
    if value not in choices:
        raise ValueError(f"{what} must be {' or '.join(map(str, choices))}, not {value}")
    return choices[value]


def _levels(option: str, value: Any, count: int) -> tuple[int, ...]:
    """One value for each level, of one for all of them or a list."""
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count or not all(isinstance(one, int) for one in values):
        raise ValueError(f"Option {option!r} must be an integer, or one for each of {count} levels, not {value!r}")
    return values


def _side(value: Any) -> int:
    if isinstance(value, list | tuple) and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise ValueError(f"Option 'sample_size' must be one integer (images are square), or give side, not {value!r}")
    return value


def _activation(value: str) -> str:
    value = "silu" if value == "swish" else value
    if value not in ACTIVATIONS:
        raise ValueError(f"Option 'act_fn' must be one of {', '.join(ACTIVATIONS)}, not {value!r}")
    return value


def _unet(options: dict[str, Any], conditional: bool, side: int | None, tokens: int | None) -> UNet2DConfig:
    widths = tuple(options["block_out_channels"])
    allowed = ("none", "text") if conditional else ("none", "self")
    sides = {}
    for word, table in (("down", _DOWN), ("up", _UP)):
        table = {kind: value for kind, value in table.items() if value[0] in allowed}
        types = options[f"{word}_block_types"]
        sides[word] = [_choice(f"Layer '{word}_blocks.{index}'", kind, table) for index, kind in enumerate(types)]
    if conditional:
        middle = {kind: value for kind, value in _MIDDLE.items() if value == "text"}
        heads = _levels("attention_head_dim", options["attention_head_dim"], len(widths))
        shrink = enlarge = "convolution"
        width = options["cross_attention_dim"]
        if isinstance(width, list | tuple) and len(set(width)) == 1:
            width = width[0]
        if not isinstance(width, int):
            raise ValueError(f"Option 'cross_attention_dim' must be one integer, not {width!r}")
    else:
        middle = {"UNetMidBlock2D": "self" if options["add_attention"] else "none"}
        heads = _levels("attention_head_dim", options["attention_head_dim"] or 0, len(widths))
        attends = [down == "self" for down, _ in sides["down"]]
        attends = [one or up == "self" for one, (up, _) in zip(attends, reversed(sides["up"]), strict=False)]
        attends[-1:] = [attends[-1] or options["add_attention"]]
        for wide, one, attended in zip(widths, heads, attends, strict=False):
            if attended and one and wide % one:
                raise ValueError(f"Option 'attention_head_dim' must divide the width {wide}, not be {one}")
        heads = tuple(max(wide // one, 1) if one else 1 for wide, one in zip(widths, heads, strict=True))
        shrink = _choice("Option 'downsample_type'", options["downsample_type"], _RESAMPLE)
        enlarge = _choice("Option 'upsample_type'", options["upsample_type"], _RESAMPLE)
        width = 0
    kind = options["mid_block_type"]
    outer = _activation(options["act_fn"]) if conditional else "silu"
    groups = options["norm_num_groups"]
    if conditional:
        middle_groups = 0
    else:
        middle_groups = groups if options["resnet_time_scale_shift"] == "default" else 0
        middle_groups = options["attn_norm_num_groups"] or middle_groups
    time_norms = {name: name for name in ("default", "scale_shift")}
    return UNet2DConfig(
        side=_side(options["sample_size"] if side is None else side),
        channels_in=options["in_channels"],
        channels_out=options["out_channels"],
        widths=widths,
        blocks=_levels("layers_per_block", options["layers_per_block"], len(widths)),
        down=tuple(attention for attention, _ in sides["down"]),
        up=tuple(attention for attention, _ in sides["up"]),
        middle=None if kind is None else _choice("Layer 'mid_block'", kind, middle),
        shrink=tuple(how or shrink for _, how in sides["down"]),
        enlarge=tuple(how or enlarge for _, how in sides["up"]),
        heads=heads,
        depth=_levels("transformer_layers_per_block", options.get("transformer_layers_per_block", 1), len(widths)),
        text_width=width,
        tokens=(TOKENS if tokens is None else tokens) if conditional else 0,
        linear_projection=options.get("use_linear_projection", False),
        classes=options["num_class_embeds"] or 0,
        groups=groups,
        middle_groups=middle_groups,
        epsilon=options["norm_eps"],
        activation=_activation(options["act_fn"]),
        outer_activation=outer,
        time_norm=_choice("Option 'resnet_time_scale_shift'", options["resnet_time_scale_shift"], time_norms),
        time_width=options["time_embedding_dim"] or 4 * widths[0],
        frequency_shift=float(options["freq_shift"]),
        sines_first=not options["flip_sin_to_cos"],
        corner=_choice("Option 'downsample_padding'", options["downsample_padding"], {1: False, 0: True}),
    )


def _dit(options: dict[str, Any], shared: bool) -> DiT2DConfig:
    side = _side(options["sample_size"])
    return DiT2DConfig(
        side=side,
        channels_in=options["in_channels"],
        channels_out=options["out_channels"] or options["in_channels"],
        patch=options["patch_size"],
        width=options["num_attention_heads"] * options["attention_head_dim"],
        heads=options["num_attention_heads"],
        depth=options["num_layers"],
        classes=options["num_embeds_ada_norm"],
        activation=options["activation_fn"],
        bias=options["attention_bias"],
        epsilon=options["norm_eps"],
        affine=options["norm_elementwise_affine"],
        shared=shared,
    )


def _latte(options: dict[str, Any], tokens: int | None) -> LatteConfig:
    width = options["num_attention_heads"] * options["attention_head_dim"]
    if options["cross_attention_dim"] not in (None, width):
        found = options["cross_attention_dim"]
        raise ValueError(f"Option 'cross_attention_dim' must be the width {width} or None, not {found!r}")
    return LatteConfig(
        frames=options["video_length"],
        side=_side(options["sample_size"]),
        channels_in=options["in_channels"],
        channels_out=options["out_channels"] or options["in_channels"],
        patch=options["patch_size"],
        width=width,
        heads=options["num_attention_heads"],
        depth=options["num_layers"],
        text_width=options["caption_channels"],
        tokens=LatteConfig.tokens if tokens is None else tokens,
        cross=options["cross_attention_dim"] is not None,
        activation=options["activation_fn"],
        bias=options["attention_bias"],
        epsilon=options["norm_eps"],
        affine=options["norm_elementwise_affine"],
    )


CLASSES: dict[str, Options] = {
    "UNet2DModel": _UNET2D,
    "UNet2DConditionModel": _CONDITIONAL,
    "DiTTransformer2DModel": _DIT,
    "Transformer2DModel": _OLD_DIT,
    "LatteTransformer3DModel": _LATTE,
}
"""Classes of diffusers that are read; of ``Transformer2DModel``, which old checkpoints name, DiT only."""


class _Checkpoint:
    """Parameters by name, each to be taken; remembers what was."""

    def __init__(self, parameters: Mapping[str, np.ndarray]):
        self.parameters = parameters
        self.taken: set[str] = set()

    def __call__(self, name: str, shape: Shape) -> np.ndarray:
        name = name.removesuffix(".table")
        if name not in self.parameters:
            raise ValueError(f"Checkpoint must contain the parameter {name!r}; it is missing")
        found = np.asarray(self.parameters[name])
        # the kernel of a patch embedding is a matrix here, a table of vectors lies flat
        flat = name.endswith(("scale_shift_table", "pos_embed.proj.weight")) and found.size == np.prod(shape)
        if found.shape != shape and not flat:
            raise ValueError(f"Parameter {name!r} must have the shape {shape}, not {found.shape}")
        value = found.astype(np.float32).reshape(shape)
        if not np.isfinite(value).all():
            raise ValueError(f"Parameter {name!r} must be finite, not {value[~np.isfinite(value)][0]}")
        self.taken.add(name)
        return value


_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_EMBEDDER = re.compile(r"transformer_blocks\.(\d+)\.norm1\.emb\.(.*)")


def _renamed(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Attention parameters of old checkpoints under the names of today."""
    old = re.compile(r"(.*attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
    found = {}
    for name, value in parameters.items():
        match = old.fullmatch(name)
        found[f"{match[1]}.{_RENAMED[match[2]]}.{match[3]}" if match else name] = value
    return found


def _copies(parameters: Mapping[str, np.ndarray]) -> set[str]:
    """Embedders of the later blocks of a DiT, if each is a copy of the first block's, as in converted checkpoints."""
    found = set()
    for name, value in parameters.items():
        match = _EMBEDDER.fullmatch(name)
        if match and match[1] != "0":
            first = parameters.get(f"transformer_blocks.0.norm1.emb.{match[2]}")
            if first is None or not np.array_equal(first, value):
                return set()
            found.add(name)
    return found


def build(
    config: Mapping[str, Any],
    parameters: Mapping[str, np.ndarray],
    *,
    side: int | None = None,
    tokens: int | None = None,
) -> Network:
    """Network of a configuration and its parameters.

    Parameters
    ----------
    config : mapping
        Options of diffusers, with the class under ``_class_name``.
    parameters : mapping of str to array
        By the name of the state dictionary.
    side : int, optional
        Height and width of the image, if not ``sample_size``; U-Nets only.
    tokens : int, optional
        Text tokens: 77 for a U-Net, 120 for Latte unless told. There is no mask: every token counts.

    Raises
    ------
    ValueError
        Naming the option, layer or parameter that is not supported, missing, misshapen or left over.
    """
    parameters = _renamed(parameters)
    copies = _copies(parameters)
    checkpoint = _Checkpoint(parameters)
    network = _network(config, checkpoint, bool(copies), side, tokens)
    _check_tables(network, parameters, checkpoint)
    _check_left(network, sorted(set(parameters) - checkpoint.taken - copies))
    return network


def outline(config: Mapping[str, Any], *, side: int | None = None, tokens: int | None = None) -> Network:
    """Network of a configuration for `Network.shapes` and `Network.macs`: weights are not allocated.

    Arguments and errors as `build`; a DiT embeds time and label once.
    """
    return _network(config, unallocated, True, side, tokens)


def _network(config: Mapping[str, Any], source: Source, shared: bool, side: int | None, tokens: int | None) -> Network:
    kind = config.get("_class_name")
    options = names.lookup("Model class", str(kind), CLASSES).values(kind, config)
    if side is not None and not kind.startswith("UNet2D"):
        raise ValueError(f"Side of {kind} must be its sample_size, for the table of positions, not {side}")
    if kind in ("UNet2DModel", "UNet2DConditionModel"):
        return unet2d(_unet(options, kind == "UNet2DConditionModel", side, tokens), source, kind)
    if kind == "LatteTransformer3DModel":
        return latte(_latte(options, tokens), source, kind)
    if kind == "Transformer2DModel" and _side(options["sample_size"]) >= 128:
        raise ValueError(f"Option 'sample_size' of {kind} must be below 128, not {options['sample_size']}")
    return dit2d(_dit(options, shared or options["num_layers"] == 1), source, kind)


def _check_tables(network: Network, parameters: Mapping[str, np.ndarray], checkpoint: _Checkpoint) -> None:
    """Tables of positions, which old checkpoints store, must be those that are computed."""
    for stored, name in (("pos_embed.pos_embed", "pos_embed"), ("temp_pos_embed", "temp_pos_embed")):
        if stored in parameters and name in network.by_name:
            expected = network.by_name[name].parameters()["table"]
            found = np.asarray(parameters[stored], np.float32)
            if found.shape[1:] != expected.shape or not np.allclose(found, expected, atol=1e-3):
                raise ValueError(f"Parameter {stored!r} must be the sinusoidal table of positions, not another one")
            checkpoint.taken.add(stored)


def _check_left(network: Network, left: list[str]) -> None:
    for name in left:
        module = name.rpartition(".")[0]
        if module in network.by_name:
            raise ValueError(f"Parameter {name!r} is left over: layer {module!r} has none of this name")
        raise ValueError(f"Layer {module or name!r} is not supported: its parameter {name!r} is left over")


def configuration(folder: Path) -> dict[str, Any]:
    """Configuration of a folder as ``save_pretrained`` writes it; errors as `read`."""
    return _json(Path(folder) / "config.json")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configuration and parameters of a folder as ``save_pretrained`` writes it.

    Raises
    ------
    ValueError
        If a file is not what it should be.
    OSError
        If it cannot be read.
    """
    folder = Path(folder)
    config = configuration(folder)
    index = folder / f"{WEIGHTS}.index.json"
    files = [WEIGHTS]
    if not (folder / WEIGHTS).exists() and index.exists():
        files = sorted(set(_json(index).get("weight_map", {}).values()))
    parameters: dict[str, np.ndarray] = {}
    for file in files:
        path = folder / file
        if not path.exists():
            raise FileNotFoundError(f"Weights must be in {path}, which does not exist")
        try:
            with safetensors.safe_open(path, "np") as stored:
                parameters |= {name: stored.get_tensor(name) for name in stored.keys()}
        except (safetensors.SafetensorError, TypeError) as error:
            raise ValueError(
                f"Weights must be a safetensors file of floats numpy knows, not {path}: {error}"
            ) from error
    return config, parameters


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Configuration must be JSON, not {path}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Configuration must be a mapping, not {type(found).__name__} in {path}")
    return found


def load(folder: Path, *, side: int | None = None, tokens: int | None = None) -> Network:
    """Network of a folder as ``save_pretrained`` writes it; arguments and errors as `build` and `read`."""
    config, parameters = read(folder)
    return build(config, parameters, side=side, tokens=tokens)


_MODULES = {"Conv2d", "Linear", "Embedding", "GroupNorm", "LayerNorm", "SiLU", "ReLU", "GELU", "Dropout", "AvgPool2d"}
_MODULES |= {"Timesteps", "Upsample2D", "ModuleList"}


def convert(model: Any, *, side: int | None = None, tokens: int | None = None) -> Network:
    """Network of a live torch model of diffusers; arguments and errors as `build`.

    Raises
    ------
    ValueError
        Also if a module is of a kind that none of the supported models has, by its path.
    """
    for name, module in model.named_modules():
        kind = type(module).__name__
        if name and not any(True for _ in module.children()) and kind not in _MODULES:
            raise ValueError(f"Layer {name!r} is not supported: it is a {kind}")
    config = {**model.config, "_class_name": type(model).__name__}
    parameters = {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    return build(config, parameters, side=side, tokens=tokens)
