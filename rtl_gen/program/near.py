"""What near memory does between two products, as commands."""

import dataclasses

from golden.machine.command import Emit, Function, Operand
from rtl_gen.program.memory import Emission, Tensor
from rtl_gen.program.schedule import Schedule

__all__ = ["Norm", "emit"]


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
    places : int
        h.
    first : int
        Channels of the sets before the tensor's channel 0.
    second : bool
        Whether the tensor is the second one of its sets.
    """

    coefficients: Operand
    scales: Operand
    set_channels: int
    places: int
    first: int = 0
    second: bool = False


def emit(
    schedule: Schedule,
    source: Tensor,
    emission: Emission,
    passes: int,
    *,
    function: Function = "identity",
    norm: Norm | None = None,
    middle: int | None = None,
    start: bool = False,
    tag: int = 0,
) -> None:
    """Add the emission of a tensor to its spool.

    Parameters
    ----------
    schedule : Schedule
        Takes the command.
    source : Tensor
        Y.
    emission : Emission
        What readers hold.
    passes : int
        Of the groups.
    function : str
        f.
    norm : Norm, optional
        Comes before f.
    middle : int, optional
        s of z; the default is that of Y.
    start : bool
        Whether readers start anew.
    """
    options = {}
    reads = [("state", source)]
    if norm is not None:
        reads.append(("coefficients", norm.coefficients))
        options = {
            "normed": True,
            "coefficients": norm.coefficients,
            "scales": norm.scales,
            "set_channels": norm.set_channels,
            "places": norm.places,
            "first": norm.first,
            "second": norm.second,
        }
    held = ("held", emission)
    schedule.add(
        Emit(
            tag=tag,
            state=source.data,
            held=emission.held,
            spool=emission.spool,
            lengths=emission.lengths,
            slot=emission.slot,
            lines=source.lines,
            width=source.width,
            channels=source.channels,
            function=function,
            start=start,
            passes=passes - 1,
            middle=source.unit if middle is None else middle,
            result=emission.unit,
            **options,
        ),
        reads=[*reads, held],
        writes=[held, ("spool", emission)],
    )
