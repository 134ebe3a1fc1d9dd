"""Bench of `delta_compressor`: streams of every length about a block's, all kinds of groups, and recorded deltas."""

import dataclasses

import numpy as np

from golden.parameters import Parameters
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import quantise_passes
from hw.units import DeltaCompressor
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.benches.multiplier_group import layer_exponent
from sim.vectors import group_values

LENGTHS = (1, 2, 63, 64, 65, 127, 128, 129)
"""Groups of a stream: about the ends of a block."""


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """Replay groups, no outlier and many, the least and widest digit, narrow and wide links, blocks with checks."""
    layer = dataclasses.replace(parameters, exponent_policy="layer", output_passes=1)
    return {
        "replay": dataclasses.replace(layer, overflow_policy="replay", outliers=max(parameters.outliers, 1)),
        "m=0, 32 bits": dataclasses.replace(parameters, outliers=0, exponent_policy="group", link_width=32),
        "k=2, 512 bits": dataclasses.replace(parameters, digit_width=2, link_width=512),
        "k=8 m=4": dataclasses.replace(parameters, digit_width=8, outliers=4, exponent_policy="group"),
        "checks": dataclasses.replace(parameters, link_checks=True),
        "n=13": dataclasses.replace(parameters, lanes=13, memory_lanes=1),
    }


@dataclasses.dataclass(frozen=True)
class Streams:
    """Streams one after the other, as groups and as words.

    Members
    -------
    name : str
        What they are.
    passes : int
        Of all of them.
    groups, words : list
        For each stream its `DeltaGroups` and its words.
    """

    name: str
    passes: int
    groups: list[DeltaGroups]
    words: list[list[int]]

    def group_payloads(self, parameters: Parameters) -> dict:
        """All groups, as `hw.payloads.stream_group`."""
        return {
            "group": group_values(DeltaGroups.concatenate(self.groups), parameters),
            "last": ends(self.groups),
        }

    def word_payloads(self) -> dict:
        """All words, as `hw.payloads.link_word`."""
        data = np.array([word for stream in self.words for word in stream], object)
        return {"data": data, "last": ends(self.words)}


def ends(streams: list) -> np.ndarray:
    """Which element is the last of its stream."""
    last = np.zeros(sum(map(len, streams)), bool)
    last[np.cumsum([len(stream) for stream in streams]) - 1] = True
    return last


def streams(request: Request) -> list[Streams]:
    """Streams for compressor and decompressor."""
    parameters, random = request.parameters, request.generator()
    count = request.count(500, 12_000)
    result = []
    for passes in range(1, 9):
        lengths = list(LENGTHS) + list(random.integers(1, 200, 2)) if passes == 1 or request.full else [65, 3]
        groups = [stimuli.delta_groups(random, int(length), parameters) for length in lengths]
        result.append(_compressed(f"all kinds, {passes} passes", groups, parameters, passes))
    # Streams of one group each: headers wait for words that wait for the link.
    groups = [stimuli.delta_groups(random, 1, parameters) for _ in range(request.count(300, 2_000))]
    result.append(_compressed("one group a stream", groups, parameters, 1))
    deltas = stimuli.recorded_deltas(random, count, parameters.lanes)
    by_group = parameters.exponent_policy == "group"
    code = 0 if by_group else layer_exponent(deltas.view(np.float16), parameters)
    for passes in sorted({1, parameters.output_passes}):
        groups = quantise_passes(deltas[: count // passes], parameters, passes, exponent=code).groups
        result.append(_compressed(f"recorded deltas, {passes} passes", [groups], parameters, passes))
    return result


def _compressed(name: str, groups: list[DeltaGroups], parameters: Parameters, passes: int) -> Streams:
    return Streams(name, passes, groups, [delta_compressor(stream, parameters, passes=passes) for stream in groups])


def bench(request: Request) -> Bench:
    """Groups in, words out."""
    parameters = request.parameters
    cases = [
        Case(
            made.name,
            {"i": made.group_payloads(parameters)},
            {"o": made.word_payloads()},
            {"passes": made.passes - 1},
            # Groups longer and shorter than a word take turns, so neither side is busy in quite every clock.
            rate=0.9 if made.name.startswith("recorded") else 0.0,
        )
        for made in streams(request)
    ]
    return Bench("delta_compressor", component(DeltaCompressor, parameters), cases)
