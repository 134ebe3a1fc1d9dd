"""Small random models of diffusers: ``python -m tests.golden.diffusion.zoo.diffusers_cases`` records one of each class.

A recorded case is a folder as ``save_pretrained`` writes it (weights in FP16) and ``expected.npz``: the inputs, and the
outputs of torch for every module whose name and number of elements are those of a layer. The tests read it with numpy.
"""

import json
import re
from pathlib import Path

import numpy as np

BLOCK = re.compile(
    r"(down_blocks|mid_block|up_blocks)[\d.]*\.(resnets|attentions)\.0|(temporal_)?transformer_blocks\.\d+"
)
RECORDED = Path(__file__).parent / "recorded"

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 12),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 6,
}
TEXT = {
    **UNET,
    "block_out_channels": (8, 8),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8, "num_embeds_ada_norm": 5}
LATTE = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "cross_attention_dim": 16,
    "attention_bias": True,
    "sample_size": 8,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 12,
    "video_length": 3,
}

CASES: dict[str, tuple[str, dict]] = {
    "unet": ("UNet2DModel", {**UNET, "layers_per_block": 2, "attention_head_dim": 4}),
    "unet_of_ddpm": (
        "UNet2DModel",
        {**UNET, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
        | {"attention_head_dim": None, "norm_eps": 1e-6},
    ),
    "unet_of_guided_diffusion": (
        "UNet2DModel",
        {
            **UNET,
            "block_out_channels": (8, 8, 8),
            "out_channels": 6,
            "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "resnet_time_scale_shift": "scale_shift",
            "attn_norm_num_groups": 4,
            "attention_head_dim": 4,
            "num_class_embeds": 5,
            "time_embedding_dim": 12,
        },
    ),
    "unet_without_attention": (
        "UNet2DModel",
        {**UNET, "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        | {"add_attention": False, "act_fn": "relu"},
    ),
    "unet_without_middle": ("UNet2DModel", {**UNET, "mid_block_type": None, "act_fn": "gelu"}),
    "unet_unnormed_middle": ("UNet2DModel", {**UNET, "resnet_time_scale_shift": "scale_shift"}),
    "text": ("UNet2DConditionModel", TEXT),
    "text_of_stable_diffusion": (
        "UNet2DConditionModel",
        {
            **TEXT,
            "block_out_channels": (8, 16, 24),
            "layers_per_block": 2,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": (2, 4, 3),
            "use_linear_projection": True,
            "transformer_layers_per_block": (2, 1, 1),
            "num_class_embeds": 5,
            "upcast_attention": True,
        },
    ),
    "text_in_uneven_blocks": (
        "UNet2DConditionModel",
        {**TEXT, "layers_per_block": (2, 1), "resnet_time_scale_shift": "scale_shift", "act_fn": "relu"},
    ),
    "dit": ("DiTTransformer2DModel", DIT),
    "dit_of_other_options": (
        "DiTTransformer2DModel",
        {**DIT, "activation_fn": "geglu", "attention_bias": False, "norm_elementwise_affine": True}
        | {"out_channels": 8, "patch_size": 4},
    ),
    "latte": ("LatteTransformer3DModel", LATTE),
    "latte_of_one_frame": (
        "LatteTransformer3DModel",
        {**LATTE, "video_length": 1, "cross_attention_dim": None, "norm_elementwise_affine": True}
        | {"activation_fn": "gelu", "attention_bias": False},
    ),
}
"""Class and configuration of every case."""

SHIPPED = ("unet_of_guided_diffusion", "unet_of_ddpm", "text", "dit", "latte")
"""The cases that are recorded."""


def tokens(kind: str) -> int | None:
    """Text tokens of a case."""
    return 7 if kind in ("UNet2DConditionModel", "LatteTransformer3DModel") else None


def model(name: str, seed: int = 0):
    """Torch model of a case with random parameters that FP16 holds; no part is as an untrained network's (0 or 1)."""
    import diffusers
    import torch

    torch.manual_seed(seed)
    kind, config = CASES[name]
    found = getattr(diffusers, kind)(**config).eval().requires_grad_(False)
    for parameter_name, parameter in found.named_parameters():
        around = 1.0 if "norm" in parameter_name and parameter.ndim == 1 and "weight" in parameter_name else 0.0
        spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_((around + spread * torch.randn_like(parameter)).half().float())
    return found


def outputs(found, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output of every module of a torch model that is called once and gives one tensor; ``""`` is the model's own."""
    import torch

    recorded: dict[str, list] = {}
    hooks = []
    for path, module in found.named_modules():

        def keep(_module, _inputs, output, path=path):
            output = getattr(output, "sample", output)
            output = output[0] if isinstance(output, tuple) and len(output) == 1 else output
            if torch.is_tensor(output):
                recorded.setdefault(path, []).append(output.numpy().copy())

        hooks.append(module.register_forward_hook(keep))
    words = {"timestep": "timestep", "label": "class_labels", "text": "encoder_hidden_states"}
    first, *rest = inputs.items()
    with torch.no_grad():
        found(torch.tensor(first[1]), **{words[name]: torch.tensor(value) for name, value in rest})
    for hook in hooks:
        hook.remove()
    return {path: values[0] for path, values in recorded.items() if len(values) == 1}


def inputs(shapes: dict[str, tuple[int, ...]], seed: int = 1) -> dict[str, np.ndarray]:
    """Random inputs of a network, a batch of 2."""
    rng = np.random.default_rng(seed)
    found = {name: rng.standard_normal((2, *shape)).astype(np.float32) for name, shape in shapes.items()}
    found["timestep"] = np.array([37, 412])
    if "label" in shapes:
        found["label"] = np.array([3, 1])
    return found


def record(name: str) -> None:
    """Write one recorded case."""
    from golden.diffusion.networks import Recorder
    from golden.diffusion.zoo import importer

    found = model(name)
    network = importer.convert(found, tokens=tokens(CASES[name][0]))
    given = inputs(network.inputs)
    expected = outputs(found, given)
    recorder = Recorder()
    network(*given.values(), executor=recorder)
    last = network.layers[-1].name
    kept = {"outputs/" + last: expected[""]}
    for path, seen in recorder.records.items():
        # whole blocks are enough of a trace; the rest is checked where torch is at hand
        if BLOCK.fullmatch(path) and path in expected and expected[path].size == seen.output.size:
            kept["outputs/" + path] = expected[path].astype(np.float32)
    folder = RECORDED / name
    found.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    np.savez_compressed(folder / "expected.npz", **{f"inputs/{key}": value for key, value in given.items()}, **kept)


if __name__ == "__main__":
    for shipped in SHIPPED:
        record(shipped)
        print(shipped, *(path.stat().st_size for path in sorted((RECORDED / shipped).iterdir())))
