"""Where the command ``driftless-hdl`` begins, before anything is imported that takes its time."""

from golden.common import start


def main() -> None:
    """Run `sim.driftless`."""
    start.begin()
    from sim.driftless import main as command

    command()
