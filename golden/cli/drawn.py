"""What commands that draw are asked for: their options, and the samplings that follow."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from golden.cli import options
from golden.cli.subject import Subject, subject
from golden.diffusion.sampling import Sampling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn; a command without one of the options has its default.

    Members
    -------
    network : str
        Names, comma separated where a command takes several.
    steps, seed : int
        Of the sampling: steps, seed of the noise.
    count : int or None
        Images; None: one for each label.
    labels : str or None
        Digits, comma separated.
    conditioning : Path or None
        File of arrays, see `golden.cli.subject.subject`.
    guidance : float or None
        Scale of classifier-free guidance.
    sampler : str or None
        ``ddim`` or ``ddpm``, if it is not the network's own.
    cache : Caching or None
        DeepCache.
    """

    network: str
    steps: int = 50
    count: int | None = None
    labels: str | None = None
    seed: int = 0
    conditioning: Path | None = None
    guidance: float | None = None
    sampler: str | None = None
    cache: options.Caching | None = None

    @property
    def images(self) -> int:
        """How many are drawn."""
        return self.count or (len(self.labels.split(",")) if self.labels else 1)

    def subject(self, name: str | None = None) -> Subject:
        """The network, or one of them by its name; errors as of `golden.cli.subject.subject`."""
        return subject(name or self.network, self.conditioning, self.sampler)

    def subjects(self) -> list[Subject]:
        """The networks; errors also if one stands twice."""
        return [self.subject(name) for name in options.each(self.network, "Networks")]

    def sampling(self, one: Subject, steps: int | None = None) -> Sampling:
        """Sampling of a network, of other steps if they are given; errors as of `Subject.sampling`."""
        how = {"guidance": self.guidance, "seed": self.seed, "cache": self.cache}
        return one.sampling(self.images, self.steps if steps is None else steps, self.labels, **how)


def drawn(
    count: int, most: int, *, several: bool = False, steps: int | None = 50, seed: bool = True, cache: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of what is drawn, see `together`.

    Parameters
    ----------
    count, most : int
        Images, unless told, and at most.
    several : bool
        Whether there may be several networks.
    steps : int or None
        Steps unless told; None: the command has an option of its own for them.
    seed, cache : bool
        Whether the noise, and DeepCache, can be told.
    """
    return together(
        options.networks if several else options.network,
        *([] if steps is None else [options.steps(steps)]),
        options.count(count, most),
        options.labels,
        *([options.seed] if seed else []),
        options.sampling,
        *([options.caching] if cache else []),
        own=() if steps is not None else ("steps",),
    )


def drawn_by_program(*, cache: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for a program, whose images are rows of the array: one for each ``--label``, or ``--images``."""
    return together(
        options.network,
        options.steps(),
        click.option(
            "--label", "labels", help="Class of each image, comma separated, for a network that takes labels."
        ),
        click.option(
            "--images", "count", type=click.IntRange(1), help="How many to draw.  [default: one for each label]"
        ),
        options.seed,
        options.sampling,
        *([options.caching] if cache else []),
    )


def together(
    *chosen: Callable[..., Any], own: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that a command takes together as ``drawn``, but for its `own` of the same names.

    Parameters
    ----------
    chosen : callable
        Options whose names are members of `Drawn`.
    own : collection of str
        Names that the command keeps for itself.
    """
    taken = {field.name for field in dataclasses.fields(Drawn)} - set(own)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(*args: Any, **given: Any) -> Any:
            what = {name: given.pop(name) for name in taken if name in given}
            return command(*args, drawn=Drawn(**what), **given)

        for option in reversed(chosen):
            wrapped = option(wrapped)
        return wrapped

    return decorate
