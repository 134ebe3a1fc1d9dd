"""Bench of `hw.arith.FloatAdd`: FP16 against SoftFloat, BF16 against sums in binary64."""

import numpy as np
import softfloatpy

from hw.arith import float as arith
from sim.bench import Bench, Request
from sim.benches import float_multiply

variants = float_multiply.variants


def bench(request: Request) -> Bench:
    """At least a million sums with full vectors, in the format of the machine's weights."""
    return float_multiply.arithmetic(request, "float_add", arith.FloatAdd, softfloatpy.f16_add, np.add)
