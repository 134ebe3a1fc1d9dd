"""Notes of what an execution sends: digits, groups, and bits on the link.

Bits are counted by the rules of the delta stream, version 2 (``docs/formats.md``), everything included, for a stream in
which vectors follow one another position by position, groups of one position side by side, and the passes of a vector
inside. Only padding is not counted bit by bit: half a word for each block. Passes that no vector of a tensor needs are
left out of its stream. `joint` counts the joint delta stream, version 2, without replays: one first digit coded as now,
all finer bits plain behind it.
"""

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np

from golden.diffusion.differential.quantise import Grouping, Passes
from golden.parameters import Parameters
from golden.units.cyclic_check import CHECK_BITS
from golden.units.delta_compressor import BLOCK_GROUPS, HEADER_BITS

SCALE_BITS = 16
"""Bits of the scale of a tensor that has one for each item instead of group exponents."""


@dataclasses.dataclass
class Row:
    """Totals over tensors or steps; rows can be added.

    Members
    -------
    elements : int
        Values that are not padding.
    digits : int
        Digits of all passes, `elements` times passes.
    zeros, first_zeros : int
        Digits that are 0, outliers apart; those of pass 0 among them.
    outliers, saturated : int
        Lanes that travel as FP16; lanes that were cut off.
    crowded : int
        Layer policy: vectors of which more than m lanes overflow. Group policy: vectors whose exponent would fall if
        one lane more, the m + 1 largest, could be outliers (the floor of the exponent is not looked at).
    vectors, groups, zero_groups : int
        Groups of pass 0; groups of all passes, and those of them that are zero groups.
    bits, joint, entropy : float
        On the link; in the joint form; order-0 entropy of the digits, pass by pass, plus outliers.
    padding, joint_padding : float
        Those of `bits` and `joint` that are digits of lanes without a value.
    clocks : float
        Clocks of a lane for all elements: passes and replays. Zero groups are not taken off.
    """

    elements: int = 0
    digits: int = 0
    zeros: int = 0
    outliers: int = 0
    saturated: int = 0
    crowded: int = 0
    vectors: int = 0
    groups: int = 0
    zero_groups: int = 0
    bits: float = 0.0
    joint: float = 0.0
    entropy: float = 0.0
    first_zeros: int = 0
    padding: float = 0.0
    joint_padding: float = 0.0
    clocks: float = 0.0

    @property
    def array(self) -> float:
        """Groups that are not zero over those of one pass; passes where there are no groups."""
        if self.vectors:
            return (self.groups - self.zero_groups) / self.vectors
        return self.digits / max(self.elements, 1)

    def __add__(self, other: "Row") -> "Row":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Row(*(a + b for a, b in pairs))


def _in_order(groups: np.ndarray, axis: int) -> np.ndarray:
    """Groups (one lane each) in stream order: positions, then groups of a position."""
    return np.moveaxis(np.squeeze(groups, axis=axis), axis - 1, -1).ravel()


