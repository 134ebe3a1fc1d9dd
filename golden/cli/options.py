"""What commands share: options, lists of methods and labels, and outputs that are checked before long work begins."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.common import console, files
from golden.diffusion.differential.exact import check_exact
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import known_gains
from golden.diffusion.sampling import Sampling, deepcache

network = click.option(
    "--network",
    default="unet",
    show_default=True,
    help="Network of the zoo, folder of a checkpoint, or FILE.py:FUNCTION.",
)
networks = click.option(
    "--network",
    default="unet",
    show_default=True,
    help="Networks of the zoo, folders of checkpoints or FILE.py:FUNCTION, comma separated.",
)
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the starting noise.")
labels = click.option("--labels", help="Digits to draw, comma separated and repeated as needed.  [default: 0,1,...,9]")
exact = click.option("--exact", is_flag=True, help="The machine's bits by the unit models, several times slower.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


conditioning = click.option(
    "--conditioning",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Arrays by the name of the network's input, such as text; null.text stands for none.",
)
sampler = click.option(
    "--sampler",
    type=click.Choice(["ddim", "ddpm"]),
    help="Without fresh noise in every step, or with.  [default: as the folder's scheduler, or ddim]",
)
guidance = click.option(
    "--guidance",
    type=float,
    callback=console.finite,
    help="Scale of classifier-free guidance; needs what stands for none.",
)


def sampling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options ``--conditioning``, ``--guidance`` and ``--sampler``: how a network is sampled."""
    return conditioning(guidance(sampler(command)))


def count(default: int, most: int) -> Callable[..., Any]:
    """Option ``--count``."""
    return click.option(
        "--count", type=click.IntRange(1, most), default=default, show_default=True, help="Images to draw."
    )


def steps(default: int = 50) -> Callable[..., Any]:
    """Option ``--steps``."""
    return click.option("--steps", default=default, show_default=True, help="Steps of the sampling.")


def method(default: str) -> Callable[..., Any]:
    """Option ``--method`` of several methods."""
    help = "Methods, comma separated: names of METHODS, or files that end in .json."
    return click.option("--method", "method", default=default, show_default=True, help=help)


FOLDER = Path("build")
"""Where outputs go that are given no name; it is made when it is missing."""


def picture(name: str, default: str, help: str) -> Callable[..., Any]:
    """Option of a picture to save, whose file name may be left out: it is `default` in `FOLDER` then."""
    default = str(FOLDER / default)
    return click.option(
        f"--{name}",
        is_flag=False,
        flag_value=default,
        metavar="[FILE.png]",
        callback=lambda ctx, param, value: None if value is None else Path(value),
        help=f"{help}  [file if none is given: {default}]",
    )


@dataclasses.dataclass(frozen=True)
class Caching:
    """What ``--cache`` and the options behind it say: DeepCache, and which steps run the whole network.

    Members
    -------
    interval : int
        Distance of cache steps on average.
    centre, power : int, float or None
        See `golden.diffusion.sampling.deepcache.planned`.
    branch : int or str
        What is kept, see `golden.diffusion.sampling.deepcache.value`.
    """

    interval: int
    centre: int | None = None
    power: float | None = None
    branch: int | str = 0

    def of(self, steps: int) -> deepcache.Cache:
        """Cache steps of a sampling of so many steps.

        Raises
        ------
        TypeError, ValueError
            If there are none such.
        """
        return deepcache.Cache(deepcache.planned(steps, self.interval, self.centre, self.power), self.branch)


def branch(text: str) -> int | str:
    """Branch by its number, or any layer by its name."""
    return int(text) if re.fullmatch(r"\d{1,6}", text) else text


