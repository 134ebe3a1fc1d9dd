"""How many threads BLAS takes: one where matrices are small, since its others only wait, and eat the processor's time.

Measured on two cores, of which others took one or two: a product of 2.4 million multiply-accumulates takes 0.04 ms on
one thread, and 14 ms on two of them, which meet at its end; one of 600 million 28 and 33 ms.
"""

import contextlib
import functools
from contextlib import AbstractContextManager

import threadpoolctl

SMALL = 500_000_000
"""Multiply-accumulates of a product below which more threads than one cost more than they give."""


def limited(largest: int) -> AbstractContextManager[object]:
    """One thread of BLAS while this lasts, if the largest product has fewer than `SMALL` multiply-accumulates."""
    return contextlib.nullcontext() if largest >= SMALL else _pools().limit(limits=1, user_api="blas")


@functools.cache
def _pools() -> threadpoolctl.ThreadpoolController:
    """Pools of this process; finding them takes a millisecond, limiting them 8 microseconds."""
    return threadpoolctl.ThreadpoolController()