def _exponent_bits(codes: np.ndarray, zero: np.ndarray, place: np.ndarray) -> int:
    """Bits of the exponent fields of one pass, whose groups stand at these places of the stream."""
    index = np.arange(len(codes))
    latest = np.maximum.accumulate(np.where(zero, -1, index))
    before = np.concatenate([[-1], latest[:-1]])
    known = (before >= 0) & (place[before] // BLOCK_GROUPS == place // BLOCK_GROUPS)
    step = codes - np.where(known, codes[before], 0)  # code 24 is exponent 0
    bits = np.where(step == 0, 1, np.where(np.abs(step) == 1, 3, 10))
    return int(np.where(zero, 3, bits).sum())


def _plane_bits(magnitude: np.ndarray, k: int, padded: int) -> int:
    """Bits of the digits of groups that are not zero groups; `padded` lanes, those of the padding included."""
    rest = max(k - 3, 0)
    signs = int(np.count_nonzero(magnitude))
    if k == 2:
        return padded + signs
    high = magnitude >> rest if rest else magnitude
    planes = (
        int(np.count_nonzero(high)) + int(np.count_nonzero(high > 1))
        if rest
        else signs + int(np.count_nonzero(magnitude > 1))
    )
    return padded * (1 + rest) + planes + signs


def _entropy(values: np.ndarray, low: int, high: int) -> float:
    counts = np.bincount((values - low).ravel().astype(np.int64), minlength=high - low + 1)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if counts.sum() else 0.0


def count(sent: Passes, grouping: Grouping, parameters: Parameters, m: int) -> Row:
    """Figures of one quantised tensor, of which m lanes at most are outliers."""
    elements, k = int(np.prod(sent.values.shape)), parameters.digit_width
    if sent.exponent is None:
        zeros, plain = (
            elements - int(np.count_nonzero(sent.values)),
            float(elements * k + len(sent.values) * SCALE_BITS),
        )
        return Row(
            elements=elements,
            digits=elements,
            zeros=zeros,
            bits=plain,
            joint=plain,
            entropy=plain,
            first_zeros=zeros,
            clocks=float(elements),
        )
    lanes = sent.lanes
    axis = lanes.ndim + grouping.axis
    n = parameters.lanes
    vectors = sent.exponent.size
    finer = sent.exponent - sent.last
    most = int(np.max((finer + k - 2) // (k - 1), initial=0)) + 1
    row = Row(elements=elements, vectors=vectors, saturated=sent.saturated)
    row.crowded = _crowded(np.abs(lanes), sent.exponent, axis, parameters, k, m)
    rest = lanes
    exact = sent.exact if sent.exact is not None and sent.exact.any() else None
    replays = np.zeros(vectors, np.int64)
    if exact is not None:
        row.outliers = int(exact.sum())
        rest = np.where(exact, np.float32(0), lanes)
        replays = np.maximum(-(-_in_order(exact.sum(axis=axis, keepdims=True), axis) // m) - 1, 0)
    place = np.arange(vectors) * most + np.cumsum(replays) - replays
    top = 2 ** (k - 1) - 1
    # outliers, and groups of their own for those beyond the m-th
    row.bits = row.joint = row.entropy = float(row.outliers * (parameters.lane_width + 16))
    row.bits += _replay_bits(place, replays, m)
    row.groups += int(replays.sum())
    row.clocks = float(int(replays.sum()) * elements / vectors)
    spare = (n - grouping.lengths).reshape(-1, *[1] * -grouping.axis)  # lanes of each group without a value
    for number in range(most):
        e = np.maximum(sent.exponent - number * (k - 1), sent.last)
        q = np.rint(rest * np.ldexp(np.float32(1), -e))
        over = np.abs(q) > top if sent.saturated else None
        np.clip(q, -top, top, out=q)
        rest = rest - q * np.ldexp(np.float32(1), e)
        if over is not None:
            rest[over] = 0  # what was cut off leaves no residual
        magnitude = np.abs(q).astype(np.int16)
        used = magnitude.any(axis=axis, keepdims=True)
        if number == 0 and exact is not None:
            used |= exact.any(axis=axis, keepdims=True)
        row.groups += vectors
        row.zero_groups += vectors - int(used.sum())
        row.digits += elements
        row.clocks += elements
        row.padding += float((used * spare).sum()) * (1 + max(k - 3, 0))
        row.zeros += elements - int(np.count_nonzero(magnitude)) - (row.outliers if number == 0 else 0)
        if number == 0:
            row.first_zeros = row.zeros
        places = place + number + (replays if number else 0)
        row.bits += _group_bits(e, magnitude, used, axis, places, k, m, n)
        row.entropy += _entropy(q, -top, top) * (elements / q.size)
    row.bits += framing(row.groups, parameters)
    # Joint: pass 0 of the integers that are sent, and behind it the finer bits of every lane of a group that is not 0.
    integers = grouping.split(sent.values) if exact is None else np.where(exact, 0, grouping.split(sent.values))
    integers = integers * np.ldexp(np.float32(1), -sent.last)
    first = np.floor(np.ldexp(integers, -finer) + np.where(finer > 0, np.float32(0.5), np.float32(0)))
    magnitude = np.minimum(np.abs(first), top).astype(np.int16)  # integers made by passes may reach one more
    used = integers.any(axis=axis, keepdims=True)
    plain = int((finer * used).sum()) * n
    if exact is not None:
        used |= exact.any(axis=axis, keepdims=True)
    row.joint_padding = float((used * spare * (finer + 1 + max(k - 3, 0))).sum())
    row.joint += _group_bits(sent.exponent, magnitude, used, axis, np.arange(vectors), k, m, n) + plain
    row.joint += framing(vectors, parameters)
    return row


def _group_bits(
    e: np.ndarray, magnitude: np.ndarray, used: np.ndarray, axis: int, place: np.ndarray, k: int, m: int, n: int
) -> int:
    """Bits of the groups of one pass without their outliers."""
    bits = _exponent_bits(_in_order(e, axis), _in_order(~used, axis), place)
    return bits + int(used.sum()) * m.bit_length() + _plane_bits(magnitude, k, int(used.sum()) * n)


def _replay_bits(place: np.ndarray, replays: np.ndarray, m: int) -> int:
    """Bits of exponents and counts of replay groups: 4, but 16 for the first group of a block."""
    starts = (place + replays) // BLOCK_GROUPS - place // BLOCK_GROUPS
    return int(replays.sum()) * (4 + m.bit_length()) + int(starts.sum()) * 12


def _crowded(magnitude: np.ndarray, e: np.ndarray, axis: int, parameters: Parameters, k: int, m: int) -> int:
    """`Row.crowded`; under the group policy m lanes overflow at e, and at e - 1 at least m + 1."""
    layer = parameters.exponent_policy == "layer"
    over = magnitude >= np.ldexp(np.float32((2**k - 1) / 2), e if layer else e - 1)
    many = np.count_nonzero(over, axis=axis)
    return int(np.count_nonzero(many > m if layer else many == m + 1))


def framing(groups: int, parameters: Parameters) -> float:
    """Headers and padding of the blocks: half a word is lost at the end of each, on average."""
    blocks = -(-groups // BLOCK_GROUPS)
    header = HEADER_BITS + 2 * CHECK_BITS * parameters.link_checks
    return blocks * (header + parameters.link_width / 2)


class Measure:
    """Collects a `Row` for each tensor that is sent and for each output, step by step.

    Members
    -------
    parameters : Parameters
        Of the machine.
    inputs : dict
        By (step, name of the value); what layers are sent.
    outputs : dict
        By (step, layer); what leaves a product.
    flips : dict
        By (step, activation), of masks that groups pass: elements whose mask changed, and all of them.
    raws : dict
        By (step, layer), passes of digits of raw values beside the deltas: left operands of raw attention, and repairs
        of an activation. In the open loop the core makes them, and FP16 numbers cross the link.
    """

    def __init__(self, parameters: Parameters):
        self.parameters = parameters
        self.inputs: dict[tuple[int, str], Row] = defaultdict(Row)
        self.outputs: dict[tuple[int, str], Row] = defaultdict(Row)
        self.flips: dict[tuple[int, str], tuple[int, int]] = {}
        self.raws: dict[tuple[int, str], Row] = defaultdict(Row)

    def sent(self, step: int, name: str, sent: Passes, grouping: Grouping) -> None:
        """An operand went to its readers."""
        self.inputs[step, name] += count(sent, grouping, self.parameters, self.parameters.outliers)

    def output(
        self, step: int, name: str, sent: Passes, grouping: Grouping, outliers: int = 0, *, again: bool = False
    ) -> None:
        """Deltas left a product, or in the open loop (which also gives m) entered a mask or a product.

        Of a product that adds to its state once more in the step (`again`), the elements are known already.
        """
        row = count(sent, grouping, self.parameters, outliers)
        self.outputs[step, name] += dataclasses.replace(row, elements=0) if again else row

    def raw(self, step: int, layer: str, sent: Passes, grouping: Grouping) -> None:
        """Raw values that a layer reads became digits."""
        self.raws[step, layer] += count(sent, grouping, self.parameters, self.parameters.outliers)

    def total(self, rows: dict[tuple[int, str], Row], steps: Any = None) -> Row:
        """Sum over tensors, and over the given steps (default: all)."""
        return sum((row for (step, _), row in rows.items() if steps is None or step in steps), Row())
