"""Interrupts of a command: while it starts, they end it without a word; then `golden.common.console` takes them."""

import signal

__all__ = ["begin_quietly", "take"]


def begin_quietly() -> None:
    """Let an interrupt end the process without a word, until `take`.

    For the first line of a program: the imports of a command take a part of a second, in which Python would print where
    it was interrupted.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def take() -> None:
    """Let an interrupt raise `KeyboardInterrupt` again, if `begin_quietly` was called."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
