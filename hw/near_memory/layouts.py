"""Payloads of the streams between the parts of the near-memory engine.

A *word* is what one clock handles: `memory_lanes` elements of state, or the same lanes of a group.
"""

from amaranth.hdl import ShapeLike, signed
from amaranth.lib import data

from golden.parameters import EXPONENT_WIDTH, Parameters
from hw.payloads import address_width, memory_word, outlier

_SUM_WIDTH = 48
"""Bits of a running delta: each group adds less than 2^41, so 63 groups and a bias fit."""


def _place(parameters: Parameters) -> dict[str, ShapeLike]:
    """Where a word stands: in its vector's first group, in the last, its vector's address; `refresh` ignores memory."""
    return {"first": 1, "final": 1, "refresh": 1, "address": address_width}


def sources(parameters: Parameters) -> int:
    """Values an outlier of a word can be: its slot's, or, where lanes are fewer than slots, one a lane."""
    return min(parameters.outliers, parameters.memory_lanes)


def word(parameters: Parameters) -> data.StructLayout:
    """A group's word. `hits` of a lane tell which of `values` is its outlier."""
    p, lanes = parameters, parameters.memory_lanes
    return data.StructLayout(
        {
            **_place(p),
            "poisoned": 1,
            "exponent": EXPONENT_WIDTH,
            "digits": data.ArrayLayout(signed(p.digit_width), lanes),
            "bias": memory_word(p),
            "values": data.ArrayLayout(outlier(p)["value"].shape, sources(p)),
            "hits": data.ArrayLayout(sources(p), lanes),
        }
    )


def fixed_terms(parameters: Parameters) -> data.StructLayout:
    """A word in LSBs of the state; what is added to a lane is ``value + carry``."""
    term = data.StructLayout({"value": signed(42), "carry": 1, "poisoned": 1})
    terms = data.ArrayLayout(term, parameters.memory_lanes)
    return data.StructLayout({**_place(parameters), "bias": memory_word(parameters), "terms": terms})


def running_sum(parameters: Parameters) -> data.ArrayLayout:
    """Sums over the groups of a vector so far."""
    return data.ArrayLayout(data.StructLayout({"value": signed(_SUM_WIDTH), "poisoned": 1}), parameters.memory_lanes)


def fixed_delta(parameters: Parameters) -> data.StructLayout:
    """What is added to a word of fixed-point state: one bit more than its elements says enough."""
    delta = data.StructLayout({"value": signed(parameters.state_width + 1), "poisoned": 1})
    deltas = data.ArrayLayout(delta, parameters.memory_lanes)
    return data.StructLayout({"refresh": 1, "address": address_width, "deltas": deltas})


def half_terms(parameters: Parameters) -> data.StructLayout:
    """FP16 values to add to a word of FP16 state, and the bias of its vector; `clamped` tells digits past FP16."""
    values = data.ArrayLayout(16, parameters.memory_lanes)
    clamped = {"clamped": parameters.memory_lanes}
    return data.StructLayout({**_place(parameters), "bias": values, "values": values, **clamped})


def joined(parameters: Parameters, waiting: data.StructLayout) -> data.StructLayout:
    """A word that waited, and its state."""
    return data.StructLayout({**waiting.members, "state": memory_word(parameters)})


def result(parameters: Parameters) -> data.StructLayout:
    """A word of new state with its masks; `flips` tell the lanes whose sign changed."""
    p = parameters
    flips = {"flips": p.memory_lanes} if p.flip_repair else {}
    masks = data.ArrayLayout(p.mask_width, p.memory_lanes)
    return data.StructLayout({"address": address_width, "overflow": 1, "mask": masks, "data": memory_word(p), **flips})


def flipped(parameters: Parameters) -> data.StructLayout:
    """A word with flips, and its number in its vector."""
    p = parameters
    index_width = max(1, (p.words_per_vector - 1).bit_length())
    fields = {"address": address_width, "word": index_width, "flips": p.memory_lanes, "data": memory_word(p)}
    return data.StructLayout(fields)
