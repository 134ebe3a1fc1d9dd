"""Per-channel scale of the array's sums, back to FP16. Source: ``docs/numerics.md``, section 8."""

from typing import Any

import numpy as np

from golden import formats
from golden.parameters import SCALE_WIDTH, Parameters


def channel_scale(
    sums: Any, poisoned: Any, scale: Any, lsb: Any, parameters: Parameters, *, shift: Any = None
) -> formats.Halves:
    """``RNE16(sum * 2^lsb * scale + shift)`` of every lane: one rounding, clamped to +-65504.

    Parameters
    ----------
    sums : int array (V, n)
        Accumulators, int64 or Python integers of W bits.
    poisoned : bool (V, n)
        Their flags.
    scale : uint16 (n,) or (V, n)
        FP16 patterns.
    lsb : int, or int (n,) or (V, n)
        ``L``: signed, 9 bits.
    parameters : Parameters
        Gives W.
    shift : uint16 (n,) or (V, n), optional
        FP16 patterns; the default is 0.

    Raises
    ------
    TypeError, ValueError
        If an array is of another type, a sum does not fit W bits or `lsb` is outside -256..255.
    """
    most, limit = 2 ** (parameters.accumulator_width - 1), 2 ** (SCALE_WIDTH - 1)
    sums = formats.integers("sums", sums, -most, most - 1)
    poisoned, scale = formats.flags("poisoned", poisoned), formats.patterns("scale", scale)
    lsb = formats.integers("lsb", lsb, -limit, limit - 1).astype(np.int64)
    sums, poisoned, scale, lsb = np.broadcast_arrays(sums, poisoned, scale, lsb)
    bad = poisoned | ~formats.is_finite(scale)
    if shift is not None:
        shift = np.broadcast_to(formats.patterns("shift", shift), sums.shape)
        bad = bad | ~formats.is_finite(shift)
    negative, exponent, significand = formats.FLOAT16.fields(scale)
    factor = np.where(bad, 0, np.where(negative, -significand, significand))
    dtype = np.int64 if formats.fits(sums, 51) else object
    total, unit = sums.astype(dtype) * factor.astype(dtype), lsb + exponent - 25
    if shift is not None:
        added = np.where(bad, 0, formats.half_to_fixed(np.where(bad, 0, shift))).astype(object)
        least = np.minimum(unit, formats.HALF_LSB)
        total = (total.astype(object) << (unit - least)) + (added << (formats.HALF_LSB - least))
        unit = least
    values, overflow = formats.encode_half(total, unit)
    return formats.Halves(
        np.where(bad, formats.HALF_NAN, values).astype(np.uint16),
        {"overflow": bool(overflow.any()), "poisoned": bool(bad.any())},
    )
