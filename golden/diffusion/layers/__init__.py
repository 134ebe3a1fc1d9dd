"""The layers of a network: frozen objects that own their parameters and can be evaluated, in float32, by numpy alone.

A layer says what it is (`Layer.kind`), what that is to an executor (`Layer.role`), where it stands (`Layer.name`, and
in `Layer.inputs` the names of what it reads), and what it computes when called. Whoever wants another execution of the
same network, a differential one for instance, reads the parameters and does not call the layer.

Images are ``(batch, channels, height, width)``, tokens ``(batch, tokens, channels)``, those of a video
``(batch, frames, tokens, channels)``. Groups along a contracted
dimension run along `Layer.contracted`, for a convolution over its input channels.
"""

from collections.abc import Sequence

from golden.diffusion.layers.base import Layer, Role, Shape
from golden.diffusion.layers.combine import Add, AddChannel, AddConstant, Concat
from golden.diffusion.layers.conditioning import Embedding, TimeEncoding
from golden.diffusion.layers.contraction import Convolution, Linear, MatMul, Padding
from golden.diffusion.layers.move import Move
from golden.diffusion.layers.norm import Norm
from golden.diffusion.layers.pointwise import GELU, ErfGELU, ReLU, SiLU, Softmax
from golden.diffusion.layers.pooling import AveragePool, Mean
from golden.diffusion.layers.scale import Gate, Modulate, Multiply, Rotary

KINDS: Sequence[type[Layer]] = (
    Convolution,
    Linear,
    MatMul,
    Norm,
    ReLU,
    SiLU,
    GELU,
    ErfGELU,
    Softmax,
    Add,
    AddChannel,
    AddConstant,
    Concat,
    Gate,
    Modulate,
    Multiply,
    Rotary,
    Move,
    AveragePool,
    Mean,
    TimeEncoding,
    Embedding,
)
"""Every class of layer."""

__all__ = ["KINDS", "Layer", "Padding", "Role", "Shape", *sorted(kind.__name__ for kind in KINDS)]
