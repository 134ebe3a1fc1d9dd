"""What every layer is."""

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from golden.common import names

Shape = tuple[int, ...]


class Role(enum.Enum):
    """What a layer does, for whoever executes or counts a network in another way than densely."""

    PRODUCT = "product"
    """Contracts channels, with weights or with a second activation; its value is state."""
    SUM = "sum"
    """Adds values of one unit; its value is state."""
    MEAN = "mean"
    """Averages pixels; its value is state."""
    NORM = "norm"
    """Normalises a state by its own statistics."""
    ACTIVATION = "activation"
    """A function of each element."""
    SOFTMAX = "softmax"
    """Exponentials over their sum, along the last axis."""
    SCALE = "scale"
    """Products and sums element by element: factors that depend on time, gates, rotations."""
    MOVE = "move"
    """The same elements in another order or number."""
    EMBEDDING = "embedding"
    """Makes a vector of a timestep or a label."""
    OTHER = "other"
    """Anything else, such as a layer class of one's own: evaluated from raw values, without a bit-exact rule."""


_SAID = dict.fromkeys(("kind", "role", "linear", "channel_axis", "function"))


@dataclass(frozen=True, eq=False)
class Layer:
    """One node of a network.

    Parameters
    ----------
    name : str
        Stable dotted name, unique in its network.
    inputs : tuple of str
        Names of the layers, or of the inputs of the network, whose values it reads, in order.

    Parameters of a subclass
    ------------------------
    kind : str
        What the layer computes, one word for each subclass.
    role : Role
        What that is to an executor. What only one class has is asked of the class.
    linear : bool
        True if the layer is linear in its first input once the others are held: it can run on deltas.
    channel_axis : int or None
        Axis of the channels of its value, counted from the end; None: that of its first input.
    function : str or None
        Of `golden.units.activations`, what is tabulated near memory for each element; None: nothing is.

    Members
    -------
    stored : bool
        Whether the value is state of its own: a product, a sum or a mean. Others are made from state when read.
    contracted : tuple of int
        Of each operand of a product, the axis that is contracted and whose elements form groups; empty for layers that
        do not contract. All are counted from the end.
    bilinear : bool
        Whether it is a product of two activations.
    """

    name: str
    inputs: tuple[str, ...]
    kind: ClassVar[str] = ""
    role: ClassVar[Role] = Role.OTHER
    linear: ClassVar[bool] = False
    channel_axis: ClassVar[int | None] = None
    function: ClassVar[str | None] = None

    def __init_subclass__(cls, **says: Any):
        """Keep what a class says of itself; ValueError if that is none of the above."""
        super().__init_subclass__()
        for name, value in says.items():
            names.lookup(f"Keyword of class {cls.__name__}", name, _SAID)
            setattr(cls, name, value)

    @property
    def stored(self) -> bool:
        """Whether the value is state of its own."""
        return self.role in (Role.PRODUCT, Role.SUM, Role.MEAN)

    @property
    def bilinear(self) -> bool:
        """Whether it is a product of two activations."""
        return len(self.contracted) == 2

    @property
    def contracted(self) -> tuple[int, ...]:
        """Contracted axis of each operand."""
        return ()

    def __call__(self, *values: np.ndarray) -> np.ndarray:
        """Value of the layer for the given input values, one for each name in `inputs`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, np.ndarray]:
        """Float32 parameters by their short name, empty for most kinds."""
        return {}

    def shape(self, *shapes: Shape) -> Shape:
        """Shape of the output for the given shapes of the inputs."""
        return shapes[0]

    def _check(self, fits: bool, what: str, *shapes: Shape) -> None:
        """Refuse shapes of inputs that do not fit, by the layer's name."""
        if not fits:
            raise ValueError(f"Layer {self.name!r} must read {what}, not shapes {' and '.join(map(str, shapes))}")

    def macs(self, *shapes: Shape) -> int:
        """Multiply-accumulates for the given shapes of the inputs; elementwise work and norms count 0."""
        return 0


@dataclass(frozen=True, eq=False)
class Pair(Layer):
    """A layer of two values of one shape, element by element."""

    def shape(self, *shapes: Shape) -> Shape:
        """That of both."""
        a, b = shapes
        self._check(a == b, "two values of one shape", a, b)
        return a


@dataclass(frozen=True, eq=False)
class Weighted(Layer):
    """A layer with a weight and, unless it is None, a bias."""

    weight: np.ndarray
    bias: np.ndarray | None = None

    def parameters(self) -> dict[str, np.ndarray]:
        """``weight``, and ``bias`` if there is one."""
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})
