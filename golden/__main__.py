"""Command line of the golden model: ``python -m golden``."""

from golden.common import start

if __name__ == "__main__":
    start.begin()  # before the imports, which take their time

from golden.cli import compare, gains, record, sample, stats, stream, sweep, traffic, train, tune
from golden.common import console


@console.group("Golden model: trained networks, their layers, and what differential computing makes of them.")
def main(traceback: bool) -> None:
    """Root of the command line."""


for command in (
    sample.command,
    compare.command,
    stats.command,
    stream.command,
    traffic.command,
    sweep.command,
    gains.command,
    tune.command,
    record.capture,
    record.layers,
    train.command,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="python -m golden")
