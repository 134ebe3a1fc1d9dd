"""Bench of `hw.arith.FloatMultiply`: FP16 against SoftFloat, BF16 against exact products in binary64."""

import dataclasses
from collections.abc import Callable

import numpy as np
import softfloatpy
from amaranth.lib import wiring

from golden.parameters import Parameters
from hw.arith import float as arith
from sim import bench as benches
from sim import stimuli
from sim.bench import Bench, Case, Request

_SPECIAL = np.array([0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01, 0xFFFF], np.uint16)


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """The other format."""
    return {
        "bfloat16": dataclasses.replace(
            parameters,
            weight_form="float",
            weight_format="bfloat16",
            weight_exponent_min=-14,
            weight_exponent_max=15,
        )
    }


def bench(request: Request) -> Bench:
    """At least a million products with full vectors, in the format of the machine's weights."""
    return arithmetic(request, "float_multiply", arith.FloatMultiply, softfloatpy.f16_mul, np.multiply)


def arithmetic(
    request: Request,
    name: str,
    component: Callable[..., wiring.Component],
    soft: Callable[[softfloatpy.Float16, softfloatpy.Float16], softfloatpy.Float16],
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Bench:
    """Bench of an operation on two floats.

    Parameters
    ----------
    request : Request
        Its ``weight_format`` chooses the format.
    name : str
        Of the bench.
    component : class
        The unit, made from a format.
    soft : function
        The operation in SoftFloat.
    exact : function
        The operation on float64 arrays, exact or so close that rounding the result to BF16 is right.
    """
    half = request.parameters.weight_format == "float16"
    random = request.generator()
    infinity = 0x7C00 if half else 0x7F80
    a, b = _operands(request, half, infinity, random)
    value = _soft(a, b, soft) if half else _bfloat16(exact, a, b)
    finite = (a & infinity != infinity) & (b & infinity != infinity)
    overflow = finite & (value & 0x7FFF == infinity)
    form = arith.FLOAT16 if half else arith.BFLOAT16
    unit = benches.component(component, form, depth=request.parameters.pipeline_depth)
    case = Case("all kinds", {"i": {"a": a, "b": b}}, {"o": {"value": value, "overflow": overflow}})
    return Bench(name, unit, [case])


def _operands(
    request: Request, half: bool, infinity: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    count = request.count(4_000, 1_050_000)
    corners = np.concatenate([stimuli.CORNERS, _SPECIAL]) if half else _bfloat16_corners()
    # A single bit beside what is no number: whether all others are looked at before a factor counts as zero.
    bits = np.array([sign | 1 << bit for sign in (0, 0x8000) for bit in range(15)], np.uint16)
    special = corners[corners & infinity == infinity]
    pairs = [np.meshgrid(*both, indexing="ij") for both in ((corners, corners), (special, bits), (bits, special))]
    a = random.integers(0, 1 << 16, count, np.uint16)
    b = random.integers(0, 1 << 16, count, np.uint16)
    # Strata: anything; near exponents (cancellation, ties); a corner; results about the subnormal and largest numbers.
    width = 10 if half else 7
    bias = 15 if half else 127
    kind = np.arange(count) % 8
    step = random.integers(-width - 3, width + 4, count)
    field = a >> width & (31 if half else 255)
    near = np.clip(field.astype(np.int64) + step, 0, 31 if half else 255).astype(np.uint16)
    inverse = np.clip(random.choice([bias, 3 * bias], count) - field + step, 0, 31 if half else 255).astype(np.uint16)
    rest = np.uint16(0x8000 | (1 << width) - 1)
    b = np.where(kind < 3, b & rest | near << width, b)
    b = np.where(kind == 3, b & rest | inverse << width, b)
    sparse = random.choice([0x0000, 0x0001, (1 << width) - 1, 1 << width - 1], count).astype(np.uint16)
    a = np.where(kind == 4, a & ~np.uint16((1 << width) - 1) | sparse, a)
    b = np.where(kind == 5, random.choice(corners, count), b)
    b = np.where(kind == 6, a ^ random.choice([0, 0x8000, 0x8001, 1], count).astype(np.uint16), b)
    pairs.append((a, b))
    first, second = (np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*pairs, strict=True))
    return first.astype(np.uint16), second.astype(np.uint16)


def _bfloat16_corners() -> np.ndarray:
    positive = [0x0000, 0x0001, 0x007F, 0x0080, 0x0081, 0x3F7F, 0x3F80, 0x3F81, 0x3FC0, 0x4000, 0x4380, 0x7F7F, 0x7F00]
    positive += [0x7F80, 0x7FC0, 0x7F81]
    return np.array(positive + [pattern | 0x8000 for pattern in positive], np.uint16)


def _soft(a: np.ndarray, b: np.ndarray, soft: Callable) -> np.ndarray:
    softfloatpy.set_rounding_mode(softfloatpy.RoundingMode.NEAR_EVEN)
    # SoftFloat's objects take big-endian bytes; each pattern is made once.
    table = [softfloatpy.Float16.from_bytes(pattern.to_bytes(2, "big")) for pattern in range(1 << 16)]
    results = [soft(table[x], table[y]).to_bytes() for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    return np.frombuffer(b"".join(results), ">u2").astype(np.uint16)


def _bfloat16(exact: Callable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # A product of two BF16 numbers is exact in binary64. So is a sum, unless the exponents lie more than 45 apart; then
    # what binary64 drops is far below half a step of the larger number, and no tie: the rounding is right all the same.
    with np.errstate(all="ignore"):
        wide = [(part.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for part in (a, b)]
        result = exact(*wide)
    magnitude = np.abs(result)
    finite = np.isfinite(result)
    exponent = np.frexp(np.where(finite, magnitude, 1.0))[1] - 1
    unit = np.exp2(np.maximum(exponent, -126) - 7.0)
    rounded = np.round(np.where(finite, magnitude, 0.0) / unit) * unit  # to nearest, ties to even
    rounded = np.where(rounded >= 2.0**128, np.inf, rounded)
    patterns = np.where(finite, rounded, np.where(np.isnan(result), 0.0, np.inf)).astype(np.float32).view(np.uint32)
    patterns = (patterns >> 16).astype(np.uint16) | (np.signbit(result).astype(np.uint16) << 15)
    return np.where(np.isnan(result), 0x7FC0, patterns).astype(np.uint16)
