"""Settings for all tests; imported before any of them, and so before numpy."""

import os
import secrets
import signal

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
