"""What networks beside those that draw ask of exact arithmetic: layers, weights, accumulators, against fractions."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.differential.arithmetic import Arithmetic, align
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.exact import ExactArithmetic, check_exact
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.differential.quantise import Grouping, weight_numbers
from golden.diffusion.differential.run import executor
from golden.diffusion.networks import Network
from golden.parameters import Parameters
from golden.units.weights import align_weights, channel_exponents, check_weights
from tests.golden.diffusion.layers.torch_cases import CONVOLUTIONS

pytestmark = pytest.mark.golden

MACHINE = Parameters(
    digit_width=4, lanes=8, outliers=0, fraction_bits=10, output_passes=3, memory_lanes=4, state_width=24
)
STATE = -20
"""Unit of the states of `PROFILE`: 24 bits hold four times its largest magnitude."""

PROFILE = Profile(steps=1, largest=dict.fromkeys(("x", "layer", "gathered"), 3.0), deviation={}, overflow={})


def exact(**changes) -> ExactArithmetic:
    return ExactArithmetic(Method(flow="raw", machine=dataclasses.replace(MACHINE, **changes)), PROFILE)


def states(rng, shape, scale=1.0):
    return (np.rint(rng.standard_normal(shape) * scale * 2.0**-STATE) * 2.0**STATE).astype(np.float32)


def nearest(value: Fraction, bits: int, least: int, top: int) -> Fraction:
    """Nearest number of a significand of so many bits, multiples of 2^least, up to the largest below 2^top."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value))) + 1  # of a float: Python rounds it correctly, powers of two are exact
    exponent += (abs(value) >= Fraction(2) ** exponent) - (abs(value) < Fraction(2) ** (exponent - 1))
    unit = Fraction(2) ** max(exponent - bits, least)
    limit = Fraction(2) ** top - Fraction(2) ** (top - bits)
    return max(-limit, min(limit, round(value / unit) * unit))  # Python rounds ties to even


def half(value: Fraction) -> Fraction:
    return nearest(value, 11, -24, 16)


def single(value: Fraction) -> Fraction:
    return nearest(value, 24, -149, 128)


def fractions(values):
    return [Fraction(float(value)) for value in np.asarray(values).ravel()]


# Layers -------------------------------------------------------------------------------------------------------------

OF_KIND = {
    "convolution": {"weight": np.ones((4, 4, 1, 1)), "bias": np.ones(4)},
    "linear": {"weight": np.ones((4, 4)), "bias": np.ones(4)},
    "norm": {"weight": np.ones(4), "bias": np.ones(4), "groups": 2},
    "add_constant": {"table": np.ones(4)},
    "move": {"pattern": "b c h w -> b (h w) c"},
    "embedding": {"weight": np.ones((4, 4))},
}
SECOND = {"add_channel": [(1, 4)], "gate": [(1, 4)], "modulate": [(1, 4)] * 2}
CONDITIONING = ("time_encoding", "embedding")
"""Kinds that numbers enter by, no images: they never depend on a network's first input."""


