"""What commands share: options, lists of methods and labels, and outputs that are checked before long work begins."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from golden.differential.configuration import Configuration, configuration
from golden.differential.exact import check_exact

network = click.option(
    "--network", default="unet", show_default=True, help="Network of the zoo, or folder of a checkpoint of diffusers."
)
seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the starting noise.")
labels = click.option("--labels", help="Digits to draw, comma separated and repeated as needed.  [default: 0,1,...,9]")
exact = click.option("--exact", is_flag=True, help="The machine's bits by the unit models, several times slower.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def sampling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options ``--conditioning``, ``--guidance`` and ``--sampler``: how a network is sampled."""
    for option in (
        click.option(
            "--sampler",
            type=click.Choice(["ddim", "ddpm"]),
            help="Without fresh noise in every step, or with.  [default: as the folder's scheduler, or ddim]",
        ),
        click.option("--guidance", type=float, help="Scale of classifier-free guidance; needs what stands for none."),
        click.option(
            "--conditioning",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE.npz",
            help="Arrays by the name of the network's input, such as text; null.text stands for none.",
        ),
    ):
        command = option(command)
    return command


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
    help = "Methods, comma separated: names of CONFIGURATIONS, or files that end in .json."
    return click.option("--method", "method", default=default, show_default=True, help=help)


def picture(name: str, default: str, help: str) -> Callable[..., Any]:
    """Option of a picture to save, whose file name may be left out."""
    return click.option(
        f"--{name}",
        is_flag=False,
        flag_value=default,
        metavar="[FILE.png]",
        callback=lambda ctx, param, value: None if value is None else Path(value),
        help=f"{help}  [file if none is given: {default}]",
    )


def methods(text: str, *, exact: bool = False) -> dict[str, Configuration]:
    """Configurations of a comma-separated list, by name; a file goes by its name without ``.json``.

    Raises
    ------
    ValueError
        If one is unknown or stands twice, or is to be `exact` and has no such form.
    """
    found: dict[str, Configuration] = {}
    for part in (part.strip() for part in text.split(",")):
        name = Path(part).stem if part.endswith(".json") else part
        if name in found:
            raise ValueError(f"Methods must have different names, not {name!r} twice")
        found[name] = configuration(part)
        if exact:
            try:
                check_exact(found[name])
            except ValueError as error:
                raise ValueError(f"Methods must have an exact form, not {name!r}: {error}") from error
    return found


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


def writable(path: Path | None, suffix: str = ".png") -> None:
    """Refuse an output that cannot be written before any long work begins."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise ValueError(f"Output must end in {suffix}, not {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"Output must be a file, not the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"Folder of the output must exist, not {str(path.parent)!r}")


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Matplotlib's figure and axes, saved at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(rows, columns, layout="constrained", **settings)
    try:
        yield made, axes
        made.savefig(path, dpi=110)
    finally:
        pyplot.close(made)
