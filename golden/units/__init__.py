"""The bit-exact model of every unit: integer patterns in, integer patterns out, numpy only, vectorised.

Written from ``docs/numerics.md`` and ``docs/formats.md``. One function per unit, in the file of the unit's name. The
first axis of every array counts transactions in stream order; G groups, V vectors, n lanes, m outlier slots.

``delta_group``
    ``DeltaGroups`` frozen dataclass: ``exponent`` uint8[G] (codes), ``replay`` bool[G], ``digits`` int8[G, n],
    ``outlier_valid`` bool[G, m], ``outlier_lane`` uint8[G, m], ``outlier_value`` uint16[G, m]; ``.zeros``, ``.poison``,
    ``.concatenate`` (constructors), ``[...]``, ``.replace``, ``.equals(other) -> bool[G]``, ``.check(parameters)``,
    ``.dequantise() -> float64[G, n]`` (exact), ``.fixed() -> int64[G, n]`` in units of 2^-24, ``.poisoned``, ``.zero``
``outlier_selector``
    ``outlier_selector(flags, values, parameters) -> Selection(valid, lane, value, rest)``
``delta_quantizer``
    ``delta_quantizer(values, parameters, *, by_group=True, first_pass=True, exponent=0, floor=0) -> Quantised(groups,
    vector, last, next_exponent, overflow, residual, status)``; ``vector`` int[G]: which input made the group;
    ``quantise_passes(values, parameters, passes, *, floor, by_group, exponent) -> Passes(groups, vector, last,
    status)``: vector by vector, its passes in order
``int_float_multiplier``
    ``int_float_multiplier(digits, weights, parameters) -> Product(negative, exponent, magnitude)``, int64 if aligned
``float_multiplier``
    ``float_multiplier(values, weights, parameters) -> Product``, or ``AlignedProduct(exponent, significand)``
``multiplier_group``
    ``multiplier_group(groups, weights, parameters, *, scale, first=True, last=True) -> Sums(sum, poisoned, status)``:
    one row per ``last``
``weights``
    ``align_weights(weights, parameters) -> (int32[..., n], exponent int64[...])``;
    ``compile_weights(weights[channels, groups, n], parameters, *, largest, passes, floor, lsb=None) ->
    Compiled(weights, scale, lsb, width, exact)``: aligns or checks, chooses ``L`` and proves the window; its parts
    ``check_weights``, ``channel_exponents``, ``window_widths``, ``check_window``, ``largest_dequantised``;
    ``product_exponent(unit, totals, parameters, *, passes) -> L`` of a product of the closed loop
``channel_scale``
    ``channel_scale(sums, poisoned, scale, lsb, parameters) -> formats.Halves(values, status)``
``sign_mask``
    ``sign_mask(groups, mask, parameters) -> DeltaGroups``; ``mask_values(values, mask) -> formats.Halves``;
    ``segment_mask(values, codes, slopes) -> formats.Halves``; ``mask_codes(state, parameters, *, thresholds)``;
    ``segments("silu" | "gelu", s) -> Segments(thresholds, slopes)``, ``.of(parameters, state_exponent)`` thresholds
``delta_compressor``
    ``delta_compressor(groups, parameters, *, passes=1) -> words`` (list of int); ``cost(groups, parameters, *, passes)
    -> Cost``: bits by field, ``.bits``; rivals in bits: ``list_bitmap_bits``, ``entropy_bits``
``delta_decompressor``
    ``delta_decompressor(words, parameters) -> Decoded(groups, error, status)``: one stream, malformed or not
``joint_stream``
    ``JointStream(parameters, width, floor)``: ``.quantise(values, exponent) -> groups, overflow`` with
    ``JointGroups(exponent, integers)``, ``.encode(groups) -> words``, ``.decode(words) -> JointGroups``,
    ``.first(groups) -> DeltaGroups``; golden only
``near_memory_engine``
    ``near_memory_engine(state, groups, parameters, *, address, last, refresh, bias, state_exponent, thresholds)
    -> Update(state, address, mask, repairs(address, lane, value), status)``; ``state`` int32[vectors, n]
``activations``
    ``activation("silu" | "gelu" | "exp", values) -> formats.Halves(values, status)``; ``table(name)``: FP16 to FP16
``single_norm``
    ``normalise(y, poisoned, norm, state_exponent)``, ``Norm(sets, gamma, beta, epsilon, centred)``: in binary32
``norm``
    Fixed point: ``coefficients(total, square, size, floor) -> Coefficients(mean, root, exponent)``, ``normalise(y,
    mean, root, exponent) -> u, overflow``, ``Affine.of(gain, shift, unit)``, ``affine(u, tables, top) -> z, overflow``
``activation_tables``
    ``apply("silu" | "gelu" | "erf_gelu", z, unit, result)``, ``table(name)``: fixed point to fixed point
``softmax``
    ``probabilities(y, root, exponent, unit)`` with ``log2_factor(scale, unit)``: rows of fixed point
``combine``
    ``combine(states, factors, top) -> y, overflow`` with ``Factors.of(factors, sources, unit)``; ``multiply``
``state_quantizer``
    ``quantise_state(differences, parameters, passes, *, poisoned) -> Passes``: integers to delta groups
``closed_loop``
    ``accumulate(state, delta, parameters, *, bias, poisoned)``, ``functions(name, z, unit, result)``, ``emit(x, xhat,
    parameters, passes, *, start) -> Emitted(groups, vector, last, xhat, status)``, ``align(values, parameters) ->
    Aligned(weights, exponent, poisoned)``

Patterns are uint16, or integers of 0 to 65535; floats are refused. ``formats.FLOAT16.from_floats(values)`` makes
patterns of floats. ``status`` is a dict of sticky bits by name. ``sum`` is int64, or an object array of Python integers
where the accumulator has more than 63 bits.
"""
