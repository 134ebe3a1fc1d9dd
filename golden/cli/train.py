"""``golden train``: the shipped networks, trained anew (extra ``train``)."""

from pathlib import Path

import click

from golden.common import console, names
from golden.diffusion import zoo


@click.command("train")
@click.option(
    "--network", "networks", multiple=True, metavar="NAME", help=f"One of {', '.join(zoo.NETWORKS)}.  [default: all]"
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of start, order and noise.")
@click.option("--iterations", type=click.IntRange(1), help="Training steps of networks that draw.  [default: recipe]")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Cores used by torch.")
@click.option(
    "--out",
    default="build/zoo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for weights, references, statistics and recorded set; golden/diffusion/zoo/data is what ships.",
)
def command(networks: tuple[str, ...], seed: int, iterations: int | None, threads: int, out: Path) -> None:
    """Train networks, and write their weights and what else of them ships (extra `train`).

    That is torch's reference output of every layer of a network that draws, the recorded set of the network "unet", and
    with the classifier the statistics of its features over the real digits.
    """
    for name in networks:
        names.lookup("Network", name, zoo.NETWORKS)
    try:
        from golden.diffusion.zoo import train
    except ImportError as error:
        raise console.UserError(str(error)) from error
    train.train(networks or tuple(zoo.NETWORKS), out, seed=seed, iterations=iterations, threads=threads)
