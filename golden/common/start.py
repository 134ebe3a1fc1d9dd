"""How a command begins: an interrupt, or an extra that is missing, ends it without a traceback."""

import os
import signal
import sys
from types import TracebackType

COMMANDS = ("fpga", "golden", "rtl_gen", "sim")
"""Packages that are commands: ``python -m golden``."""

SCRIPT = "driftless-hdl"
"""What pip installs in their place."""


def runs_command() -> bool:
    """Whether this process is one of our commands, and not a program that imports us.

    ``python -m golden`` imports the package before its ``__main__``, and Python has ``-m`` for the program's name then.
    """
    if sys.argv[:1] == ["-m"]:
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") in COMMANDS
    return bool(sys.argv) and os.path.splitext(os.path.basename(sys.argv[0]))[0] == SCRIPT


def begin() -> None:
    """Prepare for the imports of a command; for the first line of a program.

    They take a part of a second, in which Python would print where it was interrupted: an interrupt ends the process
    with one word and code 130, until `take_interrupts`. A package that an extra brings ends it with a sentence and
    code 2.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _abort)
    sys.excepthook = _explain


def take_interrupts() -> None:
    """Let an interrupt raise `KeyboardInterrupt` again, if `begin` was called."""
    if signal.getsignal(signal.SIGINT) is _abort:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _abort(*_: object) -> None:
    """As click ends a command that is interrupted."""
    os.write(2, b"Aborted.\n")
    os._exit(130)


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from golden.common import extras

    sentence = extras.missing(error) if isinstance(error, ModuleNotFoundError) else None
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"Error: {sentence}", file=sys.stderr, flush=True)
    os._exit(2)  # an exception hook cannot choose the code otherwise
