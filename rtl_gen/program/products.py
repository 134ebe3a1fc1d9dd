"""Products with weights: records in the order of the multiply loop, and tiles for the array and the buffers at hand.

Words: rows of the array are samples, or strips of one sample; a *strip* is the lines of the output that one row works
on; a *chunk* as many lines of every strip as the banks hold groups for; a *tile* as many positions of a chunk as the
accumulators hold sums for.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from golden.machine import image
from golden.machine.command import Accumulate, LoadGroups, LoadWeights, Multiply, Operand
from golden.parameters import Parameters
from golden.units.weights import align_weights, largest_dequantised
from rtl_gen.program.memory import WEIGHTS, Emission, Memory, Tensor, positions_of
from rtl_gen.program.schedule import Schedule

__all__ = ["Bias", "Kernel", "Piece", "Product", "Target", "Weights", "bias_vectors", "compile_weights", "multiply"]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Of a convolution; a linear layer has one tap.

    Members
    -------
    lines, columns : int
        Taps.
    stride, dilation : int
        Between output positions, and between taps.
    top, left : int
        Padding with zeros before the first line and position.
    """

    lines: int = 1
    columns: int = 1
    stride: int = 1
    dilation: int = 1
    top: int = 0
    left: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """Part of the channels that a product reads.

    Members
    -------
    emission : Emission
        Where they are sent from.
    repeat : int
        2 where they are upsampled.
    """

    emission: Emission
    repeat: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Records of a product in memory.

    Members
    -------
    source : Operand
        The first record.
    groups : int
        Of an output channel and a tap, all pieces.
    unit : int
        L.
    """

    source: Operand
    groups: int
    unit: int


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """Where the outputs of a product go.

    Members
    -------
    state : Tensor
        What they are added to.
    lines, width, channels : int
        Positions and channels of the product's outputs.
    first : int
        Vector of the state that the first vector of position 0 goes to.
    step : int
        Vectors of the state from position to position.
    exchanged : bool
        Whether the outputs' positions are the channels of the state, and their channels its positions.
    """

    state: Tensor
    lines: int
    width: int
    channels: int
    first: int
    step: int
    exchanged: bool = False

    @classmethod
    def whole(cls, state: Tensor, lanes: int) -> "Target":
        """All of a state."""
        return cls(state, state.lines, state.width, state.channels, 0, -(-state.channels // lanes))

    def narrow(self, lanes: int) -> bool:
        """Whether vectors run on over positions."""
        return not self.exchanged and self.state.channels < lanes


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A product with weights, as it is run in every step.

    Members
    -------
    name : str
        For listings.
    pieces : tuple of Piece
        What it reads.
    kernel : Kernel
        See there.
    weights : Weights
        See there.
    target : Target
        What it adds to.
    floor : int
        Code of the least exponent of its outputs.
    head : tuple of int, optional
        Of a product of one head: the first line of its emission and how many, the first group of a position and how
        many.
    """

    name: str
    pieces: tuple[Piece, ...]
    kernel: Kernel
    weights: Weights
    target: Target
    floor: int
    head: tuple[int, int, int, int] | None = None


