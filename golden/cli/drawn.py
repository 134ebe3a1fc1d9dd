"""What commands that draw are asked for: their options, and the samplings that follow."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden.cli import options
from golden.cli.subject import Subject, subject
from golden.diffusion.sampling import Sampling

__all__ = ["Drawn", "drawn"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn; a command without one of the options has its default.

    Members
    -------
    network : str
        Names, comma separated where a command takes several.
    steps, count, seed : int
        Of the sampling: steps, images, seed of the noise.
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
    count: int
    labels: str | None
    seed: int = 0
    conditioning: Path | None
    guidance: float | None
    sampler: str | None
    cache: options.Caching | None = None

    def subject(self, name: str | None = None) -> Subject:
        """The network, or one of them by its name; errors as of `golden.cli.subject.subject`."""
        return subject(name or self.network, self.conditioning, self.sampler)

    def subjects(self) -> list[Subject]:
        """The networks; errors also if one stands twice."""
        return [self.subject(name) for name in options.each(self.network, "Networks")]

    def sampling(self, one: Subject, steps: int | None = None) -> Sampling:
        """Sampling of a network, of other steps if they are given; errors as of `Subject.sampling`."""
        how = {"guidance": self.guidance, "seed": self.seed, "cache": self.cache}
        return one.sampling(self.count, self.steps if steps is None else steps, self.labels, **how)


def drawn(
    count: int, most: int, *, several: bool = False, steps: int | None = 50, seed: bool = True, cache: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of what is drawn; the command takes them together as ``drawn``.

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
    chosen = [
        options.networks if several else options.network,
        *([] if steps is None else [options.steps(steps)]),
        options.count(count, most),
        options.labels,
        *([options.seed] if seed else []),
        options.sampling,
        *([options.caching] if cache else []),
    ]

    ours = {field.name for field in dataclasses.fields(Drawn)} - ({"steps"} if steps is None else set())

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(**given: Any) -> Any:
            own = {name: given.pop(name) for name in ours if name in given}
            return command(drawn=Drawn(**own), **given)

        for option in reversed(chosen):
            wrapped = option(wrapped)
        return wrapped

    return decorate
