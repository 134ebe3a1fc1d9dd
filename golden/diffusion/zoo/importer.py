"""Checkpoints of diffusers as networks: ``UNet2DModel``, ``UNet2DConditionModel``, DiT and Latte.

`load` reads a folder as ``save_pretrained`` writes it (``config.json`` and safetensors) with numpy alone, `convert` a
live torch model. Nothing is downloaded. Whatever would change the result and is not understood is refused by name: an
option of the configuration, a layer by the path of its module, a parameter that is missing, misshapen or left over.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from golden.common import names
from golden.common.checked import Checked, Count, Positive, Rule, check, read_json
from golden.diffusion.layers import Shape
from golden.diffusion.networks.builder import FeedForward, unallocated
from golden.diffusion.networks.dit2d import DiT2DConfig, dit2d
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.latte import LatteConfig, latte
from golden.diffusion.networks.sources import Source
from golden.diffusion.networks.unet2d import UNet2DConfig, unet2d
from golden.diffusion.zoo.tensors import read_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""File of the weights; ``<it>.index.json`` instead, where they are spread over several files."""

TOKENS = 77
"""Text tokens of a U-Net unless told, those of CLIP."""


class Options(Checked):
    """What is understood of the configuration of one class of diffusers, with its defaults.

    The annotation of an option says which values are supported; `Any` stands for options that do not change what a
    trained network computes in float32. An option without a default must be given.

    Members
    -------
    former : frozenset of str
        Options that only configurations of older releases hold.
    """

    former: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Options of a configuration, without those whose names begin with an underscore.

        Raises
        ------
        TypeError, ValueError
            If an option is unknown, has a value that is not supported, or must be given and is not.
        """
        given = {option: value for option, value in config.items() if not option.startswith("_")}
        known = {field.name for field in dataclasses.fields(cls)}
        for option, value in given.items():
            if option not in known:
                raise ValueError(f"{cls.called(option)} is not supported, whatever its value; it is {value!r}")
        return cls.of(given)


Widths = Annotated[tuple[Count, ...], Rule("of at least one level", bool)]
Levels = Count | tuple[Count, ...]
"""One value for all levels, or one for each."""


@dataclass(frozen=True, kw_only=True)
class _UNet(Options):
    """What both classes of U-Nets share."""

    sample_size: Levels | None = None
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    block_out_channels: Widths = (224, 448, 672, 896)
    layers_per_block: Levels = 2
    downsample_padding: Literal[1, 0] = 1
    act_fn: Literal["silu", "swish", "relu", "gelu"] = "silu"
    norm_num_groups: Count = 32
    norm_eps: Positive = 1e-5
    attention_head_dim: Levels | None = 8
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    num_class_embeds: Count | None = None
    time_embedding_dim: Count | None = None
    dropout: Any = 0.0
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    mid_block_scale_factor: Literal[1] = 1
    class_embed_type: Literal[None] = None

    def check_together(self) -> None:
        """Every list has as many values as there are levels."""
        levels = len(self.block_out_channels)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            listed = isinstance(value, tuple) and field.name not in ("sample_size", "cross_attention_dim")
            if listed and len(value) != levels:
                raise ValueError(f"{self.called(field.name)} must be of {levels} levels, not {value!r}")

    def levels(self, option: str) -> tuple[int, ...]:
        """Value of an option at each level."""
        value = getattr(self, option)
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)

    @property
    def activation(self) -> str:
        """Activation by our name."""
        return "silu" if self.act_fn == "swish" else self.act_fn


_Down = Literal["DownBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D"]
_Up = Literal["UpBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D"]


@dataclass(frozen=True, kw_only=True)
class _UNet2D(_UNet, label="UNet2DModel option {}"):
    in_channels: Count = 3
    out_channels: Count = 3
    down_block_types: tuple[_Down, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: Literal["UNetMidBlock2D", None] = "UNetMidBlock2D"
    up_block_types: tuple[_Up, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    downsample_type: Literal["conv", "resnet", None] = "conv"
    upsample_type: Literal["conv", "resnet", None] = "conv"
    attn_norm_num_groups: Count | None = None
    add_attention: bool = True
    num_train_timesteps: Any = None


_TextDown = Literal["DownBlock2D", "ResnetDownsampleBlock2D", "CrossAttnDownBlock2D"]
_TextUp = Literal["UpBlock2D", "ResnetUpsampleBlock2D", "CrossAttnUpBlock2D"]


@dataclass(frozen=True, kw_only=True)
class _Conditional(_UNet, label="UNet2DConditionModel option {}"):
    in_channels: Count = 4
    out_channels: Count = 4
    down_block_types: tuple[_TextDown, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: Literal["UNetMidBlock2DCrossAttn", None] = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[_TextUp, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: Widths = (320, 640, 1280, 1280)
    attention_head_dim: Levels = 8
    cross_attention_dim: Levels = 1280
    transformer_layers_per_block: Levels = 1
    use_linear_projection: bool = False
    upcast_attention: Any = False
    addition_embed_type_num_heads: Any = 64
    only_cross_attention: Literal[False] | tuple[Literal[False], ...] = False
    encoder_hid_dim: Literal[None] = None
    encoder_hid_dim_type: Literal[None] = None
    num_attention_heads: Literal[None] = None
    dual_cross_attention: Literal[False] = False
    addition_embed_type: Literal[None] = None
    addition_time_embed_dim: Literal[None] = None
    resnet_skip_time_act: Literal[False] = False
    resnet_out_scale_factor: Literal[1] = 1.0
    time_embedding_act_fn: Literal[None] = None
    timestep_post_act: Literal[None] = None
    time_cond_proj_dim: Literal[None] = None
    conv_in_kernel: Literal[3] = 3
    conv_out_kernel: Literal[3] = 3
    projection_class_embeddings_input_dim: Literal[None] = None
    attention_type: Literal["default"] = "default"
    class_embeddings_concat: Literal[False] = False
    mid_block_only_cross_attention: Literal[None, False] = None
    cross_attention_norm: Literal[None] = None
    reverse_transformer_layers_per_block: Literal[None] = None


@dataclass(frozen=True, kw_only=True)
class _Transformer(Options):
    """What the classes of transformers share; Latte and DiT were once written as ``Transformer2DModel``."""

    num_attention_heads: Count = 16
    attention_head_dim: Count = 88
    in_channels: Count
    out_channels: Count | None = None
    num_layers: Count = 1
    attention_bias: bool = False
    sample_size: Levels
    patch_size: Count
    activation_fn: FeedForward = "geglu"
    norm_elementwise_affine: bool = True
    norm_eps: Positive = 1e-5
    dropout: Any = 0.0
    attention_type: Literal["default"] = "default"
    double_self_attention: Literal[False] = False
    num_vector_embeds: Literal[None] = None
    only_cross_attention: Literal[False] = False
    use_linear_projection: Literal[False] = False

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.num_attention_heads * self.attention_head_dim


_FORMER = {"attention_type", "double_self_attention", "num_vector_embeds"}
_FORMER |= {"only_cross_attention", "use_linear_projection"}


@dataclass(frozen=True, kw_only=True)
class _OldDiT(_Transformer, label="Transformer2DModel option {}"):
    num_embeds_ada_norm: Count
    norm_type: Literal["ada_norm_zero"]
    norm_num_groups: Any = 32
    upcast_attention: Any = False
    cross_attention_dim: Literal[None] = None
    caption_channels: Literal[None] = None
    interpolation_scale: Literal[None, 1] = None
    use_additional_conditions: Literal[None, False] = None


@dataclass(frozen=True, kw_only=True)
class _DiT(_Transformer, label="DiTTransformer2DModel option {}"):
    attention_head_dim: Count = 72
    in_channels: Count = 4
    num_layers: Count = 28
    attention_bias: bool = True
    sample_size: Levels = 32
    patch_size: Count = 2
    activation_fn: FeedForward = "gelu-approximate"
    num_embeds_ada_norm: Count = 1000
    norm_elementwise_affine: bool = False
    norm_type: Literal["ada_norm_zero"] = "ada_norm_zero"
    norm_num_groups: Any = 32
    upcast_attention: Any = False
    cross_attention_dim: Literal[None] = None
    caption_channels: Literal[None] = None

    former: ClassVar[frozenset[str]] = frozenset(_FORMER | {"cross_attention_dim", "caption_channels"})


@dataclass(frozen=True, kw_only=True)
class _Latte(_Transformer, label="LatteTransformer3DModel option {}"):
    cross_attention_dim: Count | None = None
    sample_size: Levels = 64
    caption_channels: Count
    video_length: Count = 16
    norm_type: Literal["ada_norm_single"]
    num_embeds_ada_norm: Any = None
    norm_num_groups: Literal[32, None] = 32
    upcast_attention: bool = False

    former: ClassVar[frozenset[str]] = frozenset(_FORMER | {"norm_num_groups", "upcast_attention"})

    def check_together(self) -> None:
        """Attention between frames is as wide as that within them."""
        if self.cross_attention_dim not in (None, self.width):
            what = self.called("cross_attention_dim")
            raise ValueError(f"{what} must be the width {self.width} or None, not {self.cross_attention_dim}")


# What follows each residual block, and how the level is left; None: as the configuration says.
_BLOCKS = {
    "DownBlock2D": ("none", "convolution"),
    "ResnetDownsampleBlock2D": ("none", "residual"),
    "AttnDownBlock2D": ("self", None),
    "CrossAttnDownBlock2D": ("text", "convolution"),
    "UpBlock2D": ("none", "convolution"),
    "ResnetUpsampleBlock2D": ("none", "residual"),
    "AttnUpBlock2D": ("self", None),
    "CrossAttnUpBlock2D": ("text", "convolution"),
}
_RESAMPLE = {None: "convolution", "conv": "convolution", "resnet": "residual"}


def _one(options: Options, option: str) -> int:
    """An option that may be a list, all of whose values are one."""
    value = getattr(options, option)
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise ValueError(f"{options.called(option)} must be one integer, not {value!r}")
    return value


def _side(options: Options, given: int | None = None) -> int:
    if given is None and options.sample_size is None:
        raise ValueError(f"{options.called('sample_size')} must be one integer, or side be given, not None")
    return _one(options, "sample_size") if given is None else given


def _unet(options: _UNet2D | _Conditional, side: int | None, tokens: int | None) -> UNet2DConfig:
    widths = options.block_out_channels
    down = [_BLOCKS[kind] for kind in options.down_block_types]
    up = [_BLOCKS[kind] for kind in options.up_block_types]
    if isinstance(options, _Conditional):
        own = {
            "middle": options.mid_block_type and "text",
            "heads": options.levels("attention_head_dim"),
            "depth": options.levels("transformer_layers_per_block"),
            "text_width": _one(options, "cross_attention_dim"),
            "tokens": TOKENS if tokens is None else tokens,
            "linear_projection": options.use_linear_projection,
            "middle_groups": 0,
            "outer_activation": options.activation,
        }
        shrink = enlarge = "convolution"
    else:
        middle_groups = options.norm_num_groups if options.resnet_time_scale_shift == "default" else 0
        own = {
            "middle": options.mid_block_type and ("self" if options.add_attention else "none"),
            "heads": _heads(options, [one == "self" for one, _ in down], [one == "self" for one, _ in up]),
            "depth": (1,) * len(widths),
            "middle_groups": options.attn_norm_num_groups or middle_groups,
            "outer_activation": "silu",
        }
        shrink, enlarge = _RESAMPLE[options.downsample_type], _RESAMPLE[options.upsample_type]
    return UNet2DConfig(
        side=_side(options, side),
        channels_in=options.in_channels,
        channels_out=options.out_channels,
        widths=widths,
        blocks=options.levels("layers_per_block"),
        down=tuple(attention for attention, _ in down),
        up=tuple(attention for attention, _ in up),
        shrink=tuple(how or shrink for _, how in down),
        enlarge=tuple(how or enlarge for _, how in up),
        classes=options.num_class_embeds or 0,
        groups=options.norm_num_groups,
        epsilon=options.norm_eps,
        activation=options.activation,
        time_norm=options.resnet_time_scale_shift,
        time_width=options.time_embedding_dim or 4 * widths[0],
        frequency_shift=float(options.freq_shift),
        sines_first=not options.flip_sin_to_cos,
        corner=options.downsample_padding == 0,
        **own,
    )


def _heads(options: _UNet2D, down: list[bool], up: list[bool]) -> tuple[int, ...]:
    """Heads of each level, of channels of a head; `down` and `up` say which blocks attend."""
    attends = [one or other for one, other in zip(down, reversed(up), strict=True)]
    attends[-1] = attends[-1] or options.add_attention
    found = []
    for width, channels, attended in zip(
        options.block_out_channels, options.levels("attention_head_dim"), attends, strict=True
    ):
        if attended and channels and width % channels:
            what = options.called("attention_head_dim")
            raise ValueError(f"{what} must divide the width {width}, not be {channels}")
        found.append(max(width // channels, 1) if channels else 1)
    return tuple(found)


def _dit(options: _DiT | _OldDiT, shared: bool) -> DiT2DConfig:
    return DiT2DConfig(
        side=_side(options),
        channels_in=options.in_channels,
        channels_out=options.out_channels or options.in_channels,
        patch=options.patch_size,
        width=options.width,
        heads=options.num_attention_heads,
        depth=options.num_layers,
        classes=options.num_embeds_ada_norm,
        activation=options.activation_fn,
        bias=options.attention_bias,
        epsilon=options.norm_eps,
        affine=options.norm_elementwise_affine,
        shared=shared,
    )


def _latte(options: _Latte, tokens: int | None) -> LatteConfig:
    return LatteConfig(
        frames=options.video_length,
        side=_side(options),
        channels_in=options.in_channels,
        channels_out=options.out_channels or options.in_channels,
        patch=options.patch_size,
        width=options.width,
        heads=options.num_attention_heads,
        depth=options.num_layers,
        text_width=options.caption_channels,
        tokens=LatteConfig.tokens if tokens is None else tokens,
        cross=options.cross_attention_dim is not None,
        activation=options.activation_fn,
        bias=options.attention_bias,
        epsilon=options.norm_eps,
        affine=options.norm_elementwise_affine,
    )


CLASSES: dict[str, type[Options]] = {
    "UNet2DModel": _UNet2D,
    "UNet2DConditionModel": _Conditional,
    "DiTTransformer2DModel": _DiT,
    "Transformer2DModel": _OldDiT,
    "LatteTransformer3DModel": _Latte,
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
        if name.endswith("pos_embed.proj.weight") and found.ndim == 4:
            # the kernel of a patch embedding is a matrix of tokens here, which hold their channels last
            found = found.transpose(0, 2, 3, 1).reshape(len(found), -1)
        # a table of vectors lies flat
        flat = name.endswith("scale_shift_table") and found.size == np.prod(shape)
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


def _halved(config: Mapping[str, Any], parameters: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Parameters of a transformer's last layer, with all of the prediction before all of its variance.

    Diffusers has both, channel by channel, in each pixel of a patch.
    """
    channels, outputs, patch = (config.get(name) for name in ("in_channels", "out_channels", "patch_size"))
    if not isinstance(channels, int) or outputs != 2 * channels or not isinstance(patch, int):
        return parameters
    found = dict(parameters)
    for name in ("proj_out", "proj_out_2"):
        for part in (f"{name}.weight", f"{name}.bias"):
            if part in found and len(found[part]) == outputs * patch**2:
                rows = np.asarray(found[part]).reshape(patch**2, 2, channels, -1).swapaxes(0, 1)
                found[part] = rows.reshape(np.shape(found[part]))
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
    TypeError, ValueError
        Naming the option, layer or parameter that is not supported, missing, misshapen or left over.
    """
    parameters = _halved(config, _renamed(parameters))
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
    options = names.lookup("Model class", str(kind), CLASSES).read(config)
    if side is not None and not kind.startswith("UNet2D"):
        raise ValueError(f"Side of {kind} must be its sample_size, for the table of positions, not {side}")
    if isinstance(options, _UNet):
        return unet2d(_unet(options, side, tokens), source, kind)
    if isinstance(options, _Latte):
        return latte(_latte(options, tokens), source, kind)
    if isinstance(options, _OldDiT) and _side(options) >= 128:
        raise ValueError(f"{options.called('sample_size')} must be below 128, not {options.sample_size}")
    return dit2d(_dit(options, shared or options.num_layers == 1), source, kind)


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
    path = Path(folder) / "config.json"
    return check(f"Configuration {str(path)!r}", read_json("Configuration", path), Mapping[str, Any])


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Configuration and parameters of a folder as ``save_pretrained`` writes it.

    Raises
    ------
    TypeError, ValueError
        If a file is not what it should be.
    OSError
        If it cannot be read.
    """
    folder = Path(folder)
    config = configuration(folder)
    parameters: dict[str, np.ndarray] = {}
    for file in _files(folder):
        parameters |= read_tensors(folder / file)[1]
    return config, parameters


