"""Bench of `delta_decompressor`: what the compressor's bench packs, and streams damaged in every way."""

import numpy as np

from golden.parameters import Parameters
from golden.units.delta_compressor import BLOCK_GROUPS, HEADER_BITS, delta_compressor
from golden.units.delta_decompressor import delta_decompressor
from golden.units.delta_group import DeltaGroups
from hw.units import DeltaDecompressor
from sim import stimuli
from sim.bench import Bench, Case, Request, component
from sim.benches import delta_compressor as packing
from sim.benches.delta_compressor import Streams

variants = packing.variants

_LENGTH_AT = 14
"""Bit of a header where its length begins."""


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
    """Streams that are cut, bent, shifted or made up, with a sound one behind or before; and what golden makes of them.

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
            if number % 3 == 2:  # what is damaged is the last thing that the unit sees
                words.reverse()
            found = [delta_decompressor(stream, parameters, passes=passes) for stream in words]
            pair = Streams(f"{name} {number}", passes, [part.groups for part in found], words)
            wrong = any(part.error for part in found)
            cases.append(_case(pair, parameters, error=wrong))
            every.groups.extend(pair.groups)
            every.words.extend(words)
            error |= wrong
        cases.append(_case(every, parameters, error=error))
    cases += [_unfinished(parameters, random) for _ in range(request.count(3, 10))]
    return cases + [_past_the_range(parameters, top) for top in (True, False)]


def _unfinished(parameters: Parameters, random: np.random.Generator) -> Case:
    """A stream that ends with its groups and a whole word, while its length promises more: only that is wrong."""
    room = 1
    while room:
        groups = stimuli.delta_groups(random, int(random.integers(1, BLOCK_GROUPS)), parameters)
        room = -(HEADER_BITS + _length_of(delta_compressor(groups, parameters))) % parameters.link_width
        # Zero groups, of three bits, fill the word.
        if room % 3 == 0 and len(groups) + room // 3 <= BLOCK_GROUPS:
            groups, room = DeltaGroups.concatenate([groups, DeltaGroups.zeros(room // 3, parameters)]), 0
    sound = delta_compressor(groups, parameters)
    words = _with_length(sound, _length_of(sound) + 1)
    found = delta_decompressor(words, parameters)
    return _case(Streams("a word is missing", 1, [found.groups], [words]), parameters, error=found.error)


def _past_the_range(parameters: Parameters, top: bool) -> Case:
    """An exponent one above the largest, or one below the least: that of its neighbour, with the other prefix."""
    exponents = np.array([42 - parameters.digit_width, 41 - parameters.digit_width] if top else [0, 1], np.uint8)
    groups = DeltaGroups.zeros(2, parameters)
    groups = groups.replace(exponent=exponents, digits=groups.digits + np.eye(1, parameters.lanes, dtype=np.int8))
    width, second = parameters.link_width, HEADER_BITS + _length_of(delta_compressor(groups[:1], parameters))
    stream = sum(word << width * index for index, word in enumerate(delta_compressor(groups, parameters)))
    stream ^= 0b110 << second  # the prefix 011 becomes 101, or the other way
    words = [stream >> width * index & (1 << width) - 1 for index in range(-(-stream.bit_length() // width))]
    found = delta_decompressor(words, parameters)
    return _case(Streams(f"past exponent {exponents[0]}", 1, [found.groups], [words]), parameters, error=found.error)


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
    length = _length_of(words)
    near = length + int(random.choice([-parameters.link_width, -2, -1, 1, 2, parameters.link_width]))
    wrong = int(random.choice([0, 1, 0xFFFF, int(random.integers(0, 1 << 16)), *[near % (1 << 16)] * 4]))
    return _with_length(words, wrong if wrong != length else length ^ 1)


def _length_of(words: list[int]) -> int:
    return words[0] >> _LENGTH_AT & 0xFFFF


def _with_length(words: list[int], length: int) -> list[int]:
    return [words[0] ^ (_length_of(words) ^ length) << _LENGTH_AT, *words[1:]]


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
