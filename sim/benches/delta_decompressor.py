"""Bench of `delta_decompressor`: what the compressor's bench packs, and streams damaged in every way."""

import numpy as np

from golden.parameters import Parameters
from golden.units.delta_compressor import delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from hw.units import DeltaDecompressor
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.benches import delta_compressor as packing
from sim.benches.delta_compressor import Streams

variants = packing.variants


def bench(request: Request) -> Bench:
    """Sound streams, which leave the error bit low, then damaged ones."""
    parameters = request.parameters
    cases = [
        _case(made, parameters, rate=0.9 if made.name.startswith("recorded") else 0.0)
        for made in packing.streams(request)
    ]
    cases += damaged(request)
    return Bench("delta_decompressor", component(DeltaDecompressor, parameters), cases)


def _case(made: Streams, parameters: Parameters, *, error: bool = False, rate: float = 0.0) -> Case:
    return Case(
        made.name,
        {"i": made.word_payloads()},
        {"o": made.group_payloads(parameters)},
        {"passes": made.passes - 1},
        status={"error": error},
        rate=rate,
    )


def damaged(request: Request) -> list[Case]:
    """Streams that are cut, bent, shifted or made up, each followed by a sound one; with what golden makes of them.

    Each is a case of its own, so that the error bit is compared for it alone; then all follow each other.
    """
    parameters, random = request.parameters, request.generator(2)
    cases = []
    for name, damage in DAMAGES.items():
        passes = int(random.integers(1, 9))
        every = Streams(f"{name}, {passes} passes", passes, [], [])
        error = False
        for number in range(request.count(6, 60)):
            length = int(random.choice([1, 3, 64, 70, 130]))
            groups = stimuli.delta_groups(random, length, parameters)
            sound = delta_compressor(groups, parameters, passes=passes)
            words = [damage(list(sound), parameters, random), sound]
            found = [delta_decompressor(stream, parameters, passes=passes) for stream in words]
            pair = Streams(f"{name} {number}", passes, [part.groups for part in found], words)
            cases.append(_case(pair, parameters, error=found[0].error))
            every.groups.extend(pair.groups)
            every.words.extend(words)
            error |= found[0].error
        cases.append(_case(every, parameters, error=error))
    return cases


def _cut(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    return words[: int(random.integers(1, len(words)))] if len(words) > 1 else [words[0] ^ 0x100]


def _bend(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    # Padding counts too, so any bit will do; the last word's are the likeliest to be padding.
    for _ in range(int(random.integers(1, 4))):
        words[int(random.integers(0, len(words)))] ^= 1 << int(random.integers(0, parameters.link_width))
    return words


def _marker(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    words[0] ^= 1 << int(random.integers(0, 8))
    return words


def _length(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    wrong = int(random.choice([0, 1, 0xFFFF, int(random.integers(0, 1 << 16))]))
    length = words[0] >> 16 & 0xFFFF
    words[0] ^= (length ^ (wrong if wrong != length else length ^ 1)) << 16
    return words


def _announcement(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    words[0] ^= int(random.integers(1, 64)) << 8
    return words


def _padding(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    return [*words, int(random.integers(1, 1 << 31))]


def _noise(words: list[int], parameters: Parameters, random: np.random.Generator) -> list[int]:
    count = int(random.integers(1, 20))
    noise = [int.from_bytes(random.bytes(parameters.link_width // 8), "little") for _ in range(count)]
    at = int(random.integers(0, len(words) + 1))
    return [*words[:at], *noise, *words[at:]]


DAMAGES = {
    "cut short": _cut,
    "bits flipped": _bend,
    "wrong marker": _marker,
    "wrong length": _length,
    "wrong number of groups": _announcement,
    "words after the end": _padding,
    "noise in between": _noise,
}
"""Ways to damage a stream, by name."""
