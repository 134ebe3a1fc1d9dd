"""The bit-exact model of every unit: integer patterns in, integer patterns out, numpy only, vectorised.

Written from ``docs/numerics.md`` and ``docs/formats.md``. One function per unit, in the file of the unit's name. The first
axis of every array counts transactions in stream order.

======================================================================================================================
``delta_group.DeltaGroups``  frozen dataclass: ``exponent`` uint8[G] (codes), ``replay`` bool[G], ``digits`` int8[G, n],
                             ``outlier_valid`` bool[G, m], ``outlier_lane`` uint8[G, m], ``outlier_value`` uint16[G, m];
                             ``.dequantise() -> float64[G, n]`` (exact), ``.poisoned``, ``.zero``, ``[...]``, ``concatenate``
``outlier_selector(flags, values, parameters) -> Selection(valid, lane, value, rest)``
``delta_quantizer(values, parameters, *, by_group, first_pass, exponent, floor) -> Quantised(groups, vector, last,
                             next_exponent, overflow, residual, status)``; ``vector`` int[G]: which input made the group
``delta_quantizer.quantise_passes(values, parameters, passes, *, floor) -> DeltaGroups`` pass after pass, vector by vector
``int_float_multiplier(digits, weights, parameters) -> Product(negative, exponent, magnitude)`` or int array (aligned)
``float_multiplier(values, weights, parameters) -> Product`` or ``AlignedProduct(exponent, significand)``
``multiplier_group(groups, weights, parameters, *, scale, first, last) -> Sums(sum, poisoned, status)``; one row per ``last``
``multiplier_group.align_weights(weights, parameters) -> (int16[..., n], exponent int[...])``
``multiplier_group.channel_exponents(...)``, ``check_window(...)``: the compiler's proof that nothing overflows
``channel_scale(sums, poisoned, scale, lsb, parameters) -> Scaled(values, status)``
``sign_mask(groups, mask, parameters) -> DeltaGroups``; ``mask_values(values, mask)``, ``segment_mask(values, codes, slopes)``
``delta_compressor(groups, parameters, *, passes) -> words`` (list of int), ``delta_compressor.cost(groups, ...)`` bits by field
``delta_decompressor(words, parameters) -> Decoded(groups, error)``
``near_memory_engine(state, groups, parameters, *, address, last, refresh, bias, state_exponent, thresholds)
                             -> Update(state, address, mask, repairs, status)``; ``state`` int32[vectors, n]
``closed_loop.ClosedLoop`` the closed-loop update: norms, activations, Xhat
======================================================================================================================

``status`` is a dict of sticky bits by name. ``sum`` is a numpy int64, or an object array of Python integers above 63 bits.
"""