@pytest.mark.parametrize("kind", layers.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_layer_runs(kind):
    """One layer of each kind, between products, exact and in floating point: equal, as no accumulator rounds."""
    if kind.kind in CONDITIONING:
        assert len(kind("layer", ("x",), **OF_KIND.get(kind.kind, {})).contracted) == 0
        return
    rng = np.random.default_rng(1)
    shape = (1, 4, 4, 4)
    arguments = {
        name: value.astype(np.float32) * np.float32(0.75) if isinstance(value, np.ndarray) else value
        for name, value in OF_KIND.get(kind.kind, {}).items()
    }
    count = {"matmul": 2, "add": 2, "concat": 2, "multiply": 2}.get(kind.kind, 1)
    operands = ["x"] * count + [f"given{index}" for index in range(len(SECOND.get(kind.kind, [])))]
    inputs = {"x": shape[1:]} | {f"given{i}": one[1:] for i, one in enumerate(SECOND.get(kind.kind, []))}
    if kind.kind == "add_constant":
        arguments["table"] = np.full(shape[1:], 0.3, np.float32)
    made = kind("layer", tuple(operands), **arguments)
    width = made.shape(*[shape] * count, *SECOND.get(kind.kind, []))[-1]
    last = layers.Linear("out", ("layer",), rng.standard_normal((3, width)).astype(np.float32), np.zeros(3, np.float32))
    network = Network("one", inputs, [made, last], {})
    both_forms(network, rng, [rng.standard_normal(one).astype(np.float32) for one in SECOND.get(kind.kind, [])])


def both_forms(network, rng, given=()):
    """Run three steps exact and in floating point, and compare: equal, and near the dense network."""
    largest = dict.fromkeys(("x", "layer", "out"), 6.0)
    profile = Profile(steps=3, largest=largest, deviation={}, overflow={})
    method = Method(machine=dataclasses.replace(MACHINE, accumulator_width=53))
    runs = [executor(network, method, profile, **form) for form in ({"exact": True}, {"dtype": np.float64})]
    shape = (1, *network.inputs["x"])
    value = rng.standard_normal(shape)
    for step in range(3):
        value = value + rng.standard_normal(shape) * 0.2
        found = []
        for run in runs:
            run.begin_step(step, 3)
            found.append(network(value, *given, executor=run))
        np.testing.assert_array_equal(*found)
    dense = network(value, *given)
    assert np.abs(found[0] - dense).max() < 0.1 * np.abs(dense).max()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_every_convolution_runs(case):
    """Even kernels, strides, paddings, dilations and groups: of a grouped one the zeros between are multiplied too."""
    rng, how = np.random.default_rng(7), {**CONVOLUTIONS[case]}
    kernel, groups = how.pop("kernel"), how.get("groups", 1)
    how.pop("bias", None)
    weight = rng.standard_normal((6, 6 // groups, kernel, kernel)) * 0.5 / kernel
    made = layers.Convolution("layer", ("x",), weight.astype(np.float32), np.full(6, 0.25, np.float32), **how)
    last = layers.Convolution("out", ("layer",), rng.standard_normal((3, 6, 1, 1)).astype(np.float32))
    both_forms(Network("one", {"x": (6, 5, 7)}, [made, last], {}), rng)


def test_a_layer_without_a_rule_is_refused_by_name():
    class Cube(layers.Layer):
        def __call__(self, x):
            return x * x * x

    method = Method(machine=MACHINE)
    check_exact(method, Network("one", {"x": (4,), "t": ()}, [layers.TimeEncoding("time", ("t",))]))
    for layer, kind in ((layers.TimeEncoding("odd", ("x",)), "TimeEncoding"), (Cube("odd", ("x",)), "Cube")):
        with pytest.raises(ValueError, match=f"^Layer 'odd' must be of a class with a bit-exact rule, not {kind}$"):
            check_exact(method, Network("one", {"x": ()}, [layer]))


def test_the_exact_gelu_of_every_half():
    """Within 0.76 of a unit in the last place of x Phi(x); values between two halves as the nearer, clamped."""
    patterns = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = patterns[np.isfinite(patterns)].astype(np.float32)
    layer = layers.ErfGELU("layer", ("x",))
    for arithmetic in (exact(), Arithmetic(Method(flow="raw", machine=MACHINE))):
        found = arithmetic.near(layer, [x]).astype(np.float64)
        true = np.array([value / 2 * math.erfc(-value / math.sqrt(2)) for value in x.astype(np.float64)])
        unit = np.ldexp(1.0, np.maximum(np.frexp(np.abs(true))[1] - 11, -24))
        assert (np.abs(found - true) / unit).max() <= 0.76
        between = np.array([1 + 2.0**-11 - 2.0**-20, 1 + 3 * 2.0**-11, 70000.0, -70000.0], np.float32)
        expected = arithmetic.near(layer, [np.array([1, 1 + 2.0**-9, 65504, -65504], np.float32)])
        np.testing.assert_array_equal(arithmetic.near(layer, [between]), expected)


def test_rms_norm_against_fractions():
    rng = np.random.default_rng(2)
    arithmetic, weight = exact(), rng.standard_normal(11).astype(np.float32)
    layer = layers.Norm("layer", ("x",), weight=weight, epsilon=1e-3, centred=False)
    y = states(rng, (2, 3, 11))
    y[1, 2] = 0
    found = arithmetic.near(layer, [y])

    def between(value, true_square):
        """Whether the real root lies between the middles to the neighbours of a binary32."""
        low, high = (
            (Fraction(float(value)) + Fraction(float(np.nextafter(value, np.float32(side))))) / 2
            for side in (-np.inf, np.inf)
        )
        return low * low <= true_square <= high * high

    for item, row in np.ndindex(2, 3):
        values = fractions(y[item, row])
        square = sum(value * value for value in values) / 11 + Fraction(float(np.float32(1e-3)))
        near = np.float32(1 / math.sqrt(square))
        sides = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]
        (root,) = {Fraction(float(one)) for one in (near, *sides) if between(one, 1 / square)}
        expected = [single(single(v * root) * Fraction(float(g))) for v, g in zip(values, weight, strict=True)]
        assert fractions(found[item, row]) == expected


@pytest.mark.parametrize("format", ["24", "16", "half"])
@pytest.mark.parametrize("factor", [0, 2, 3])
def test_means_against_fractions(format, factor):
    """Through the executor: each pixel in the unit of its value, then one rounding of the quotient."""
    rng = np.random.default_rng(3)
    if factor:
        layer = layers.AveragePool("layer", ("x",), factor=factor)
    else:
        layer = layers.Mean("layer", ("x",))
    network = Network("one", {"x": (2, 7, 8)}, [layer], {})
    if format == "half":
        method = Method(flow="diffy", machine=MACHINE)
    else:
        method = Method(flow="raw", machine=dataclasses.replace(MACHINE, state_width=int(format)))
    s = PROFILE.state_exponent("x", method.machine.state_width)
    x = rng.standard_normal((3, 2, 7, 8)).astype(np.float32)  # no states: nothing was rounded yet
    x[1] *= 2.0**-12

    def pixel(value):
        if format == "half":
            return half(value)
        return round(value * Fraction(2) ** -s) * Fraction(2) ** s

    for form in (ExactArithmetic(method, PROFILE), Arithmetic(method)):
        run = DeltaProducts(network, method, PROFILE, form)
        run.begin_step(0, 1)
        found = network(x, executor=run)
        side = factor or 8
        for index in np.ndindex(found.shape):
            rows, columns = (
                (slice(side * i, side * (i + 1)) for i in index[2:]) if factor else (slice(None), slice(None))
            )
            pixels = [pixel(value) for value in fractions(x[*index[:2], rows, columns])]
            assert Fraction(float(found[index])) == pixel(sum(pixels) / len(pixels))


def test_a_norm_can_read_a_mean():
    rng = np.random.default_rng(4)
    found = [
        layers.AveragePool("layer", ("x",), factor=3),
        layers.Norm("norm", ("layer",), np.ones(4, np.float32), np.zeros(4, np.float32), groups=2),
    ]
    network = Network("one", {"x": (4, 6, 6)}, found, {})
    method = Method(flow="raw", machine=MACHINE)
    run = DeltaProducts(network, method, PROFILE, ExactArithmetic(method, PROFILE))
    run.begin_step(0, 1)
    x = rng.standard_normal((1, 4, 6, 6))
    np.testing.assert_allclose(network(x, executor=run), network(x), atol=1e-4)


# Weights ------------------------------------------------------------------------------------------------------------


MACHINES = [
    dataclasses.replace(MACHINE, weight_format=format, weight_form=form, weight_exponent_min=least)
    for format, least in (("float16", -14), ("float16", -9), ("bfloat16", -126), ("bfloat16", -9))
    for form in ("float", "aligned")
]


def str_of(machine):
    return f"{machine.weight_format} {machine.weight_form} from {machine.weight_exponent_min}"


@pytest.mark.parametrize("machine", MACHINES, ids=str_of)
def test_weights_against_fractions(machine):
    rng = np.random.default_rng(5)
    bits, low, top = (11, -24, 16) if machine.weight_format == "float16" else (8, -133, 128)
    values = np.ldexp(rng.standard_normal(3000), rng.integers(-30, 17, 3000)).astype(np.float32)
    values[:6] = [0, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 2.0**-10, np.nextafter(np.float32(2**-9), 0)]
    values[6:10] = [1e38, -3.4e38, 1e-39, -(2.0**-25)]
    least = Fraction(2) ** machine.weight_exponent_min
    for value, found in zip(fractions(values), fractions(weight_numbers(values, machine)), strict=True):
        expected = nearest(value, bits, low, top)
        subnormals = machine.weight_exponent_min <= low + bits - 1
        if machine.weight_form == "float" and not subnormals and abs(value) < least:
            expected = Fraction(0) if 2 * abs(value) <= least else least * (1 if value > 0 else -1)
        assert found == expected


def patterns(values, machine):
    values = np.asarray(values, np.float32)
    if machine.weight_format == "float16":
        return values.astype(np.float16).view(np.uint16)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("machine", MACHINES, ids=str_of)
def test_weights_are_those_of_the_units(machine):
    """What floating point multiplies by is what the compiler loads, and nothing within the range is refused."""
    rng = np.random.default_rng(6)
    values = np.ldexp(rng.standard_normal((5, 3, 8)), rng.integers(-20, 8, (5, 3, 8))).astype(np.float32)
    values[0, 0] = 0
    numbers = weight_numbers(values, machine)
    if machine.weight_form == "float":
        check_weights(patterns(numbers, machine), machine)
    else:
        integers, exponent = align_weights(patterns(numbers, machine), machine)
        expected = np.ldexp(integers.astype(np.float64), (exponent - machine.fraction_bits)[..., None])
        np.testing.assert_array_equal(align(values, -1, machine), expected)


def test_weights_beyond_the_declared_range_are_refused():
    machine = dataclasses.replace(MACHINE, weight_form="float", weight_exponent_max=2)
    layer = layers.Linear("layer", ("x",), np.full((1, 4), 9, np.float32), np.zeros(1, np.float32))
    arithmetic = ExactArithmetic(Method(flow="raw", machine=machine), PROFILE)
    sentence = r"^Weights must be zero or have exponents in -14\.\.2 and be multiples of 2\^-24"
    with pytest.raises(ValueError, match=sentence):
        arithmetic.product(layer, np.ones((1, 4)))
    with pytest.raises(ValueError, match=sentence):
        arithmetic.matmul(layers.MatMul("layer", ("x", "x")), np.ones((1, 1, 4)), np.full((1, 4, 1), 9.0))


# One scale for a tensor ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [32, 72])
@pytest.mark.parametrize("k", [2, 5, 8])
def test_one_scale_for_a_tensor_against_fractions(k, width):
    rng = np.random.default_rng(k)
    machine = dataclasses.replace(MACHINE, digit_width=k, accumulator_width=width)
    arithmetic = ExactArithmetic(Method(machine=machine, flow="raw", tensor_scale=True), PROFILE)
    weight = (rng.standard_normal((3, 11)) / 4).astype(np.float32)
    layer = layers.Linear("layer", ("x",), weight, np.zeros(3, np.float32))
    x = states(rng, (4, 2, 11))
    x[3] = 0
    top = Fraction(2 ** (k - 1) - 1)
    x[2] = np.arange(22).reshape(2, 11) * np.float32(2.0**STATE)  # ties
    sent = arithmetic.quantise(x, Grouping(-1, (11,), 8), passes=1, floor=STATE, tensor_scale=True)
    change = arithmetic.product(layer, sent.terms[0], terms=sent.terms)
    found = arithmetic.outputs(change, layer, STATE, scale=sent.scale)
    assert sent.scale.dtype == np.float32

    padded = np.zeros((3, 2, 8), np.float32)
    padded[:, 0], padded[:, 1, :3] = weight[:, :8], weight[:, 8:]
    loaded = padded.astype(np.float16).view(np.uint16)
    lsb = channel_exponents(loaded, machine, largest=float(top), floor=24)
    integers, exponent = align_weights(loaded, machine)
    for item in range(4):
        scale = single(max(max(abs(value) for value in fractions(x[item])), Fraction(2) ** -24) / top)
        assert Fraction(float(sent.scale[item].item())) == scale
        for row in range(2):
            digits = [round(value / scale) for value in fractions(x[item, row])]
            assert sent.terms[0][item, row].tolist() == digits
            assert fractions(sent.values[item, row]) == [digit * scale for digit in digits]
            for channel in range(3):
                unit, total = Fraction(2) ** int(lsb[channel]), 0
                for group, lanes in enumerate((digits[:8], digits[8:])):
                    aligned = Fraction(2) ** int(exponent[channel, group] - 10)
                    sums = sum(int(a) * q for a, q in zip(integers[channel, group], lanes, strict=False))
                    total += round(sums * aligned / unit)
                assert abs(total) < 2 ** (width - 1)
                true = half(total * unit * scale)
                assert Fraction(float(found[item, row, channel])) == round(true * 2**20) * Fraction(2) ** STATE


def test_a_product_of_activations_takes_what_its_readers_hold():
    rng = np.random.default_rng(9)
    network = Network("one", {"x": (3, 4)}, [layers.MatMul("layer", ("x", "x"), transposed=True)], {})
    method = Method(machine=MACHINE, flow="raw", tensor_scale=True)
    arithmetic = ExactArithmetic(method, PROFILE)
    run = DeltaProducts(network, method, PROFILE, arithmetic)
    run.begin_step(0, 1)
    x = states(rng, (1, 3, 4))
    found = network(x, executor=run)
    sent = arithmetic.quantise(x, Grouping(-1, (4,), 8), passes=1, floor=STATE, tensor_scale=True)
    held = np.array([round(value * 2**20) * 2.0**STATE for value in fractions(sent.values)], np.float32)
    held = held.reshape(x.shape)
    expected = arithmetic.matmul(network.layers[0], held, held)
    np.testing.assert_array_equal(found, arithmetic.outputs(expected, network.layers[0], STATE))