_FileName = Annotated[str, Rule("a file in the same folder", lambda name: Path(name).name == name)]


def _files(folder: Path) -> list[str]:
    """Names of the files of the weights."""
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if index.exists():
        found = check(f"Index {str(index)!r}", read_json("Index of weights", index), Mapping[str, Any])
        table = check(f"weight_map of {str(index)!r}", found.get("weight_map"), Mapping[str, _FileName])
        return sorted(set(table.values()))
    others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".safetensors", ".pt", ".pth"))
    found = f"; found {', '.join(others)}, which `save_pretrained` of diffusers can convert" if others else ""
    raise FileNotFoundError(f"Weights must be in {str(folder / WEIGHTS)!r}, which does not exist{found}")


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
    TypeError
        If the model is none of diffusers.
    ValueError
        Also if a module is of a kind that none of the supported models has, by its path.
    """
    if not isinstance(getattr(model, "config", None), Mapping):
        raise TypeError(
            f"Model must be of diffusers, with a config, not {type(model).__name__}: "
            "docs/own-network.md says how to bring another one over"
        )
    for name, module in model.named_modules():
        kind = type(module).__name__
        if name and not any(True for _ in module.children()) and kind not in _MODULES:
            raise ValueError(f"Layer {name!r} is not supported: it is a {kind}")
    config = {**model.config, "_class_name": type(model).__name__}
    parameters = {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    return build(config, parameters, side=side, tokens=tokens)
