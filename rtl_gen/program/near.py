"""What near memory does between two products, as commands."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np

from golden.machine import image
from golden.machine.command import Emit, Function, Operand
from golden.units.combine import Factors
from golden.units.norm import Affine
from rtl_gen.program.memory import Emission, Tensor
from rtl_gen.program.schedule import Schedule


@dataclasses.dataclass(frozen=True, eq=False)
class Norm:
    """The norm of an emission.

    Members
    -------
    coefficients : Operand
        Records of the sets.
    scales : Operand
        G and B of each channel.
    set_channels : int
        Channels of a set; 0: a set is a position.
    first : int
        Channels of the sets before the tensor's channel 0.
    second : bool
        Whether the tensor is the second one of its sets.
    runs : tuple of (range, Hashable)
        Sets whose coefficients are computed together, and what stands for them where accesses are ordered.
    """

    coefficients: Operand
    scales: Operand
    set_channels: int
    first: int = 0
    second: bool = False
    runs: tuple[tuple[range, Hashable], ...] = ()

    def places(self, source: Tensor, lines: range) -> list[Hashable]:
        """What stands for the coefficients of some lines of a tensor."""
        if self.set_channels:
            low, high = self.first // self.set_channels, -(-(self.first + source.channels) // self.set_channels)
        else:
            low, high = lines.start * source.width, lines.stop * source.width
        return [place for sets, place in self.runs if low < sets.stop and sets.start < high]


@dataclasses.dataclass(frozen=True)
class Softmax:
    """The softmax of an emission: its rows, and R.

    Members
    -------
    rows : Operand
        Records of the rows.
    root, exponent : int
        ``R = root 2^exponent``.
    runs : tuple of (range, Hashable)
        Lines whose rows are found together, and what stands for them where accesses are ordered.
    """

    rows: Operand
    root: int
    exponent: int
    runs: tuple[tuple[range, Hashable], ...]

    def places(self, lines: range) -> list[Hashable]:
        """What stands for the rows of some lines of the scores."""
        return [place for run, place in self.runs if lines.start < run.stop and run.start < lines.stop]


def emit(
    schedule: Schedule,
    source: Tensor,
    emission: Emission | None,
    passes: int = 1,
    *,
    unit: int | None = None,
    function: Function = "identity",
    norm: Norm | None = None,
    softmax: Softmax | None = None,
    middle: int | None = None,
    start: bool = False,
    exact: bool = False,
    target: Tensor | None = None,
    lines: range | None = None,
    tag: int = 0,
) -> None:
    """Add the emission of a tensor, or of some of its lines, to its spool, and to a state.

    Parameters
    ----------
    schedule : Schedule
        Takes the command.
    source : Tensor
        Y.
    emission : Emission or None
        What readers hold; None: nothing is sent.
    passes : int
        Of the groups.
    unit : int, optional
        s of x, where nothing is sent.
    function : str
        f.
    norm, softmax : optional
        Come before f, or in its place.
    middle : int, optional
        s of z; the default is that of Y.
    start, exact : bool
        Whether readers start anew; whether Xhat becomes x.
    target : Tensor, optional
        Takes x.
    lines : range, optional
        Which lines; the default is all of them.
    """
    lines = range(source.lines) if lines is None else lines
    options: dict[str, Any] = {}
    reads: list[Hashable] = source.places(lines)
    writes: list[Hashable] = []
    if norm is not None:
        reads += norm.places(source, lines)
        options |= {
            "normed": True,
            "coefficients": norm.coefficients,
            "scales": norm.scales,
            "set_channels": norm.set_channels,
            "first": norm.first,
            "second": norm.second,
        }
    if softmax is not None:
        reads += softmax.places(lines)
        options |= {"coefficients": softmax.rows, "root": softmax.root, "exponent": softmax.exponent}
        function = "softmax"
    if emission is not None:
        unit = emission.unit
        options |= {
            "held": emission.held,
            "spool": emission.spool,
            "lengths": emission.lengths,
            "slot": emission.slot,
            "along": emission.along,
            "segment": emission.segment,
            "across": emission.width if emission.along == "positions" else 0,
        }
        across = None if emission.along == "positions" else lines
        reads += emission.places("held", across)
        writes += [*emission.places("held", across), *emission.places("spool", across)]
    if target is not None:
        options |= {"written": True, "target": target.data}
        writes += target.places(lines)
    schedule.add(
        Emit(
            tag=tag,
            state=source.data,
            line=lines.start,
            lines=len(lines),
            width=source.width,
            channels=source.channels,
            sent=emission is not None,
            function=function,
            start=start,
            exact=exact and emission is not None,
            passes=passes - 1,
            middle=source.unit if middle is None else middle,
            result=unit,
            **options,
        ),
        reads=reads,
        writes=writes,
    )


def scales(tables: Affine) -> np.ndarray:
    """Bytes of h, then G and B of each channel, as an emission takes them."""
    pairs = np.stack(np.broadcast_arrays(tables.gain, tables.shift), axis=-1)
    return image.pack_entries(np.concatenate([[tables.places], pairs.ravel()]))


def factors(table: Factors) -> np.ndarray:
    """Bytes of h, then the factors, as a combination takes them."""
    return image.pack_entries(np.concatenate([[table.places], np.ravel(table.values)]))
