"""Whole networks on exact numbers: their primitives are the units, and what floating point makes of the same."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.arithmetic import Arithmetic
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.exact import ExactArithmetic
from golden.diffusion.differential.method import METHODS, Method
from golden.diffusion.differential.open_loop import OpenLoop
from golden.diffusion.differential.profile import Profile, calibrate
from golden.diffusion.differential.quantise import Grouping, weight_numbers
from golden.diffusion.differential.run import executor, run
from golden.diffusion.layers import (
    Convolution,
    Linear,
    MatMul,
    Norm,
)
from golden.diffusion.networks import DiTConfig, Network, UNetConfig, dit, initial, stored, unet
from golden.diffusion.sampling import Sampling
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.near_memory_engine import near_memory_engine
from golden.units.weights import align_weights, compile_weights

pytestmark = pytest.mark.golden

MACHINE = Parameters(
    digit_width=4,
    lanes=8,
    outliers=0,
    fraction_bits=10,
    output_passes=3,
    memory_lanes=4,
    accumulator_width=32,
    state_width=24,
)
CLOSED = Method(machine=dataclasses.replace(MACHINE, state_width=18), early_passes=2)
RAW = Method(flow="raw", machine=MACHINE, early_passes=2)
UNET = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)
TWIN = dataclasses.replace(UNET, activation="silu")
DIT = DiTConfig(side=8, patch=2, width=24, blocks=2, heads=2, ratio=2, encoding=8)


def random(build, config) -> Network:
    rng = np.random.default_rng(1)
    start = build(config, initial(0)).parameters()
    return build(config, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))


NETWORKS = {"unet": (unet, UNET), "silu": (unet, TWIN), "dit": (dit, DIT)}


def machine(method: Method, **changes) -> Method:
    return dataclasses.replace(method, machine=dataclasses.replace(method.machine, **changes))


def sampled(network, how, steps, *, count=None, images=1):
    """Images after each of the first `count` steps."""
    found = []
    for step in Sampling(network, np.arange(images) % 10, steps).walk(how):
        found.append(step.image)
        if len(found) == count:
            break
    return np.stack(found)


def pair(network, method, steps, dtype=np.float64, **options):
    profile = calibrate(Sampling(network, [0], steps))
    forms = {"exact": True}, {"dtype": dtype}
    return [sampled(network, executor(network, method, profile, **form), steps, **options) for form in forms]


def psnr(a, b):
    with np.errstate(divide="ignore"):  # of equal images
        return -10 * np.log10(np.square((a - b).astype(np.float64)).mean() / 4)


def profile(**largest) -> Profile:
    return Profile(steps=1, largest=largest, deviation={}, overflow={})


# Against floating point ---------------------------------------------------------------------------------------------

REPLAY = dataclasses.replace(
    MACHINE, outliers=1, exponent_policy="layer", overflow_policy="replay", weight_form="float"
)
SATURATE = dataclasses.replace(MACHINE, exponent_policy="layer", output_passes=1)
FOLLOWS = {"overflow_policy": "replay"}
ONE_SCALE = Method(flow="raw", machine=MACHINE, tensor_scale=True)
OPEN = Method(flow="sign_mask", machine=MACHINE, norm="calibrated", early_passes=2)
PUBLISHED = dataclasses.replace(
    OPEN,
    machine=dataclasses.replace(SATURATE, outliers=1, weight_form="float"),
    attention="raw",
    early_passes=1,
    last_passes=1,
    input_passes=1,
)

WIDE = {
    "closed": (CLOSED, ("unet", "silu", "dit")),
    "closed, raw attention": (dataclasses.replace(CLOSED, attention="raw"), ("dit",)),
    "outliers": (machine(CLOSED, outliers=2), ("unet",)),
    "float weights": (machine(RAW, weight_form="float"), ("unet", "dit")),
    "raw": (RAW, ("unet", "dit")),
    "refresh": (dataclasses.replace(CLOSED, refresh=2), ("unet",)),
    "state of 16 bits": (machine(CLOSED, state_width=16), ("dit",)),
    "state of 20 bits": (machine(CLOSED, state_width=20), ("silu",)),
    "state of 24 bits": (machine(CLOSED, state_width=24), ("silu",)),
    "diffy": (dataclasses.replace(RAW, flow="diffy"), ("unet",)),
    "diffy, replay, float weights": (dataclasses.replace(RAW, flow="diffy", machine=REPLAY), ("unet", "dit")),
    "diffy, saturate": (
        Method(flow="diffy", machine=SATURATE, early_passes=1, last_passes=1, input_passes=1),
        ("unet",),
    ),
    "bfloat16": (machine(CLOSED, weight_format="bfloat16", fraction_bits=8), ("unet", "dit")),
    "bfloat16, float form": (
        machine(RAW, weight_form="float", outliers=1, weight_format="bfloat16", weight_exponent_min=-10),
        ("dit",),
    ),
    "one scale a tensor": (ONE_SCALE, ("unet", "dit")),
    "one scale a tensor, k = 8": (machine(ONE_SCALE, digit_width=8), ("unet",)),
    "open": (OPEN, ("unet", "silu", "dit")),
    "open, published": (PUBLISHED, ("unet", "silu", "dit")),
    "open, replay, passes": (dataclasses.replace(machine(PUBLISHED, **FOLLOWS), passes=2), ("unet",)),
    "open, outliers, repair": (machine(OPEN, outliers=2, flip_repair=True), ("unet",)),
    "open, current norms": (dataclasses.replace(OPEN, norm="current", passes=3), ("silu", "dit")),
    "open, raw attention": (dataclasses.replace(OPEN, attention="raw"), ("unet",)),
    "open, segments": (machine(OPEN, mask_width=3, mask_operand="values"), ("silu", "dit")),
    "open, refresh": (dataclasses.replace(OPEN, refresh=2), ("silu",)),
    "open, float16 state": (machine(OPEN, state_format="float16", flip_repair=True), ("unet", "dit")),
    "open, state of 16 bits": (machine(OPEN, state_width=16), ("dit",)),
}
"""Configurations, and the networks to run them on: every line takes another way through the arithmetic."""


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, (_, networks) in WIDE.items() for name in networks])
def test_bit_for_bit_where_no_accumulator_rounds(form, name):
    network = random(*NETWORKS[name])
    wide = machine(WIDE[form][0], accumulator_width=53)
    exact, double = pair(network, wide, 5, images=2)
    assert np.isfinite(exact).all()
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_bit_for_bit_on_the_shipped_networks(name):
    wide = machine(METHODS["closed-int4"][1], accumulator_width=53)
    exact, double = pair(zoo.load(name), wide, 6, count=2)
    np.testing.assert_array_equal(exact, double)


@pytest.mark.parametrize("name", ["unet", "unet-silu", "dit"])
def test_the_published_machine_is_what_floating_point_computes(name):
    # accumulators of 48 bits round, but far below FP16
    network, method = zoo.load(name), METHODS["paper"][1]
    exact = run(Sampling(network, [3], 6), method, exact=True)
    np.testing.assert_array_equal(exact.trajectory, run(Sampling(network, [3], 6), method).trajectory)


ROUNDED = {
    "closed-int4": METHODS["closed-int4"][1],
    "paper": machine(METHODS["paper"][1], accumulator_width=36),
}


@pytest.mark.parametrize("method", ROUNDED)
def test_where_accumulators_round_both_are_as_far_from_the_dense_network(method):
    # One sum rounded otherwise is one digit, and every layer multiplies it: no bound on single values can hold here.
    network, method = zoo.load("unet"), ROUNDED[method]
    exact, single = pair(network, method, 10, np.float32, count=2, images=2)
    dense = [step.image for step, _ in zip(Sampling(network, [0, 1], 10).walk(), range(2), strict=False)]
    for number in range(2):
        error = psnr(single[number], dense[number])
        assert abs(psnr(exact[number], dense[number]) - error) < 1
        assert psnr(exact[number], single[number]) > error - 1


class Both(ExactArithmetic):
    """Exact arithmetic that asks floating point too, from the same values, and keeps how far the two are apart.

    Members
    -------
    apart : dict
        By primitive: largest difference, in the unit that is natural to it.
    unequal : dict
        By primitive: share of values that differ.
    """

    def __init__(self, method, profile, wrong=""):
        super().__init__(method, profile)
        self._float = Arithmetic(method)
        self._wrong = wrong
        self._counts = {}
        self.apart = {}

    @property
    def unequal(self):
        return {name: different / total for name, (different, total) in self._counts.items()}

    def _note(self, name, exact, other, unit):
        difference = np.abs(exact.astype(np.float64) - other)
        self.apart[name] = max(self.apart.get(name, 0.0), float((difference / unit).max()))
        different, total = self._counts.get(name, (0, 0))
        self._counts[name] = different + np.count_nonzero(difference), total + difference.size

    def _mutated(self, name, values, unit):
        return (
            values + unit * (np.arange(values.size).reshape(values.shape) % 16 == 0) if self._wrong == name else values
        )

    def grid(self, value, s):
        exact = self._mutated("grid", super().grid(value, s), 2.0**s)
        self._note("grid", exact, self._float.grid(np.asarray(value, np.float32), s), 2.0**s)
        return exact

    def change(self, now, before=None):
        exact = self._mutated("change", super().change(now, before), 2.0**-24)
        self._note("change", exact, self._float.change(np.asarray(now), before), 2.0**-24)
        return exact

    def scaled(self, sums, layer, scale=None):
        exact = self._mutated("scaled", super().scaled(sums, layer, scale), 2.0**-24)
        self._note("scaled", exact, self._float.scaled(sums, layer, scale), 2.0**-24)
        return exact

    def sloped(self, function, state, values, s):
        exact = self._mutated("sloped", super().sloped(function, state, values, s), 2.0**-24)
        self._note("sloped", exact, self._float.sloped(function, state, values, s), 2.0**-24)
        return exact

    def quantise(self, difference, grouping, *, floor, **options):
        exact = super().quantise(difference, grouping, floor=floor, **options)
        values = self._mutated("quantise", exact.values, 2.0**floor)
        other = self._float.quantise(difference.astype(np.float32), grouping, floor=floor, **options)
        self._note("quantise", values, other.values, 2.0**floor)
        return dataclasses.replace(exact, values=values)

    def add(self, held, delta, s, *, terms=(), bias=None):
        exact = self._mutated("add", super().add(held, delta, s, terms=terms, bias=bias), 2.0**s)
        self._note("add", exact, self._float.add(held, delta.astype(np.float32), s, terms=terms, bias=bias), 2.0**s)
        return exact

    def outputs(self, change, layer, s, *, scale=None):
        exact = self._mutated("outputs", super().outputs(change, layer, s, scale=scale), 2.0**s)
        self._note("outputs", exact, self._float.outputs(change, layer, s, scale=scale), 2.0**s)
        return exact

    def product(self, layer, delta, segments=(), *, terms=()):
        exact = super().product(layer, delta, segments, terms=terms)
        return self._compared("product", exact, self._float.product(layer, delta.astype(np.float32), segments))

    def matmul(self, layer, a, b, *, right=False, terms=()):
        exact = super().matmul(layer, a, b, right=right, terms=terms)
        other = self._float.matmul(layer, a.astype(np.float32), b.astype(np.float32), right=right)
        return self._compared("matmul", exact, other)

    def _compared(self, name, exact, other):
        exact = self._mutated(name, exact, np.abs(exact).max() * 2.0**-9)
        self._note(name, exact, other, max(np.abs(exact).max(), 2.0**-24))
        return exact

    def near(self, layer, values):
        exact = super().near(layer, values)
        exact = self._mutated(layer.kind, exact, np.abs(exact).max() * np.float32(2.0**-18))
        self._note(layer.kind, exact, self._float.near(layer, values), np.abs(exact).max())
        return exact


def compared(name, method):
    network, method = zoo.load(name), METHODS[method][1]
    both = Both(method, calibrate(Sampling(network, [0], 6)))
    sampled(network, walked(network, method, both, 6), 6, count=2)
    return both


def walked(network, method, arithmetic, steps):
    flow = OpenLoop if method.flow == "sign_mask" else DeltaProducts
    return flow(network, method, calibrate(Sampling(network, [0], steps)), arithmetic)


APART = {"product": 2.0**-16, "matmul": 2.0**-13, "softmax": 2.0**-19}
"""Bounds on `Both.apart`, relative to the largest value: rounded accumulators, and a quotient not yet rounded."""


@pytest.mark.parametrize("name", ["unet", "unet-silu", "dit"])
@pytest.mark.parametrize("method", ["raw-int8", "paper"])
def test_each_primitive_within_its_bound(name, method):
    both = compared(name, method)
    own = {"outputs"} if method == "raw-int8" else {"change"}
    assert {"grid", "quantise", "add", "product", "matmul", "scaled", "softmax"} | own < set(both.apart)
    for primitive, apart in both.apart.items():
        assert apart <= APART.get(primitive, 0), primitive


@pytest.mark.parametrize(
    "wrong",
    ["grid", "quantise", "add", "product", "matmul", "scaled", "outputs", "softmax", "norm", "silu"]
    + ["change", "sloped"],
)
def test_a_wrong_rounding_is_seen(wrong):
    network = random(*NETWORKS["silu"])
    method = machine(OPEN, mask_width=2, mask_operand="values") if wrong in ("change", "sloped") else RAW
    right, both = (Both(method, calibrate(Sampling(network, [0], 3)), word) for word in ("", wrong))
    for arithmetic in (right, both):
        sampled(network, walked(network, method, arithmetic, 3), 3, count=2)
    bound = APART.get(wrong, 0)
    assert right.apart[wrong] <= bound < both.apart[wrong]


# Against the units --------------------------------------------------------------------------------------------------


def patterns_of(values):
    return np.asarray(values).astype(np.float16).view(np.uint16)


def padded(values, lanes):
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, lanes - values.shape[-1])])


STATE = -20
"""Unit of the states of `X`: 24 bits hold four times its largest magnitude."""

X = profile(x=3.0, y=3.0, layer=3.0)


BRAIN = {"weight_format": "bfloat16", "fraction_bits": 7}
WIDTHS = {
    "m0": (MACHINE, 20),
    "float": (REPLAY, 24),
    "m2": (dataclasses.replace(MACHINE, outliers=2), 20),
    "bfloat16": (dataclasses.replace(MACHINE, **BRAIN), 20),
    "float bfloat16": (dataclasses.replace(REPLAY, **BRAIN, weight_exponent_min=-126, weight_exponent_max=127), 54),
    "wide": (REPLAY, 54),
    "wider": (dataclasses.replace(REPLAY, weight_form="aligned"), 100),
}
"""Machines, and widths of their accumulators."""


@pytest.mark.parametrize("name", WIDTHS)
def test_product_is_the_multiplier_group(name):
    rng = np.random.default_rng(3)
    base, width = WIDTHS[name]
    base = dataclasses.replace(base, accumulator_width=width)
    weight = (rng.standard_normal((3, 14, 3, 3)) / 4).astype(np.float32)
    if base.weight_format == "bfloat16":
        weight = (weight.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    layer = Convolution("layer", ("x",), weight, padding=1)
    flow = "diffy" if base.replays else "raw"
    exact = ExactArithmetic(Method(flow=flow, machine=base), X)
    x = np.rint(rng.standard_normal((1, 14, 4, 4)) * 2.0**-STATE) * 2.0**STATE
    exponent = -2 if base.replays else None
    grouping = Grouping(-3, (5, 9), 8)  # a piece of one group and one of two
    sent = exact.quantise(x, grouping, passes=2, floor=STATE, exponent=exponent)
    found = exact.product(layer, sent.values, (5, 9), terms=sent.terms)

    edges = [(0, 5), (5, 13), (13, 14)]
    taps = list(np.ndindex(3, 3))
    patterns = np.stack([padded(weight[:, a:b, i, j], 8) for a, b in edges for i, j in taps], axis=1)
    if base.weight_format == "bfloat16":
        loaded = (patterns.view(np.uint32) >> 16).astype(np.uint16)
    else:
        loaded = patterns_of(patterns)
    proof = dataclasses.replace(base, exponent_policy="group")
    compiled = compile_weights(loaded, proof, largest=2.0 ** (STATE + 24), passes=3, floor=STATE + 24)
    assert compiled.exact.any() == name.startswith("wider")
    vectors = {
        (number, *place): quantise_passes(
            patterns_of(padded(x[:, a:b, *place], 8)),
            base,
            2,
            floor=STATE + 24,
            by_group=exponent is None,
            exponent=22,
        ).groups
        for number, (a, b) in enumerate(edges)
        for place in np.ndindex(4, 4)
    }
    assert base.outliers == 0 or any(groups.outlier_valid.any() for groups in vectors.values())
    for channel, y, z in np.ndindex(3, 4, 4):
        reads = [
            (9 * number + 3 * i + j, vectors[number, y + i - 1, z + j - 1])
            for number in range(3)
            for i, j in taps
            if (number, y + i - 1, z + j - 1) in vectors
        ]
        rows = np.concatenate([np.full(len(groups), row) for row, groups in reads])
        sums = multiplier_group(
            DeltaGroups.concatenate(groups for _, groups in reads),
            compiled.weights[channel, rows],
            base,
            scale=compiled.scale[channel, rows],
            first=np.arange(len(rows)) == 0,
            last=np.arange(len(rows)) == len(rows) - 1,
        )
        total = found[0, channel, y, z]
        if width <= 53:
            total = Fraction(float(total)) / Fraction(2) ** int(compiled.lsb[channel])
        assert total == int(sums.sum[0])


@pytest.mark.parametrize("changes", [{}, BRAIN, {"accumulator_width": 90}], ids=["float16", "bfloat16", "wide"])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_product_of_activations_is_the_multiplier_group(right, transposed, changes):
    rng = np.random.default_rng(4)
    base = dataclasses.replace(MACHINE, **{"accumulator_width": 20, **changes})
    layer = MatMul("layer", ("x", "y"), transposed=transposed, scale=0.3)
    exact = ExactArithmetic(Method(flow="raw", machine=base), X)
    a, b = (np.rint(rng.standard_normal((1, rows, 11)) * 2.0**-STATE) * 2.0**STATE for rows in (3, 4))
    delta, raw = (b, a) if right else (a, b)
    sent = exact.quantise(delta, Grouping(-1, (11,), 8), passes=2, floor=STATE)
    moved, terms = sent.values, sent.terms
    if not transposed:  # the right operand has the contracted axis before the last
        b = b.swapaxes(1, 2)
        if right:
            moved, terms = moved.swapaxes(1, 2), [term.swapaxes(1, 2) for term in terms]
    operands = (a.astype(np.float32), moved) if right else (moved, b.astype(np.float32))
    found = exact.matmul(layer, *operands, right=right, terms=terms)
    assert found.shape == (1, 3, 4)
    lsb = int(exact._lsb["layer"])
    for i, j in np.ndindex(3, 4):
        parts, weights, scales = [], [], []
        for start, stop in ((0, 8), (8, 11)):
            lanes = patterns_of(padded(delta[:, j if right else i, start:stop], 8))
            parts.append(quantise_passes(lanes, base, 2, floor=STATE + 24).groups)
            loaded = weight_numbers(padded(raw[0, i if right else j, start:stop], 8).astype(np.float32), base)
            brain = base.weight_format == "bfloat16"
            loaded = (loaded.view(np.uint32) >> 16).astype(np.uint16) if brain else patterns_of(loaded)
            integers, exponent = align_weights(loaded, base)
            weights += [integers] * 2
            scales += [int(exponent) - base.fraction_bits - lsb] * 2
        ends = np.arange(4) == 0, np.arange(4) == 3
        sums = multiplier_group(
            DeltaGroups.concatenate(parts), np.stack(weights), base, scale=scales, first=ends[0], last=ends[1]
        )
        found_sum = found[0, i, j] if base.accumulator_width > 53 else found[0, i, j] * 2.0**-lsb
        assert found_sum == int(sums.sum[0])
    change = exact.outputs(found, layer, STATE)
    factor = float(np.float16(0.3))
    real = found if base.accumulator_width <= 53 else found.astype(np.float64) * 2.0**lsb
    with_scale = (real * factor).astype(np.float16).astype(np.float64)
    assert np.abs(change - with_scale).max() <= 2.0 ** (STATE - 1)


@pytest.mark.parametrize("state_format", ["fixed", "float16"])
def test_state_is_the_near_memory_engine(state_format):
    rng = np.random.default_rng(5)
    base = dataclasses.replace(MACHINE, state_format=state_format, state_width=16)
    s, fixed = -11, state_format == "fixed"
    exact = ExactArithmetic(Method(flow="sign_mask", machine=base), profile(x=7.0, layer=7.0))
    layer = Linear("layer", ("x",), np.eye(8, dtype=np.float32), rng.standard_normal(8).astype(np.float32))
    x = (np.rint(rng.standard_normal((6, 8)) * 2.0**13) * 2.0**s).astype(np.float16).astype(np.float64)
    sent = exact.quantise(x, Grouping(-1, (8,), 8), passes=3, floor=-8)
    groups = quantise_passes(patterns_of(x), base, 3, floor=16 if fixed else 0)
    held = np.rint(rng.uniform(-1, 1, (6, 8)) * 2.0**15) * 2.0**s
    held = held if fixed else held.astype(np.float16).astype(np.float64)
    bias = np.rint(layer.bias * 2.0**-s).astype(np.int64) if fixed else patterns_of(layer.bias)
    for fresh in (False, True):
        found = exact.add(
            None if fresh else held.astype(np.float32),
            sent.values,
            s,
            terms=sent.terms,
            bias=exact.bias(layer, s) if fresh else None,
        )
        expected = near_memory_engine(
            (held * 2.0**-s).astype(np.int64) if fixed else patterns_of(held),
            groups.groups,
            base,
            address=groups.vector,
            last=groups.last,
            refresh=fresh,
            bias=bias if fresh else 0,
            state_exponent=s,
        )
        state = expected.state * 2.0**s if fixed else expected.state.astype(np.uint16).view(np.float16)
        np.testing.assert_array_equal(found, state)
        if fixed and not fresh:
            assert expected.status["overflow"]


def test_values_that_are_no_state_are_refused():
    exact = ExactArithmetic(RAW, X)
    with pytest.raises(ValueError, match=r"^Values must be finite in exact arithmetic"):
        exact.grid(np.array([np.nan]), STATE)
    with pytest.raises(ValueError, match=r"^Norm 'norm' must read a state, not values between its units$"):
        exact.near(Norm("norm", ("y",)), [np.full((1, 4), 1e-9, np.float32)])


def test_a_run_can_be_exact():
    network = random(*NETWORKS["unet"])
    found = run(Sampling(network, [3], 2), CLOSED, exact=True, measured=True)
    how = ClosedLoop(network, CLOSED, calibrate(Sampling(network, [0], 2)), exact=True)
    for step in Sampling(network, [3], 2).walk(how):
        expected = step.image
    np.testing.assert_array_equal(found.images, expected)
    assert found.images.dtype == np.float32
    assert found.measure.total(found.measure.outputs).bits > 0
    with pytest.raises(
        ValueError, match=r"^flow must be differential in exact arithmetic, not dense, which is binary32"
    ):
        run(Sampling(network, [3], 2), METHODS["dense"][1], exact=True)


def test_a_product_of_activations_that_leaves_its_window_is_refused():
    exact = ExactArithmetic(RAW, profile(x=3.0, y=3.0, layer=0.01))
    layer = MatMul("layer", ("x", "y"))
    with pytest.raises(ValueError, match=r"^accumulator_width must hold the sums of 'layer', with least bit 2\^-29$"):
        exact.matmul(layer, np.full((1, 1, 8), 1.0), np.full((1, 8, 1), 1.0))
