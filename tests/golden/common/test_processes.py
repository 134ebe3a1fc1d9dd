import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from golden.common import processes

pytestmark = pytest.mark.golden

ROOT = Path(__file__).parents[3]

# Each worker starts a process of its own and waits for it.
WORK = """
import subprocess, sys
from golden.common import processes

def work(number):
    child = subprocess.Popen(["sleep", "60"])
    print("started", flush=True)
    child.wait()

if __name__ == "__main__":
    with processes.pool(2) as pool:
        list(pool.map(work, range(2)))
"""


def marked(mark):
    """Processes with an environment variable, by their commands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            pass  # it ended meanwhile
    return found


def within(seconds, condition):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_remains_of_a_killed_command(tmp_path, kind):
    program = tmp_path / "work.py"
    program.write_text(WORK)
    mark = f"{os.getpid()}-{kind}"
    environment = {**os.environ, "MARK": mark, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": environment}
    with subprocess.Popen([sys.executable, program], **options) as main:
        assert [main.stdout.readline() for _ in range(2)] == [b"started\n"] * 2
        # a process that has just begun shows its environment a moment later
        assert within(10, lambda: sum("sleep" in command for command in marked(mark)) == 2)
        main.send_signal(kind)
        main.wait(30)
        assert within(10, lambda: not marked(mark))
        assert main.stdout.read() == b""  # nobody holds it any more


def test_results_and_errors_come_back():
    with processes.pool(2) as pool:
        assert list(pool.map(abs, [-3, 4])) == [3, 4]
    with pytest.raises(TypeError, match="bad operand"), processes.pool(1) as pool:
        pool.submit(abs, "x").result()
    with pytest.raises(RuntimeError, match="^here$"), processes.pool(1) as pool:
        pool.submit(time.sleep, 60)
        raise RuntimeError("here")
