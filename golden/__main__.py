"""Command line of the golden model: ``python -m golden``."""

import click

from golden import console
from golden.commands import compare, gains, record, sample, stats, sweep, traffic


@console.group("Golden model: trained networks, their layers, and what differential computing makes of them.")
def main(traceback: bool) -> None:
    """Root of the command line."""


for command in (
    sample.command,
    compare.command,
    stats.command,
    traffic.command,
    sweep.command,
    gains.command,
    record.capture,
    record.layers,
):
    main.add_command(command)


@main.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True}, short_help="Train the shipped networks."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train the shipped networks (extra ``train``); see ``python -m golden train --help``."""
    try:
        from golden.zoo.train import train as command
    except ImportError as error:
        raise console.UserError(str(error)) from error
    command.main(list(arguments), prog_name="python -m golden train", standalone_mode=False)


if __name__ == "__main__":
    main(prog_name="python -m golden")
