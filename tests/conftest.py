"""Settings for all tests; imported before any of them, and so before numpy."""

import os

# The matrices here are small: a thread of OpenBLAS on every core only waits, all the longer the more tests run at once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
