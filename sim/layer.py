"""A real convolution of the trained network through the units, in RTL, for consecutive steps.

The published dataflow (`sign_mask`): deltas of the layer's input are quantised and multiplied; the sums, scaled by the
norm that follows, are quantised in passes; those groups go through the compressed link to the near-memory engine, which
adds them to the state (the normalised output) and returns the masks with which the next step's groups become the next
layer's input.

Each unit runs on its emitted Verilog with the golden model's output of the unit before it as input, which is what that
unit itself sends as long as nothing differs; every value is compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golden.common import drawing
from golden.diffusion import zoo
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo import Recording
from golden.parameters import Parameters
from golden.units import delta_compressor as packing
from golden.units.channel_scale import channel_scale
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer, quantise_passes
from golden.units.multiplier_group import multiplier_group
from golden.units.near_memory_engine import near_memory_engine
from golden.units.sign_mask import mask_codes
from golden.units.weights import compile_weights
from hw import units
from sim.bench import Bench, Case
from sim.benches import channel_scale as scaling
from sim.benches import delta_quantizer as quantising
from sim.benches import multiplier_group as multiplying
from sim.benches import near_memory_engine as adding
from sim.benches import sign_mask as masking
from sim.benches.delta_compressor import Streams
from sim.result import Result
from sim.run import run

UNITS = (
    "delta_quantizer",
    "multiplier_group",
    "channel_scale",
    "sign_mask",
    "delta_compressor",
    "delta_decompressor",
    "near_memory_engine",
)
"""Units that take part, in the order of the data flow."""

_TOTAL = 50
"""Steps of a sampling."""


def recording(layer: str | None, first: int, last: int) -> Recording:
    """Values of a layer in steps ``first - 1`` to ``last - 1``: the shipped ones, or sampled now.

    Raises
    ------
    ValueError
        If the layer is unknown, is no convolution, or the steps are not within 1..50.
    """
    if not 1 <= first < last <= _TOTAL:
        raise ValueError(f"Steps must be a half-open range within 1:{_TOTAL} (step 0 is sent raw), not {first}:{last}")
    shipped = zoo.recorded()
    if layer is None or layer == shipped.layer:
        return shipped
    found = zoo.capture(Sampling(zoo.load("unet"), [3], _TOTAL), layer, first=first - 1, last=last, half=True)
    if found.kind != "convolution":
        raise ValueError(f"Layer must be a convolution, not the {found.kind} {layer!r}")
    return found


@dataclass(frozen=True)
class Step:
    """What happened in a step; shares and bits are over elements that are no padding.

    Members
    -------
    step : int
        Number, in order of execution.
    zero, inlier, outlier : float
        Shares of the input's digits.
    zero_groups : float
        Share of the input's groups that could be skipped.
    input_bits, input_list_bitmap, input_entropy : float
        Bits per element of the input's groups: compressed, in the published form, order-0 entropy of the digits.
    output_bits, output_list_bitmap, output_entropy : float
        The same of the output's groups, all passes.
    flips : int
        Elements whose mask changed.
    elements : int
        Elements of the output.
    psnr : float
        Of the layer's output (after norm, and ReLU where one follows) against the network's own, in dB; the peak is the
        reference's range.
    """

    step: int
    zero: float
    inlier: float
    outlier: float
    zero_groups: float
    input_bits: float
    input_list_bitmap: float
    input_entropy: float
    output_bits: float
    output_list_bitmap: float
    output_entropy: float
    flips: int
    elements: int
    psnr: float


@dataclass(frozen=True)
class Layer:
    """A layer ready to run.

    Members
    -------
    name : str
        Its name.
    followed_by : tuple of str
        What follows it.
    positions, all_positions : int
        Output positions taken part, and those there are.
    parameters : Parameters
        The machine.
    steps : tuple of Step
        By the golden model.
    cases : mapping of str to list of Case
        For each unit, step by step.
    """

    name: str
    followed_by: tuple[str, ...]
    positions: int
    all_positions: int
    parameters: Parameters
    steps: tuple[Step, ...]
    cases: Mapping[str, Sequence[Case]]

    def run(
        self,
        *,
        modes: Sequence[str] = ("none",),
        seed: int = 0,
        track: Callable[[Iterable[str]], Iterable[str]] = iter,
        folder: Path | None = None,
    ) -> list[Result]:
        """Run every unit on all steps.

        Raises
        ------
        SimulationError
            If a simulation cannot be built or breaks down.
        """
        results = []
        for name in track(UNITS):
            component = units.UNITS[name](self.parameters)
            memory = adding.MEMORY if name == "near_memory_engine" else None
            made = Bench(name, component, self.cases[name], groups_per_clock=0.0, memory=memory)
            where = None if folder is None else folder / name
            results.append(run(made, modes=modes, seed=seed, folder=where))
        return results


class _Geometry:
    """Which input vectors and weights make each output."""

    def __init__(self, found: Recording, parameters: Parameters, positions: int | None):
        _, batch, self.channels_in, height, width = found.inputs[0].shape
        self.channels_out, _, kernel, _ = found.weight.shape
        n = parameters.lanes
        self.groups_in = -(-self.channels_in // n)
        self.groups_out = -(-self.channels_out // n)
        out_height, out_width = found.output.shape[-2:]
        self.all_positions = batch * out_height * out_width
        wanted = self.all_positions if positions is None else min(positions, self.all_positions)
        # Evenly spread, so that edges and middle take part.
        self.chosen = np.arange(wanted) * self.all_positions // wanted
        image, rest = np.divmod(self.chosen, out_height * out_width)
        self.image = image
        self.pixel = rest
        self.taps: list[tuple[np.ndarray, np.ndarray]] = []
        for number, (y, x) in zip(image, zip(*np.divmod(rest, out_width), strict=True), strict=True):
            ky, kx = (part.reshape(-1) for part in np.meshgrid(*[np.arange(kernel)] * 2, indexing="ij"))
            iy, ix = y * found.stride + ky - kernel // 2, x * found.stride + kx - kernel // 2
            inside = (0 <= iy) & (iy < height) & (0 <= ix) & (ix < width)
            at = (number * height + iy[inside]) * width + ix[inside]
            lanes = np.arange(self.groups_in)
            vector = (at[:, None] * self.groups_in + lanes).reshape(-1)
            weight = ((ky * kernel + kx)[inside][:, None] * self.groups_in + lanes).reshape(-1)
            self.taps.append((vector, weight))
        self.valid_in = np.pad(np.ones(self.channels_in, bool), (0, self.groups_in * n - self.channels_in))
        self.valid_in = self.valid_in.reshape(self.groups_in, n)


def prepare(
    found: Recording, parameters: Parameters, first: int, last: int, *, positions: int | None = None, seed: int = 0
) -> Layer:
    """Run steps ``first`` to ``last - 1`` through the golden model and keep what each unit gets and gives.

    Parameters
    ----------
    found : Recording
        Holds these steps and the one before.
    parameters : Parameters
        The machine; its masks must be of digits.
    first, last : int
        Steps, half-open.
    positions : int, optional
        How many output positions take part, evenly spread; default all.
    seed : int
        Of what fills fields that do not matter.

    Raises
    ------
    ValueError
        If a step is not recorded, the layer is no convolution, or the machine masks values.
    """
    if parameters.mask_operand != "digits":
        raise ValueError(f"mask_operand must be digits for a layer run, not {parameters.mask_operand}")
    if found.kind != "convolution":
        raise ValueError(f"Layer must be a convolution, not the {found.kind} {found.layer!r}")
    if not found.plain:
        raise ValueError(f"Layer {found.layer!r} must pad half of an odd kernel, without dilation or groups")
    if positions is not None and positions < 1:
        raise ValueError(f"positions must be at least 1, not {positions}")
    recorded = found.steps.tolist()
    for step in (first - 1, last - 1):
        if step not in recorded:
            raise ValueError(f"Steps must be recorded from {first - 1} on, but step {step} is not")
    return _Preparation(found, parameters, positions, np.random.default_rng(seed)).layer(first, last)


class _Preparation:
    def __init__(self, found: Recording, parameters: Parameters, positions: int | None, random: np.random.Generator):
        self.found, self.parameters, self.random = found, parameters, random
        self.geometry = _Geometry(found, parameters, positions)
        self.by_group = parameters.exponent_policy == "group"
        self.rectified = "relu" in found.followed_by
        self.cases: dict[str, list[Case]] = {name: [] for name in UNITS}

    # The reference ---------------------------------------------------------------------------------------------------

    def _row(self, step: int) -> int:
        return self.found.steps.tolist().index(step)

    def _convolved(self, step: int) -> np.ndarray:
        """Output of the convolution with its bias and time shift, float64 (B, C, H, W)."""
        found = self.found
        image = found.inputs[0][self._row(step)].astype(np.float64)
        kernel = found.weight.shape[-1]
        padded = np.pad(image, ((0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
        windows = windows[:, :, :: found.stride, :: found.stride]
        result = np.einsum("bchwij,ocij->bohw", windows, found.weight.astype(np.float64), optimize=True)
        shift = 0.0 if found.bias is None else found.bias.astype(np.float64)[None, :]
        if found.shift is not None:
            shift = shift + found.shift[self._row(step)].astype(np.float64)
        return result + np.broadcast_to(shift, result.shape[:2])[:, :, None, None]

    def _statistics(self, convolved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and reciprocal deviation of each channel (B, C); 0 and 1 without a norm."""
        found = self.found
        if not found.norm_groups:
            return np.zeros(convolved.shape[:2]), np.ones(convolved.shape[:2])
        grouped = convolved.reshape(len(convolved), found.norm_groups, -1)
        spread = 1 / np.sqrt(grouped.var(axis=2) + found.norm_epsilon)
        repeat = convolved.shape[1] // found.norm_groups
        return np.repeat(grouped.mean(axis=2), repeat, axis=1), np.repeat(spread, repeat, axis=1)

    def _gamma(self) -> np.ndarray:
        return np.ones(self.geometry.channels_out) if self.found.norm_weight is None else self.found.norm_weight

    def _beta(self) -> np.ndarray:
        return np.zeros(self.geometry.channels_out) if self.found.norm_bias is None else self.found.norm_bias

    def _reference(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normalised output of the chosen positions as vectors (P * groups, n), and the statistics."""
        convolved = self._convolved(step)
        mean, spread = self._statistics(convolved)
        normal = (convolved - mean[:, :, None, None]) * spread[:, :, None, None]
        normal = normal * self._gamma()[None, :, None, None] + self._beta()[None, :, None, None]
        return self._vectors(normal), mean, spread

    def _vectors(self, values: np.ndarray) -> np.ndarray:
        """Chosen positions of (B, C, H, W) as vectors of n channels, padded with 0."""
        at = values.reshape(*values.shape[:2], -1)[self.geometry.image, :, self.geometry.pixel]
        return self._lanes(at)

    def _lanes(self, at: np.ndarray) -> np.ndarray:
        """(P, C) as (P * groups, n)."""
        n = self.parameters.lanes
        padding = self.geometry.groups_out * n - at.shape[1]
        return np.pad(at, ((0, 0), (0, padding))).reshape(-1, n)

    # The steps -------------------------------------------------------------------------------------------------------

    def layer(self, first: int, last: int) -> Layer:
        found, parameters, geometry = self.found, self.parameters, self.geometry
        deltas = {step: self._input_deltas(step) for step in range(first, last)}
        largest = max(float(np.abs(values.view(np.float16).astype(np.float64)).max()) for values in deltas.values())
        patterns = multiplying.weight_patterns(self._weights(), parameters)
        # Rounding to digits can enlarge a value by up to a half.
        self.compiled = compile_weights(patterns, parameters, largest=1.5 * largest)
        self.input_code = (
            0
            if self.by_group
            else multiplying.layer_exponent(np.concatenate(list(deltas.values())).view(np.float16), parameters)
        )
        self.output_code: int | None = None

        reference, mean, spread = self._reference(first - 1)
        reach = max(float(np.abs(self._reference(step)[0]).max()) for step in range(first - 1, last))
        # Twice the range that the reference needs, so that what builds up does not clamp.
        top = int(np.ceil(np.log2(2 * reach))) - (parameters.state_width - 1)
        self.s = max(top, -24) if parameters.state_format == "fixed" else -24
        state = self._state(reference)
        mask = mask_codes(state, parameters) if parameters.mask_width == 1 else None
        steps = []
        for step in range(first, last):
            reference, now_mean, now_spread = self._reference(step)
            # Calibrated statistics averaged over two steps, as published.
            factor = self._gamma() * (spread + now_spread) / 2
            drift = self._shift_of(step) - self._shift_of(step - 1) - (now_mean - mean)
            state, mask, made = self._step(step, deltas[step], factor, factor * drift, state, mask, reference)
            steps.append(made)
            mean, spread = now_mean, now_spread
        return Layer(
            name=found.layer,
            followed_by=found.followed_by,
            positions=len(geometry.chosen),
            all_positions=geometry.all_positions,
            parameters=parameters,
            steps=tuple(steps),
            cases=self.cases,
        )

    def _input_deltas(self, step: int) -> np.ndarray:
        now, then = (self.found.inputs[0][self._row(at)].astype(np.float32) for at in (step, step - 1))
        delta = np.clip(now - then, -65504, 65504).astype(np.float16)
        lanes = delta.transpose(0, 2, 3, 1).reshape(-1, self.geometry.channels_in)
        padding = self.geometry.groups_in * self.parameters.lanes - lanes.shape[1]
        return np.pad(lanes, ((0, 0), (0, padding))).reshape(-1, self.parameters.lanes).view(np.uint16)

    def _weights(self) -> np.ndarray:
        """(channels out, taps * groups in, n)."""
        weight = self.found.weight.astype(np.float16)
        outputs, inputs, kernel, _ = weight.shape
        padding = self.geometry.groups_in * self.parameters.lanes - inputs
        by_tap = np.pad(weight.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, padding)))
        return by_tap.reshape(outputs, kernel * kernel * self.geometry.groups_in, self.parameters.lanes)

    def _shift_of(self, step: int) -> np.ndarray:
        if self.found.shift is None:
            return np.zeros((self.found.inputs[0].shape[1], self.geometry.channels_out))
        return self.found.shift[self._row(step)].astype(np.float64)

    def _state(self, values: np.ndarray) -> np.ndarray:
        if self.parameters.state_format == "float16":
            return values.astype(np.float16).view(np.uint16).astype(np.int64)
        return np.round(values * 2.0**-self.s).astype(np.int64)

    def _real(self, state: np.ndarray) -> np.ndarray:
        if self.parameters.state_format == "float16":
            return state.astype(np.uint16).view(np.float16).astype(np.float64)
        return state * 2.0**self.s

    def _step(
        self,
        step: int,
        deltas: np.ndarray,
        factor: np.ndarray,
        drift: np.ndarray,
        state: np.ndarray,
        mask: np.ndarray,
        reference: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, Step]:
        parameters, geometry = self.parameters, self.geometry
        name = f"step {step}"

        # Input: one pass.
        options = {"by_group": self.by_group, "exponent": self.input_code}
        self.cases["delta_quantizer"].append(
            quantising.passes_case(f"{name}, inputs", parameters, deltas, 1, **options)
        )
        found = delta_quantizer(deltas, parameters, **options)
        sums = self._multiply(name, found.groups, found.vector)

        # Output: scaled by the norm, quantised in passes.
        n = parameters.lanes
        image = geometry.image
        lanes = self._lanes(sums)
        scale = self._lanes(factor[image]).astype(np.float16).view(np.uint16)
        lsb = self._lanes(np.broadcast_to(self.compiled.lsb, sums.shape))
        nothing = np.zeros(lanes.shape, bool)
        self.cases["channel_scale"].append(scaling.case(name, parameters, lanes, nothing, scale, lsb))
        values = channel_scale(lanes, nothing, scale, lsb, parameters).values
        floor = self.s + 24 if parameters.state_format == "fixed" else 0
        if self.output_code is None:
            self.output_code = (
                0 if self.by_group else max(multiplying.layer_exponent(values.view(np.float16), parameters), floor)
            )
        passes = parameters.output_passes
        options = {"by_group": self.by_group, "exponent": self.output_code, "floor": floor}
        self.cases["delta_quantizer"].append(
            quantising.passes_case(f"{name}, outputs", parameters, values, passes, **options)
        )
        quantised = quantise_passes(values, parameters, passes, **options)
        groups, vector, last = quantised.groups, quantised.vector, quantised.last

        # The next layer's input, by the masks that came with the step before.
        self.cases["sign_mask"].append(masking.group_case(name, groups, mask[vector].astype(bool), parameters))

        # The link.
        streams = [
            Streams(f"{name}, inputs", 1, [found.groups], [packing.delta_compressor(found.groups, parameters)]),
            Streams(
                f"{name}, outputs", passes, [groups], [packing.delta_compressor(groups, parameters, passes=passes)]
            ),
        ]
        for made in streams:
            words, payloads = {"i": made.word_payloads()}, {"i": made.group_payloads(parameters)}
            self.cases["delta_compressor"].append(
                Case(made.name, payloads, {"o": words["i"]}, {"passes": made.passes - 1})
            )
            self.cases["delta_decompressor"].append(
                Case(made.name, words, {"o": payloads["i"]}, {"passes": made.passes - 1})
            )

        # The state.
        bias = self._state(self._lanes(drift[image]))
        control = {
            "address": vector,
            "last": last,
            "refresh": np.zeros(len(groups), bool),
            "bias": bias[vector],
            "state_exponent": self.s,
        }
        self.cases["near_memory_engine"].append(
            adding.case(name, parameters, state, groups, **control, random=self.random, places=np.arange(len(state)))
        )
        update = near_memory_engine(state, groups, parameters, **control)
        new_mask = np.zeros_like(mask)
        new_mask[update.address] = update.mask
        return (
            update.state.astype(np.int64),
            new_mask,
            self._measure(step, found, groups, mask != new_mask, self._real(update.state), reference, n),
        )

    def _multiply(self, name: str, groups: DeltaGroups, vector: np.ndarray) -> np.ndarray:
        """Sums (P, C), and the case that makes them."""
        channels = self.geometry.channels_out
        counts = np.bincount(vector)
        starts = np.cumsum(counts) - counts
        rows, weights, outputs, first, last = [], [], [], [], []
        for vectors, weight in self.geometry.taps:
            # A vector with replays has several groups, which meet the same weights.
            of = np.repeat(np.arange(len(vectors)), counts[vectors])
            number = np.arange(len(of)) - np.repeat(np.cumsum(counts[vectors]) - counts[vectors], counts[vectors])
            row = starts[vectors][of] + number
            rows.append(np.tile(row, channels))
            weights.append(np.tile(weight[of], channels))
            outputs.append(np.repeat(np.arange(channels), len(row)))
            first.append(np.tile(np.arange(len(row)) == 0, channels))
            last.append(np.tile(np.arange(len(row)) == len(row) - 1, channels))
        rows, weights, outputs, first, last = map(np.concatenate, (rows, weights, outputs, first, last))
        control = {"scale": self.compiled.scale[outputs, weights], "first": first, "last": last}
        matrix = self.compiled.weights[outputs, weights]
        self.cases["multiplier_group"].append(multiplying.case(name, self.parameters, groups[rows], matrix, **control))
        found = multiplier_group(groups[rows], matrix, self.parameters, **control)
        return found.sum.reshape(-1, channels)

    def _measure(
        self,
        step: int,
        found: Any,
        groups: DeltaGroups,
        flipped: np.ndarray,
        values: np.ndarray,
        reference: np.ndarray,
        n: int,
    ) -> Step:
        parameters, geometry = self.parameters, self.geometry
        inputs = found.groups
        kept = ~inputs.replay
        valid = np.tile(geometry.valid_in, (int(kept.sum()) // geometry.groups_in, 1))
        outliers = int(inputs.outlier_valid.sum())
        elements_in = int(valid.sum())
        nonzero = int(((inputs.digits[kept] != 0) & valid).sum())
        real = self._lanes(np.ones((len(geometry.chosen), geometry.channels_out), bool))
        elements = int(real.sum())
        passes = parameters.output_passes
        output, target = (np.maximum(part, 0) if self.rectified else part for part in (values, reference))
        error = np.sqrt(np.mean((output[real] - target[real]) ** 2))
        peak = float(target[real].max() - target[real].min())
        share = 1 / elements_in
        return Step(
            step=step,
            zero=1 - (nonzero + outliers) * share,
            inlier=nonzero * share,
            outlier=outliers * share,
            zero_groups=float(inputs.zero.mean()),
            input_bits=packing.cost(inputs, parameters).bits * share,
            input_list_bitmap=packing.list_bitmap_bits(inputs, parameters) * share,
            input_entropy=packing.entropy_bits(inputs) * share,
            output_bits=packing.cost(groups, parameters, passes=passes).bits / elements,
            output_list_bitmap=packing.list_bitmap_bits(groups, parameters) / elements,
            output_entropy=packing.entropy_bits(groups, passes=passes) / elements,
            flips=int((flipped & real).sum()),
            elements=elements,
            psnr=float(20 * np.log10(peak / error)) if error else float("inf"),
        )


def plot(layer: Layer, path: Path) -> None:
    """Save a picture of the steps: shares of digits, bits an element, PSNR, and flipped masks, a panel each."""
    steps = [step.step for step in layer.steps]
    with drawing.figure(path, 1, 4, figsize=(16, 4.4)) as (figure, ((shares, bits, quality, flips),)):
        bottom = np.zeros(len(steps))
        for field, colour in drawing.DIGITS.items():
            heights = np.array([getattr(step, field) for step in layer.steps])
            shares.bar(steps, heights, bottom=bottom, label=field, color=colour)
            bottom += heights
        shares.set(title="digits of the input", ylabel="share", ylim=(0, 1))
        for field, style in (("bits", "-o"), ("list_bitmap", "--s"), ("entropy", ":^")):
            for side, colour in zip(("input", "output"), drawing.SIDES.values(), strict=True):
                values = [getattr(step, f"{side}_{field}") for step in layer.steps]
                bits.plot(steps, values, style, color=colour, label=f"{side}, {field.replace('_', ' + ')}")
        bits.set(title="compressed deltas", ylabel="bits of an element", ylim=(0, None))
        quality.plot(steps, [step.psnr for step in layer.steps], "-o", color="#222222")
        quality.set(title="output against the network", ylabel="PSNR, dB")
        flips.bar(steps, [100 * step.flips / step.elements for step in layer.steps], color="#52616b")
        flips.set(title="flipped masks", ylabel="% of elements")
        drawing.over_steps(shares, bits, quality, flips)
        drawing.legend(shares)
        drawing.legend(bits, 2)
        figure.suptitle(f"{layer.name}: {layer.positions} of {layer.all_positions} positions")
