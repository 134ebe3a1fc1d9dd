"""Worker processes that never outlive the command that started them."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any


@contextlib.contextmanager
def pool(jobs: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Worker processes that end with the block and with this process, however that ends.

    What the workers started ends with them. An error or an interrupt in the block ends them at once.

    Parameters
    ----------
    jobs : int
        Number of processes; each imports the main module anew.
    """
    # Not forked: a progress bar runs in a thread of its own.
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    executor = _Executor(jobs, context, _follow, (theirs,))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        ours.close()
        raise
    finally:
        executor.shutdown()
        ours.close()
        theirs.close()


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes started in the block ignore interrupts, also while they start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Executor(concurrent.futures.ProcessPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """Submit as usual, which may start a process."""
        with _ignored_interrupts():
            return super().submit(*args, **kwargs)


def _follow(alive: Connection) -> None:
    """Begin a worker: it leads a group, and ends with it when the other end of the pipe is closed, by whatever."""
    os.setpgid(0, 0)

    def end(*_: object) -> None:
        os.killpg(0, signal.SIGKILL)

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.poll(None)
        end()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)  # of the executor, to the others when one worker has died
    threading.Thread(target=wait, daemon=True).start()
