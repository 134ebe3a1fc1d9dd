"""The same elements in another order or number."""

import functools
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from golden.diffusion.layers.base import Layer, Role, Shape

_Side = tuple[tuple[str, ...], ...]


class Steps(NamedTuple):
    """How a value of one shape is moved: five operations that numpy and torch have under these or other names.

    Members
    -------
    split : tuple of int
        Shape with every axis on its own.
    index : tuple
        What to index that with: the place that is taken of an axis that the result lacks.
    order : tuple of int
        Axes of that in their new order.
    spread : tuple
        What to index that with: None for every axis that the value lacks.
    lengths : tuple of int
        Shape to broadcast that to.
    shape : tuple of int
        Of the result.
    """

    split: Shape
    index: tuple[slice | int, ...]
    order: tuple[int, ...]
    spread: tuple[slice | None, ...]
    lengths: Shape
    shape: Shape


@functools.cache
def _sides(pattern: str) -> tuple[_Side, _Side]:
    """Axes of value and result, each as the names that it is made of."""
    left, right = pattern.split("->")
    found = (re.findall(r"\(([^()]*)\)|(\w+|\.\.\.)", side) for side in (left, right))
    return tuple(tuple(tuple((inner or single).split()) for inner, single in side) for side in found)  # type: ignore


_SIDE = r"(\s*(\w+|\.\.\.|\(\s*\w+(\s+\w+)*\s*\)))+\s*"


@dataclass(frozen=True, eq=False)
class Move(Layer, kind="move", role=Role.MOVE, linear=True):
    """The elements of a value in another order or number, by a pattern of named axes.

    ======================================  ==============================================================
    ``"b c h w -> b (h w) c"``              pixels as tokens, row by row
    ``"b (h w) c -> b c h w"``, h=16        and back
    ``"... t (h c) -> ... h t c"``, h=4     channels as four attention heads
    ``"... (n c) -> ... c"``, n=6           one of six equal parts: of an axis that the result lacks, `index`
    ``"b c h w -> b c (h p) (w q)"``, p=2,  every pixel two by two times: an axis that the value lacks
    q=2
    ======================================  ==============================================================

    Parentheses hold axes that stand for one, the last of them the fastest; ``...`` is any number of axes. The axis
    called ``c`` is that of the channels. Source: the notation of Rogozhnikov, *Einops*, 2022.

    Parameters
    ----------
    pattern : str
        Axes of the value, ``->``, axes of the result.
    sizes : mapping of str to int
        Lengths of axes that the shape of the value does not tell.
    index : int
        Place of the axis that the result lacks; 0 if it lacks none.

    Raises
    ------
    ValueError
        If the pattern is none, or a shape does not fit it.
    """

    pattern: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    index: int = 0

    def __post_init__(self) -> None:
        """Check the pattern, and that sizes tell every axis."""
        if not re.fullmatch(f"{_SIDE}->{_SIDE}", self.pattern):
            raise ValueError(f"Pattern of layer {self.name!r} must be axes -> axes, not {self.pattern!r}")
        left, right = ([name for axis in side for name in axis] for side in _sides(self.pattern))
        gone, new = [name for name in left if name not in right], [name for name in right if name not in left]
        twice = len(left) > len(set(left)) or len(right) > len(set(right))
        unknown = [
            *(name for name in (*gone, *new) if name not in self.sizes),
            *(name for name in self.sizes if name not in (*left, *right)),
            *(axis[-1] for axis in _sides(self.pattern)[0] if sum(name not in self.sizes for name in axis) > 1),
        ]
        if twice or unknown or len(gone) > 1 or "..." in (*gone, *new):
            raise ValueError(
                f"Pattern of layer {self.name!r} must name each axis once, lack at most one of the value, and have "
                f"sizes of what the value does not tell, not be {self.pattern!r} with {dict(self.sizes)}"
            )
        if not 0 <= self.index < (self.sizes[gone[0]] if gone else 1):
            raise ValueError(f"Index of layer {self.name!r} must be a place of the axis it takes, not {self.index}")

    @property
    def channel_axis(self) -> int | None:
        """Axis of the result that channels are in; None if none is called ``c`` and has a place."""
        after = itertools.takewhile(lambda axis: axis != ("...",), reversed(_sides(self.pattern)[1]))
        return next((-number for number, axis in enumerate(after, 1) if "c" in axis), None)

    @property
    def parts(self) -> int:
        """Equal parts that the last axis of the value is cut into first: length of its slowest axis, if called n."""
        first, *_ = _sides(self.pattern)[0][-1]
        return self.sizes[first] if first == "n" and first in self.sizes else 1

    @property
    def takes_one(self) -> bool:
        """Whether the result lacks an axis of the value, of which it has one place."""
        left, right = ({one for axis in side for one in axis} for side in _sides(self.pattern))
        return not left <= right

    def steps(self, shape: Shape) -> Steps:
        """How a value of this shape is moved."""
        return _steps(self.name, self.pattern, tuple(self.sizes.items()), self.index, shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Move."""
        split, index, order, spread, lengths, shape = self.steps(x.shape)
        moved = np.broadcast_to(x.reshape(split)[index].transpose(order)[spread], lengths)
        return np.ascontiguousarray(moved.reshape(shape))

    def shape(self, *shapes: Shape) -> Shape:
        """As the pattern says."""
        return self.steps(shapes[0]).shape


@functools.cache
def _steps(name: str, pattern: str, sizes: tuple[tuple[str, int], ...], index: int, shape: Shape) -> Steps:
    left, right = _sides(pattern)
    free = len(shape) - len([axis for axis in left if axis != ("...",)])
    if free < 0 or (free > 0 and ("...",) not in left):
        raise ValueError(f"Layer {name!r} must read values of the axes {pattern.split('->')[0].strip()}, not {shape}")
    rest = tuple((f"...{number}",) for number in range(free))
    left, right = (
        tuple(one for axis in side for one in (rest if axis == ("...",) else (axis,))) for side in (left, right)
    )
    length = dict(sizes)
    for axis, whole in zip(left, shape, strict=True):
        known = math.prod(length.get(one, 1) for one in axis)
        told = [one for one in axis if one not in length]
        if whole % known or not (told or whole == known):
            raise ValueError(
                f"Axis ({' '.join(axis)}) of layer {name!r} must be {'a multiple of ' * bool(told)}{known}, not {whole}"
            )
        length.update(dict.fromkeys(told, whole // known))
    flat, wanted = ([one for axis in side for one in axis] for side in (left, right))
    kept = [one for one in flat if one in wanted]
    return Steps(
        split=tuple(length[one] for one in flat),
        index=tuple(slice(None) if one in wanted else index for one in flat),
        order=tuple(kept.index(one) for one in wanted if one in kept),
        spread=tuple(slice(None) if one in kept else None for one in wanted),
        lengths=tuple(length[one] for one in wanted),
        shape=tuple(math.prod(length[one] for one in axis) for axis in right),
    )