def compile_weights(
    memory: Memory,
    weight: np.ndarray,
    pieces: Sequence[Piece],
    unit: int,
    passes: int,
    *,
    lsb: int | None = None,
    parts: int = 1,
) -> tuple[Weights, ...]:
    """Align weights, choose L, and place the records.

    Parameters
    ----------
    memory : Memory
        Takes them.
    weight : uint16 (outputs, inputs, taps)
        Patterns of `weight_format`.
    pieces : sequence of Piece
        Their channels, each padded to whole groups, are the inputs.
    unit : int
        s of the state behind the product.
    passes : int
        The most that an operand is ever sent in.
    lsb : int, optional
        L, where it is declared; the default is the least that is proven.
    parts : int
        Equal parts of the outputs that end in states of their own.

    Returns
    -------
    tuple of Weights
        Of each part.

    Raises
    ------
    ValueError
        If no L holds every sum, or a scale is out of range.
    """
    p = memory.parameters
    n = p.lanes
    records, units = [], []
    start = 0
    for piece in pieces:
        channels = piece.emission.channels
        part = weight[:, start : start + channels].transpose(0, 2, 1)
        part = np.pad(part, ((0, 0), (0, 0), (0, -channels % n))).reshape(len(weight), weight.shape[2], -1, n)
        integers, exponent = align_weights(part, p)
        records.append(integers.astype(np.int64))
        units.append(exponent - p.fraction_bits + piece.emission.unit - unit)
        start += channels
    integers, exponents = np.concatenate(records, axis=2), np.concatenate(units, axis=2)
    lsb = _window(integers, exponents, p, passes) if lsb is None else lsb
    scale = exponents - lsb + 24
    if (np.abs(scale) > 220).any():
        raise ValueError(f"scale of a record must be in -220..220, not {int(scale.ravel()[np.abs(scale).argmax()])}")
    groups = integers.shape[2]
    flat = integers.reshape(parts, len(weight) // parts, -1, n)
    places = scale.reshape(parts, len(weight) // parts, -1)
    found = []
    for own, scales in zip(flat, places, strict=True):
        packed = [
            image.pack_weights(own[block].swapaxes(0, 1).reshape(-1, n), scales[block].T.ravel(), p)
            for block in image.record_blocks(len(own), p)
        ]
        found.append(Weights(memory.place(WEIGHTS, np.concatenate(packed)), groups, lsb))
    return tuple(found)


def _window(integers: np.ndarray, exponents: np.ndarray, p: Parameters, passes: int) -> int:
    """The least L at which no sum of ``|d| < 3 2^(w-2)`` leaves its accumulator (numerics, 12.11)."""
    worst = largest_dequantised(p, 3 * 2.0 ** (p.state_width - 2 - 24), passes=passes) * 2**24
    low = int(exponents.min())
    totals = np.abs(integers).sum(axis=-1)
    most = max(
        sum(int(total) << int(exponent) - low for total, exponent in zip(row.ravel(), units.ravel(), strict=True))
        for row, units in zip(totals, exponents, strict=True)
    )
    roundings = Fraction(passes * totals[0].size, 2)
    limit = 2 ** (p.accumulator_width - 1) - 1
    if roundings > limit / 2:
        raise ValueError(
            f"accumulator_width must hold the roundings of {2 * roundings} groups, not {p.accumulator_width} bits"
        )
    lsb = low
    while worst * most * Fraction(2) ** (low - lsb) + (roundings if lsb > low else 0) > limit:
        lsb += 1
    return lsb


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Positions of each strip: lines and columns, by the first of each and how many; rows that have them."""

    line: int
    lines: int
    column: int
    columns: int
    rows: int


def _whole(product: Product, lanes: int) -> int:
    """Lines of the output that whole vectors, or whole blocks of an exchange, take."""
    target = product.target
    if target.exchanged:
        return lanes // math.gcd(lanes, target.width)
    return lanes // math.gcd(lanes, target.width * target.channels) if target.narrow(lanes) else 1


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What the rows of the array are.

    Members
    -------
    strip : int
        Lines of a strip.
    count : int
        Rows that have one.
    samples : bool
        Whether they are samples; each then has all lines in one strip.
    lines : int
        Of a sample's output.
    """

    strip: int
    count: int
    samples: bool
    lines: int

    @classmethod
    def of(cls, product: Product, p: Parameters, samples: int) -> "_Rows":
        """Rows for so many samples at a time."""
        whole, lines = _whole(product, p.lanes), product.target.lines
        if samples > 1:
            return cls(lines, samples, True, lines)
        strip = math.ceil(lines / p.rows / whole) * whole
        # a row that ended sooner would cut the vectors of the others
        return cls(strip if lines % strip % whole == 0 else lines, p.rows, False, lines)

    def at(self, line: int) -> int:
        """How many rows have this line of their strip."""
        return self.count if self.samples else sum(row * self.strip + line < self.lines for row in range(self.count))


def _tiles(product: Product, p: Parameters, rows: _Rows, first: int, lines: int) -> Iterator[_Tile]:
    """Tiles of lines of every strip."""
    target, whole = product.target, _whole(product, p.lanes)
    room = p.tile_words // -(-target.channels // p.columns) if target.narrow(p.lanes) else p.tile_positions
    width = min(target.width, room)
    tall = max(room // width, 1)
    if whole > 1 or target.narrow(p.lanes) or target.exchanged:
        if width < target.width or tall < min(whole, lines):
            why = "exchanged" if target.exchanged else "fewer channels than lanes"
            raise ValueError(
                f"tile_positions must hold {whole} lines of {product.name!r} ({why}), not {p.tile_positions}"
            )
        tall = tall - tall % whole or lines
    line = first
    while line < first + lines:
        have = rows.at(line)
        if not have:
            return
        count = 1
        while count < min(tall, first + lines - line) and rows.at(line + count) == have:
            count += 1
        for column in range(0, target.width, width):
            yield _Tile(line, count, column, min(width, target.width - column), have)
        line += count


@dataclasses.dataclass(frozen=True)
class Bias:
    """What is added to a product's outputs.

    Members
    -------
    vectors : Operand
        Vectors of entries.
    step : int
        Vectors from sample to sample; 0 where all have the same.
    """

    vectors: Operand
    step: int = 0


def multiply(
    schedule: Schedule,
    parameters: Parameters,
    product: Product,
    sent: Sequence[int],
    *,
    half: int,
    bias: Bias | None,
    start: bool,
    origin: Tensor | None = None,
    samples: range | None = None,
    tag: int = 0,
) -> int:
    """Add the commands of one run of a product.

    As many samples as the array has rows are rows; those that are left over are cut into strips, one after the other.

    Parameters
    ----------
    schedule : Schedule
        Takes them.
    parameters : Parameters
        Of the machine.
    product : Product
        What is run.
    sent : sequence of int
        Passes that each piece was sent in.
    half : int
        Half of the weight buffer, and of the banks, that is filled next: ``2 * banks + weights``.
    bias : Bias or None
        What is added.
    start : bool
        Whether the state starts anew.
    origin : Tensor, optional
        What it starts with instead of zeros.
    samples : range, optional
        Those that are run; the default is all.

    Returns
    -------
    int
        `half` for the next product.

    Raises
    ------
    ValueError
        If a line of groups does not fit a bank, or a block of records the weight buffer.
    """
    samples = range(product.target.state.samples) if samples is None else samples
    first, together = samples.start, parameters.rows if parameters.rows > 1 else 1
    while first < samples.stop:
        count = together if samples.stop - first >= together else 1
        half = _run(schedule, parameters, product, sent, half, bias, start, origin, tag, first, count)
        first += count
    return half


def _run(
    schedule: Schedule,
    p: Parameters,
    product: Product,
    sent: Sequence[int],
    half: int,
    bias: Bias | None,
    start: bool,
    origin: Tensor | None,
    tag: int,
    sample: int,
    samples: int,
) -> int:
    """Some of the samples."""
    kernel, target = product.kernel, product.target
    n, slots = p.lanes, max(sent)
    rows = _Rows.of(product, p, samples)
    shape = product.pieces[0]
    width = shape.emission.width * shape.repeat
    reach = (target.width - 1) * kernel.stride + (kernel.columns - 1) * kernel.dilation + 1
    right = max(reach - kernel.left - width, 0)
    line_positions = kernel.left + width + right
    pitch = sum(piece.emission.groups(n) for piece in product.pieces) * slots
    per_line = line_positions * pitch
    extra = (kernel.lines - 1) * kernel.dilation + 1
    chunk = min(rows.strip, (p.group_buffer // per_line - extra) // kernel.stride + 1)
    if chunk < 1:
        raise ValueError(
            f"group_buffer must hold {extra} lines of {per_line} groups for {product.name!r}, not {p.group_buffer}"
        )
    if chunk < rows.strip:
        whole = _whole(product, n)
        if chunk < whole:
            raise ValueError(
                f"group_buffer must hold {(whole - 1) * kernel.stride + extra} lines of {per_line} groups for "
                f"{product.name!r}, not {p.group_buffer}"
            )
        chunk -= chunk % whole
    taps = kernel.lines * kernel.columns
    records = taps * product.weights.groups
    if p.columns * records > p.weight_buffer:
        raise ValueError(
            f"weight_buffer must hold {p.columns * records} records for {product.name!r}, not {p.weight_buffer}"
        )
    banks, weights = half >> 1, half & 1
    loop = _Loop(schedule, p, product, kernel, rows, sample, bias, origin, start, tag, pitch, per_line, slots, records)
    for first in range(0, rows.strip, chunk):
        lines = min(chunk, rows.strip - first)
        input_lines = (lines - 1) * kernel.stride + extra
        loop.load(sent, banks, first, input_lines, right)
        for block in range(0, target.channels, n):
            weights = loop.block(block, banks, weights, list(_tiles(product, p, rows, first, lines)), first)
        banks ^= 1
    return banks << 1 | weights


@dataclasses.dataclass
class _Loop:
    """What the tiles of a product share."""

    schedule: Schedule
    parameters: Parameters
    product: Product
    kernel: Kernel
    rows: _Rows
    sample: int
    bias: Bias | None
    origin: Tensor | None
    start: bool
    tag: int
    pitch: int
    per_line: int
    slots: int
    records: int

    def load(self, sent: Sequence[int], half: int, first: int, lines: int, right: int) -> None:
        """Lines of groups of every row and piece."""
        p, product, kernel, position = self.parameters, self.product, self.kernel, 0
        by_sample = self.rows.samples
        for piece, passes in zip(product.pieces, sent, strict=True):
            emission = piece.emission.sample(self.sample)
            groups = emission.groups(p.lanes)
            self.schedule.add(
                LoadGroups(
                    tag=self.tag,
                    source=emission.spool,
                    lengths=emission.lengths if p.link_form == "compressed" else Operand(0, 0),
                    half=bool(half),
                    slot=emission.slot,
                    slot_step=emission.step if by_sample else 0,
                    line_step=0 if by_sample else self.rows.strip * kernel.stride,
                    rows=self.rows.count - 1,
                    line=first * kernel.stride - kernel.top,
                    skip=product.head[0] if product.head else 0,
                    lines=lines,
                    repeat=piece.repeat,
                    height=product.head[1] if product.head else emission.lines,
                    width=emission.width,
                    left=kernel.left,
                    right=right,
                    groups=groups,
                    passes=self.slots - 1,
                    sent=passes - 1,
                    first=position,
                    pitch=self.pitch,
                ),
                reads=[("spool", emission.place)],
                writes=[("bank", half)],
            )
            position += groups * self.slots

    def block(self, first: int, banks: int, half: int, tiles: list[_Tile], chunk: int) -> int:
        """One vector's channels of every tile; the half that is filled next."""
        p, product = self.parameters, self.product
        channels = min(p.lanes, product.target.channels - first)
        together = channels * self.records <= p.weight_buffer
        if together:
            self._load(first, channels, half)
        for tile in tiles:
            for offset in range(0, channels, channels if together else p.columns):
                count = channels if together else min(p.columns, channels - offset)
                if not together:
                    self._load(first + offset, count, half)
                self._multiply(tile, banks, half, chunk, channels, offset, count)
                if not together:
                    half ^= 1
            self._accumulate(tile, first // p.lanes)
        return half ^ together

    def _load(self, first: int, count: int, half: int) -> None:
        source, skip = self.product.weights.source, first * self.records
        self.schedule.add(
            LoadWeights(tag=self.tag, source=source, skip=skip, half=bool(half), records=count * self.records),
            reads=[("records", source)],
            writes=[("weights", half)],
        )

    def _multiply(self, tile: _Tile, banks: int, half: int, chunk: int, channels: int, offset: int, count: int) -> None:
        kernel, product = self.kernel, self.product
        narrow = product.target.narrow(self.parameters.lanes)
        group = product.head[2] if product.head else 0
        at = (tile.line - chunk) * kernel.stride * self.per_line + tile.column * kernel.stride * self.pitch
        self.schedule.add(
            Multiply(
                tag=self.tag,
                half=bool(banks),
                at=at + group * self.slots,
                weights_half=bool(half),
                lines=tile.lines,
                columns=tile.columns,
                channels=count,
                rows=tile.rows - 1,
                line_pitch=kernel.stride * self.per_line,
                column_pitch=kernel.stride * self.pitch,
                kernel_lines=kernel.lines,
                kernel_columns=kernel.columns,
                groups=product.weights.groups,
                passes=self.slots - 1,
                first=offset,
                leave=offset + count == channels,
                kernel_pitch=kernel.dilation * self.per_line,
                tap_pitch=kernel.dilation * self.pitch,
                collected=channels if narrow else self.parameters.lanes,
                floor=product.floor,
                unit=product.weights.unit,
            ),
            reads=[("bank", banks), ("weights", half)],
        )

    def _accumulate(self, tile: _Tile, vector: int) -> None:
        p, target = self.parameters, self.product.target
        n, state, strip = p.lanes, target.state.sample(self.sample), self.rows.strip
        period, bias_first = 1, vector
        if target.exchanged:
            first = target.first + vector * n * target.step + tile.line * target.width // n
            blocks = -(-tile.lines * target.width // n)
            steps = {"row_step": strip * target.width // n, "outer": blocks, "outer_step": 1, "exchanged": True}
            steps |= {"inner": min(n, target.channels - vector * n), "inner_step": target.step}
            steps |= {"tail": tile.lines * target.width - (blocks - 1) * n}
        elif target.narrow(n):
            period = state.channels // math.gcd(n, state.channels)
            first = tile.line * state.width * state.channels // n
            bias_first = first % period
            steps = {"row_step": strip * state.width * state.channels // n, "outer": 1, "outer_step": 0}
            steps |= {"inner": -(-tile.lines * state.width * state.channels // n), "inner_step": 1}
        else:
            first = target.first + (tile.line * target.width + tile.column) * target.step + vector
            steps = {"row_step": strip * target.width * target.step, "outer": tile.lines}
            steps |= {"outer_step": target.width * target.step, "inner": tile.columns, "inner_step": target.step}
        positions = state.positions
        if self.rows.samples:
            steps |= {"row_step": state.step, "sums_step": state.sums_step if state.summed == "channel" else 0}
            positions += (self.rows.count - 1) * positions_of(state.step, state.channels, n)
        if self.bias:
            bias_first += self.sample * self.bias.step
            steps["bias_step"] = self.bias.step if self.rows.samples else 0
        origin = self.origin.sample(self.sample).data if self.origin else Operand(0, 0)
        first_of_record = vector == 0 if state.summed == "position" else tile.line == 0 and tile.column == 0
        fresh = self.start and first_of_record
        uses: list[Hashable] = [("state", state.place)]
        self.schedule.add(
            Accumulate(
                tag=self.tag,
                state=state.data,
                bias=self.bias.vectors if self.bias else Operand(0, 0),
                sums=state.sums or Operand(0, 0),
                first=first,
                rows=tile.rows - 1,
                origin=origin,
                start=("region" if self.origin else "zero") if self.start else "add",
                biased=self.bias is not None,
                summed=state.summed,
                fresh=fresh,
                bias_period=period,
                bias_first=bias_first,
                channels=state.channels,
                positions=positions,
                floor=self.product.floor,
                **steps,
            ),
            reads=uses,
            writes=uses,
        )


def bias_vectors(values: np.ndarray, lanes: int) -> np.ndarray:
    """Entries of a bias, integers (..., channels), as the vectors that an accumulation takes: (..., vectors, n)."""
    values = np.asarray(values, np.int64)
    channels = values.shape[-1]
    if channels < lanes:
        values = np.concatenate([values] * (math.lcm(lanes, channels) // channels), axis=-1)
    pad = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % lanes)]
    return np.pad(values, pad).reshape(*values.shape[:-1], -1, lanes)
