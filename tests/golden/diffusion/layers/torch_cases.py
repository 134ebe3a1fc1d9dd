"""Layers and what torch computes for the same numbers.

``python -m tests.golden.diffusion.layers.torch_cases`` (torch 2.13.0, the extra ``import``) writes
``recorded/torch.npz``: the output of each case. Inputs and parameters are drawn again from the case's number.
"""

from pathlib import Path

import numpy as np

from golden.diffusion import layers

RECORDED = Path(__file__).parent / "recorded" / "torch.npz"

CONVOLUTIONS = {
    "kernel 1": {"kernel": 1},
    "kernel 1 stride 2": {"kernel": 1, "stride": 2},
    "kernel 1 padding 1": {"kernel": 1, "padding": 1},
    "kernel 2": {"kernel": 2},
    "kernel 2 stride 2": {"kernel": 2, "stride": 2},
    "kernel 3 padding 0": {"kernel": 3},
    "kernel 3 padding 1": {"kernel": 3, "padding": 1},
    "kernel 3 padding 2 stride 3": {"kernel": 3, "padding": 2, "stride": 3},
    "kernel 4 stride 2 padding 1": {"kernel": 4, "stride": 2, "padding": 1},
    "kernel 4 stride 3 padding 2": {"kernel": 4, "stride": 3, "padding": 2},
    "kernel 4 same": {"kernel": 4, "padding": "same"},
    "kernel 5 same": {"kernel": 5, "padding": "same"},
    "kernel 2 same dilation 3": {"kernel": 2, "padding": "same", "dilation": 3},
    "corner": {"kernel": 3, "stride": 2, "padding": ((0, 1), (0, 1))},
    "uneven": {"kernel": 2, "padding": ((2, 0), (1, 3))},
    "dilation 2": {"kernel": 3, "dilation": 2},
    "dilation 2 padding 2 stride 2": {"kernel": 3, "dilation": 2, "padding": 2, "stride": 2},
    "groups 2": {"kernel": 3, "padding": 1, "groups": 2},
    "groups 3 stride 2 dilation 2": {"kernel": 2, "padding": 1, "groups": 3, "stride": 2, "dilation": 2},
    "depthwise": {"kernel": 3, "padding": 1, "groups": 6},
    "no bias": {"kernel": 3, "padding": 1, "bias": False},
}
OTHERS = ("linear", "linear no bias", "matmul", "matmul transposed", "group norm", "layer norm", "affine layer norm")
OTHERS += ("rms norm", "silu", "gelu", "erf gelu", "softmax", "average pool", "mean")
CASES = (*CONVOLUTIONS, *OTHERS)


def layer(case: str) -> tuple[layers.Layer, list[np.ndarray]]:
    """The layer of a case and its inputs."""
    rng = np.random.default_rng(CASES.index(case))

    def numbers(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    if case in CONVOLUTIONS:
        how = {**CONVOLUTIONS[case]}
        kernel, bias, groups = how.pop("kernel"), how.pop("bias", True), how.get("groups", 1)
        weight = numbers(12, 6 // groups, kernel, kernel)
        return layers.Convolution("x", ("a",), weight, numbers(12) if bias else None, **how), [numbers(2, 6, 7, 10)]
    image, tokens = numbers(2, 6, 5, 8) * 3 + 1, numbers(2, 5, 6) * 3 + 1
    match case:
        case "linear" | "linear no bias":
            return layers.Linear("x", ("a",), numbers(4, 6), None if "no" in case else numbers(4)), [tokens]
        case "matmul" | "matmul transposed":
            other = numbers(2, 7, 6) if "transposed" in case else numbers(2, 6, 7)
            return layers.MatMul("x", ("a", "b"), transposed="transposed" in case, scale=0.25), [tokens, other]
        case "group norm":
            return layers.Norm("x", ("a",), numbers(6), numbers(6), groups=3, epsilon=1e-3), [image]
        case "layer norm":
            return layers.Norm("x", ("a",), epsilon=1e-3), [tokens]
        case "affine layer norm":
            return layers.Norm("x", ("a",), numbers(6), numbers(6), epsilon=1e-3), [tokens]
        case "rms norm":
            return layers.Norm("x", ("a",), numbers(6), epsilon=1e-3, centred=False), [tokens]
        case "average pool":
            return layers.AveragePool("x", ("a",)), [image]
    kinds = {"silu": layers.SiLU, "gelu": layers.GELU, "erf gelu": layers.ErfGELU, "softmax": layers.Softmax}
    return (kinds | {"mean": layers.Mean})[case]("x", ("a",)), [image]


def by_torch(case: str) -> np.ndarray:
    """What torch computes."""
    import torch
    import torch.nn.functional as F

    found, inputs = layer(case)
    x, *others = (torch.from_numpy(value) for value in inputs)
    weight, bias = (
        None if (value := getattr(found, name, None)) is None else torch.from_numpy(value)
        for name in ("weight", "bias")
    )
    if case in CONVOLUTIONS:
        padding = found.padding
        if isinstance(padding, tuple):
            (top, bottom), (left, right) = padding
            x, padding = F.pad(x, (left, right, top, bottom)), 0
        y = F.conv2d(x, weight, bias, found.stride, padding, found.dilation, found.groups)
    elif case.startswith("linear"):
        y = F.linear(x, weight, bias)
    elif case.startswith("matmul"):
        y = 0.25 * (x @ (others[0].mT if found.transposed else others[0]))
    elif case == "group norm":
        y = F.group_norm(x, 3, weight, bias, 1e-3)
    elif case.endswith("layer norm"):
        y = F.layer_norm(x, (6,), weight, bias, 1e-3)
    else:
        y = {
            "rms norm": lambda: F.rms_norm(x, (6,), weight, 1e-3),
            "silu": lambda: F.silu(x),
            "gelu": lambda: F.gelu(x, approximate="tanh"),
            "erf gelu": lambda: F.gelu(x),
            "softmax": lambda: F.softmax(x, dim=-1),
            "average pool": lambda: F.avg_pool2d(x, 2),
            "mean": lambda: x.mean(dim=(2, 3)),
        }[case]()
    return y.numpy()


if __name__ == "__main__":
    RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDED, **{case: by_torch(case) for case in CASES})