def caching(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options ``--cache``, ``--cache-centre``, ``--cache-power`` and ``--branch``; the command takes ``cache``."""

    @functools.wraps(command)
    def wrapped(*, cache_centre: int | None, cache_power: float | None, **given: Any) -> Any:
        kept, interval = given.pop("branch"), given.pop("cache")
        if interval is None:
            for name, value in (("cache-centre", cache_centre), ("cache-power", cache_power), ("branch", kept)):
                if value is not None:
                    raise ValueError(f"--cache must be given with --{name}, not left out")
            return command(cache=None, **given)
        return command(cache=Caching(interval, cache_centre, cache_power, branch(kept or "0")), **given)

    for option in (
        click.option("--branch", help="What is reused: branch by its number, or any layer.  [default: 0]"),
        click.option(
            "--cache-power",
            type=float,
            callback=console.finite,
            help="Cache steps ever farther apart, or around the centre (1.4).",
        ),
        click.option("--cache-centre", type=int, metavar="STEP", help="Cache steps dense around this one."),
        click.option(
            "--cache", type=click.IntRange(1), metavar="N", help="DeepCache: one step in N runs the whole network."
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def each(text: str, what: str) -> list[str]:
    """Parts of a comma-separated list.

    Raises
    ------
    ValueError
        If one stands twice.
    """
    found: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if part.rstrip("/") in (one.rstrip("/") for one in found):
            raise ValueError(f"{what} must be different, not {part!r} twice")
        found.append(part)
    return found


def numbers(text: str, what: str) -> list[int]:
    """Integers from 0 of a comma-separated list.

    Raises
    ------
    ValueError
        If one is something else, or stands twice.
    """
    found = each(text, what)
    for part in found:
        if not re.fullmatch(r"\d{1,6}", part):
            raise ValueError(f"{what} must be comma-separated integers, not {part!r}")
    return [int(part) for part in found]


def shift(text: str) -> tuple[float, float]:
    """Pixels down and to the right.

    Raises
    ------
    ValueError
        If it is not two finite numbers with a comma between them.
    """
    try:
        down, right = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"Shift must be DOWN,RIGHT in pixels, not {text!r}") from None
    if not np.isfinite([down, right]).all():
        raise ValueError(f"Shift must be finite, not {text!r}")
    return down, right


def methods(text: str, *, exact: bool = False) -> dict[str, Method]:
    """Methods of a comma-separated list, by name; a file goes by its name without ``.json``.

    Raises
    ------
    ValueError
        If one is unknown or stands twice, or is to be `exact` and has no such form.
    """
    found: dict[str, Method] = {}
    for part in (part.strip() for part in text.split(",")):
        name = Path(part).stem if part.endswith(".json") else part
        if name in found:
            raise ValueError(f"Methods must have different names, not {name!r} twice")
        found[name] = Method.named(part)
        if exact:
            try:
                check_exact(found[name])
            except ValueError as error:
                raise ValueError(f"Methods must have an exact form, not {name!r}: {error}") from error
    return found


def note_gains(samplings: Iterable[Sampling], methods: Iterable[Method]) -> None:
    """Say on standard error for which networks output bits cannot be dealt out, as their gains are not known."""
    if not any(method.flow == "closed_loop" and method.output_allocation == "gain" for method in methods):
        return
    for sampling in samplings:
        if not known_gains(sampling):
            name = sampling.network.name
            click.echo(
                f"Gains of {name!r} are not known: every output takes a bit more. `golden gains --network {name}` "
                "measures them once",
                err=True,
            )


def classes(text: str | None, number: int, known: int) -> np.ndarray:
    """Labels of `number` images from a comma-separated list of those below `known`, repeated in order."""
    if text is None:
        chosen = list(range(known))
    else:
        parts = [part.strip() for part in text.split(",")]
        wrong = next((part for part in parts if not re.fullmatch(r"\d{1,6}", part) or int(part) >= known), None)
        if wrong is not None:
            raise ValueError(f"Labels must be comma-separated digits from 0 to {known - 1}, not {wrong!r}")
        chosen = [int(part) for part in parts]
    return np.resize(np.array(chosen, np.int64), number)


def writable(path: Path | None, suffix: str = ".png", *, append: bool = False) -> None:
    """Refuse an output that cannot be written before any long work begins: see `golden.common.files.check_writable`.

    If it replaces a file, that is said on standard error.
    """
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise ValueError(f"Output must end in {suffix}, not {str(path)!r}")
    default = path.parent == FOLDER and not FOLDER.exists()  # a folder that is made when there is something to write
    files.check_writable(Path(path.name) if default else path, append=append)
    if path.exists() and not append:
        click.echo(f"{path} exists and will be replaced.", err=True)
