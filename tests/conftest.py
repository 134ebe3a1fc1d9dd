"""Settings for all tests; imported before any of them, and so before numpy."""

import os
import re
import secrets
import signal
from pathlib import Path

import pytest

# The matrices here are small: a thread of OpenBLAS on every core only waits, all the longer the more tests run at once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tables as they are where there is no terminal, whoever starts the tests.
os.environ["COLUMNS"] = "160"
# A shell starts what runs in the background deaf to interrupts; commands that tests start hear them all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def fresh_seed(record_property):
    """A seed that differs from run to run; printed, and repeated by the environment's DRIFTLESS_SEED."""
    seed = int(os.environ.get("DRIFTLESS_SEED") or secrets.randbelow(1 << 16))
    record_property("seed", seed)
    print(f"DRIFTLESS_SEED={seed}")
    return seed


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark what ``by_name.txt`` lists as slow; a line of it that names no test of a file read whole is an error."""
    lines = [line for line in Path(__file__).with_name("by_name.txt").read_text().splitlines() if line[0] != "#"]
    found = set()
    for line in lines:
        named = re.compile(re.escape(line).replace(r"\*", ".*") + r"(\[.*\])?")
        for item in items:
            if named.fullmatch(item.nodeid):
                item.add_marker(pytest.mark.slow)
                found.add(line)
    if not any("::" in argument for argument in config.args):
        files = {item.nodeid.split("::")[0] for item in items}
        read = {line: line.split("::")[0] for line in lines if line not in found}
        lost = [line for line, file in read.items() if file in files or not (config.rootpath / file).exists()]
        if lost:
            raise pytest.UsageError(f"tests/by_name.txt names no test: {', '.join(lost)}")
