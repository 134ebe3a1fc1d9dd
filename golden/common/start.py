"""How a command begins: an interrupt, or an extra that is missing, ends it without a traceback."""

import os
import signal
import sys
from types import TracebackType

from golden.common import extras


def begin() -> None:
    """Prepare for the imports of a command; for the first line of a program.

    They take a part of a second, in which Python would print where it was interrupted: an interrupt ends the process
    without a word, until `take_interrupts`. A package that an extra brings ends it with a sentence and code 2.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.excepthook = _explain


def take_interrupts() -> None:
    """Let an interrupt raise `KeyboardInterrupt` again, if `begin` was called."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = extras.missing(error) if isinstance(error, ModuleNotFoundError) else None
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"Error: {sentence}", file=sys.stderr, flush=True)
    os._exit(2)  # an exception hook cannot choose the code otherwise
