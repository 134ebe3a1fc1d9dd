"""Bench of `near_memory_engine`: a memory with pauses, clamping, poison, refresh, hazards and recorded deltas."""

import dataclasses
from typing import Any

import numpy as np
from amaranth.lib import data

from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer
from golden.units.near_memory_engine import near_memory_engine, poison_code
from hw import payloads
from hw.units import NearMemoryEngine
from sim import stimuli
from sim.bench import Bench, Case, Memory, Request, component
from sim.benches.multiplier_group import layer_exponent
from sim.player import MemoryPorts
from sim.vectors import group_values, number

MEMORY = MemoryPorts("read_request", "read_data", "write")


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Flip repair, FP16 state, segment masks, a narrow state, replay, memory words of one element and of the vector."""
    layer = dataclasses.replace(parameters, exponent_policy="layer", output_passes=1)
    sign = dataclasses.replace(parameters, mask_width=1, flip_repair=True)
    return {
        "flip repair": sign,
        "float16": dataclasses.replace(parameters, state_format="float16", flip_repair=False),
        "float16, flip repair": dataclasses.replace(sign, state_format="float16"),
        "segment mask": dataclasses.replace(parameters, mask_width=3, mask_operand="values", flip_repair=False),
        "narrow": dataclasses.replace(sign, state_width=16, memory_lanes=1),
        "replay": dataclasses.replace(layer, overflow_policy="replay", outliers=max(parameters.outliers, 1)),
        "whole vectors": dataclasses.replace(sign, memory_lanes=parameters.lanes),
    }


def case(
    name: str,
    parameters: Parameters,
    state: np.ndarray,
    groups: DeltaGroups,
    *,
    address: np.ndarray,
    last: np.ndarray,
    refresh: np.ndarray,
    bias: np.ndarray,
    state_exponent: int,
    random: np.random.Generator,
    places: np.ndarray | None = None,
    **options: Any,
) -> Case:
    """Groups for the vectors `state`, which lie at `places` in memory (default: scattered), with golden's answer."""
    thresholds: dict[str, Any] = {}
    settings = {"state_exponent": state_exponent + 24}
    if parameters.mask_width > 1:
        thresholds["thresholds"] = _thresholds(parameters, random)
        shape = data.ArrayLayout(payloads.state_element(parameters), 2**parameters.mask_width - 1)
        settings["thresholds"] = number(shape, thresholds["thresholds"])
    found = near_memory_engine(
        state,
        groups,
        parameters,
        address=address,
        last=last,
        refresh=refresh,
        bias=bias,
        state_exponent=state_exponent,
        **thresholds,
    )
    words = parameters.words_per_vector
    if places is None:
        # Memory has no word for the highest bits of a vector's address, which are passed on all the same.
        places = random.choice(1 << 20, len(state), replace=False) + ((1 << 32) // words - (1 << 20))
        places += (1 << 32) // words * random.integers(0, words, len(state))
    # Only a vector's first group says where, refresh and bias: the others carry junk.
    first = np.concatenate([[True], last[:-1]])
    inputs = {
        "last": last,
        "refresh": np.where(first, refresh, random.integers(0, 2, len(groups)) > 0),
        "address": np.where(first, places[address], random.integers(0, 1 << 20, len(groups))),
        "group": group_values(groups, parameters),
        "bias": np.where(first[:, None], bias, random.permutation(bias)),
    }
    outputs = {"o": {"address": places[found.address], "mask": found.mask}}
    if parameters.flip_repair:
        repairs = found.repairs
        outputs["repairs"] = {
            "address": places[repairs.address],
            "lane": repairs.lane,
            "value": repairs.value,
        }
    memory = Memory(
        address=(places[:, None] * words + np.arange(words)).reshape(-1) % (1 << 32),
        before=state.reshape(len(state) * words, -1),
        after=found.state.reshape(len(state) * words, -1),
    )
    return Case(name, {"i": inputs}, outputs, settings, found.status, memory, **options)


def _thresholds(parameters: Parameters, random: np.random.Generator) -> np.ndarray:
    count = 2**parameters.mask_width - 1
    if parameters.state_format == "fixed":
        return np.sort(random.integers(-5000, 5000, count))
    return np.sort(random.normal(size=count)).astype(np.float16).view(np.uint16)


def _state(parameters: Parameters, random: np.random.Generator, count: int, reach: float) -> np.ndarray:
    shape = (count, parameters.lanes)
    if parameters.state_format == "float16":
        values = stimuli.halves(random, shape)
        small = (random.normal(size=shape) * reach).astype(np.float16).view(np.uint16)
        return np.where(random.uniform(size=shape) < 0.3, values, small).astype(np.int64)
    top = 2 ** (parameters.state_width - 1) - 1
    return np.clip(np.round(random.normal(size=shape) * reach * top), -top, top).astype(np.int64)


def _bias(parameters: Parameters, random: np.random.Generator, count: int, reach: float) -> np.ndarray:
    zero = random.uniform(size=(count, 1)) < 0.5
    return np.where(zero, 0, _state(parameters, random, count, reach))


def _stream(random: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """`last` of vectors of 1 to `longest` groups."""
    last = np.zeros(count, bool)
    ends = np.cumsum(random.integers(1, longest + 1, count))
    last[ends[ends <= count] - 1] = True
    last[-1] = True
    return last


def _raise_exponents(groups: DeltaGroups, least: int, parameters: Parameters) -> DeltaGroups:
    # Digits under the state's LSB are outside the contract.
    codes = np.where(groups.exponent < 62, np.maximum(groups.exponent, least), groups.exponent)
    return dataclasses.replace(groups, exponent=codes)


def bench(request: Request) -> Bench:
    """Sums that fit and that clamp, poison, refresh, vectors that follow themselves, and a stream at full speed."""
    parameters, random = request.parameters, request.generator()
    count = request.count(700, 8_000)
    s = -12
    cases = []
    for name, vectors, longest, least, most, reach, poison, refreshes in (
        ("sums that fit", 300, 4, 12, 16, 0.05, False, 0.0),
        ("sums that clamp", 300, 3, 12, 42, 0.7, False, 0.05),
        ("poison and refresh", 40, 4, 12, 20, 0.1, True, 0.2),
        ("few vectors", 3, 2, 12, 18, 0.02, False, 0.05),
    ):
        groups = stimuli.delta_groups(random, count, parameters)
        if not poison:
            groups = groups[~groups.poisoned]
        groups = _raise_exponents(groups, least, parameters)
        codes = np.where(groups.exponent < 62, np.minimum(groups.exponent, most), groups.exponent)
        groups = dataclasses.replace(groups, exponent=codes)
        if name == "sums that fit" and parameters.outliers:
            # Of the outliers, only small ones fit; the wide ones have their turn in the next case.
            small = np.where(groups.outlier_valid, groups.outlier_value & 0xBFFF, 0)
            groups = dataclasses.replace(groups, outlier_value=small.astype(np.uint16))
        state = _state(parameters, random, vectors, reach)
        if name == "sums that clamp" and parameters.state_format == "fixed":
            # Elements that differ from the code of poison in a bit or two.
            near = -(1 << parameters.state_width - 1) | 1 << random.integers(0, parameters.state_width - 1, state.shape)
            near |= random.integers(0, 2, state.shape) << random.integers(0, parameters.state_width - 1, state.shape)
            state = np.where(random.uniform(size=state.shape) < 0.1, near, state)
        if poison:
            state[random.uniform(size=state.shape) < 0.02] = poison_code(parameters)
        last = _stream(random, len(groups), longest)
        vector = np.cumsum(last) - last
        cases.append(
            case(
                name,
                parameters,
                state,
                groups,
                address=random.integers(0, vectors, len(groups))[vector],
                last=last,
                refresh=random.uniform(size=len(groups)) < refreshes,
                bias=_bias(parameters, random, len(groups), reach / 10),
                state_exponent=s,
                random=random,
            )
        )
    cases += [_at_full_speed(request, s), _neighbours(request, s)]
    cases += _events(request)
    if parameters.state_format == "fixed":
        cases.append(_near_the_ends(request))
    if parameters.outliers:
        cases.append(_cancelling_outliers(request))
    return Bench(
        "near_memory_engine", component(NearMemoryEngine, parameters), cases, groups_per_clock=0.0, memory=MEMORY
    )


def _events(request: Request) -> list[Case]:
    """What raises a sticky bit, in one lane of one vector among quiet ones: a case for each event and lane."""
    parameters, random = request.parameters, request.generator(4)
    n, half = parameters.lanes, parameters.state_format == "float16"
    large = 0x7BFF if half else 2 ** (parameters.state_width - 1) - 1
    least = 0xFBFF if half else -large
    cases = []
    for lane, alone in enumerate(stimuli.one_lane(n)):
        events = (
            ["overflow", "overflow from end to end"]
            + ["infinite outlier"] * bool(parameters.outliers)
            + ["poisoned group"] * (lane == 0)
        )
        for event in events:
            state = np.zeros((3, n), np.int64)
            groups = DeltaGroups.zeros(3, parameters)
            if event == "poisoned group":
                groups.exponent[1] = POISONED_GROUP
            elif event.startswith("overflow"):
                state[1, alone] = large if event == "overflow" else least
                groups.exponent[1] = 42 - parameters.digit_width
                groups.digits[1, alone] = parameters.digit_max
            else:
                groups.exponent[1] = 24
                groups.outlier_valid[1, 0], groups.outlier_lane[1, 0], groups.outlier_value[1, 0] = True, lane, 0x7C00
            cases.append(
                case(
                    f"{event}, lane {lane}",
                    parameters,
                    state,
                    groups,
                    address=np.arange(3),
                    last=np.ones(3, bool),
                    refresh=np.zeros(3, bool),
                    bias=np.zeros((3, n), np.int64),
                    state_exponent=-12,
                    random=random,
                )
            )
    return cases


def _near_the_ends(request: Request) -> Case:
    """Sums that are a bit away from the least of a state's bits, or from the largest: none of them clamps."""
    parameters = request.parameters
    n, width = parameters.lanes, parameters.state_width
    bits = 1 << np.arange(width - 1)
    state = np.repeat(np.concatenate([bits - (1 << width - 1), (1 << width - 1) - 1 - bits])[:, None], n, axis=1)
    count = len(state)
    groups = DeltaGroups.zeros(count, parameters)
    groups.exponent[:] = 12
    return case(
        "sums near the ends",
        parameters,
        state,
        groups,
        address=np.arange(count),
        last=np.ones(count, bool),
        refresh=np.zeros(count, bool),
        bias=np.zeros((count, n), np.int64),
        state_exponent=-12,
        random=request.generator(7),
    )


def _cancelling_outliers(request: Request) -> Case:
    """Vectors of large outliers that cancel, at the finest state: every bit of a term shows in the small sum."""
    parameters, random = request.parameters, request.generator(5)
    n, count = parameters.lanes, request.count(100, 2_000)
    lane = random.integers(0, n, count)
    value = stimuli.halves(random, count)
    # Each outlier comes with both signs; in between comes a small digit.
    groups = DeltaGroups.zeros(3 * count, parameters)
    groups.exponent[:] = random.integers(12, 16, 3 * count)
    groups.outlier_valid[0::3, 0] = groups.outlier_valid[2::3, 0] = True
    groups.outlier_lane[0::3, 0] = groups.outlier_lane[2::3, 0] = lane
    groups.outlier_value[0::3, 0], groups.outlier_value[2::3, 0] = value, value ^ 0x8000
    groups.digits[np.arange(1, 3 * count, 3), lane] = 1
    # Every fourth one is a power of two that nothing cancels, so that a single bit says that the sum is too large.
    alone = np.arange(count) % 4 == 3
    groups.outlier_value[0::3, 0][alone] = (value[alone] & 0xF000) | 0x0800
    groups.exponent[2::3][alone] = ZERO_GROUP
    for field in (groups.outlier_valid, groups.outlier_lane, groups.outlier_value):
        field[2::3][alone] = 0
    last = np.arange(3 * count) % 3 == 2
    return case(
        "outliers that cancel",
        parameters,
        _state(parameters, random, count, 0.01),
        groups,
        address=np.repeat(np.arange(count), 3),
        last=last,
        refresh=np.zeros(3 * count, bool),
        bias=np.zeros((3 * count, n), np.int64),
        state_exponent=-24,
        random=random,
    )


def _neighbours(request: Request, state_exponent: int) -> Case:
    """Pairs of 64 neighbours by turns: none may be taken again, nor wait, for what became of the other one."""
    parameters, random = request.parameters, request.generator(6)
    pairs = np.array([(first, second) for first in range(64) for second in range(64) if first != second])
    pairs = random.permutation(pairs)[: request.count(300, len(pairs))]
    address = pairs[:, [0, 1, 0, 1]].reshape(-1)
    groups = DeltaGroups.zeros(len(address), parameters)
    groups.exponent[:] = state_exponent + 24
    groups.digits[:] = random.integers(-1, 2, groups.digits.shape)
    return case(
        "neighbours by turns",
        parameters,
        _state(parameters, random, 64, 0.01),
        groups,
        address=address,
        last=np.ones(len(address), bool),
        refresh=np.zeros(len(address), bool),
        bias=np.zeros((len(address), parameters.lanes), np.int64),
        state_exponent=state_exponent,
        random=random,
        places=64 * int(random.integers(1 << 20)) + np.arange(64),
    )


def _at_full_speed(request: Request, state_exponent: int) -> Case:
    # One group for each vector, one after the other, as a layer's outputs come: every clock reads and writes a word.
    parameters, random = request.parameters, request.generator(1)
    count = request.count(600, 8_000)
    deltas = stimuli.recorded_deltas(random, count, parameters.lanes)
    code = max(layer_exponent(deltas.view(np.float16), parameters), state_exponent + 24)
    found = delta_quantizer(
        deltas,
        parameters,
        by_group=parameters.exponent_policy == "group",
        exponent=code,
        floor=state_exponent + 24,
    )
    groups, last = found.groups, found.last
    vector = np.cumsum(last) - last
    one_each = bool(last.all()) and not (groups.exponent == POISONED_GROUP).any()
    return case(
        "recorded deltas",
        parameters,
        _state(parameters, random, count, 0.01),
        groups,
        address=vector,
        last=last,
        refresh=np.zeros(len(groups), bool),
        bias=_bias(parameters, random, len(groups), 0.001),
        state_exponent=state_exponent,
        random=random,
        places=np.arange(count) + 1000,
        # Flips cost clocks of their own, so only a unit without repairs promises a word per clock.
        rate=0.97 if one_each and not parameters.flip_repair else 0.0,
    )
