"""Where the command ``driftless`` begins, before anything is imported that takes its time."""

from golden.common import interrupts

__all__ = ["main"]


def main() -> None:
    """Run `sim.driftless`."""
    interrupts.begin_quietly()
    from sim.driftless import main as command

    command()
