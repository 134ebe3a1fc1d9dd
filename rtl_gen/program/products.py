"""Products with weights: records in the order of the multiply loop, and tiles for the array and the buffers at hand.

Words: rows of the array are samples, or strips of one sample; a *band* is as many lines of the output as every row has
accumulators for, strip below strip; a *chunk* as many bands as the banks hold groups for; a *tile* the positions of a
band that are multiplied at once. Weights of a vector of channels go to every band of a chunk before the next ones come,
and a band can be multiplied as soon as its groups are there.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from golden.machine import image
from golden.machine.command import UNIT_BYTES, Accumulate, LoadGroups, LoadScales, LoadWeights, Multiply, Operand
from golden.parameters import Parameters
from golden.units.weights import align_weights, product_exponent
from rtl_gen.program.memory import WEIGHTS, Emission, Kept, Memory, Tensor, positions_of
from rtl_gen.program.schedule import Schedule

_FIELD = 255
"""Lines of a Multiply at most, and columns."""
_STEP = 2**16 - 1
"""Vectors of a step of the loops of an Accumulate at most."""
_SLOTS = 8
"""Addresses of a group at most."""


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
    signs : Operand, optional
        Sign tensor that masks them, of all samples.
    repairs : Emission, optional
        Repairs of all pieces from this one on, which come before each of their groups.
    """

    emission: Emission
    repeat: int = 1
    signs: Operand | None = None
    repairs: Emission | None = None


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
class Leaving:
    """How the outputs of a product of a chain leave as groups.

    Members
    -------
    kept : Kept
        Where they go.
    turn : int
        Which of its sign tensors the new signs go to, 0 or 1.
    passes : int
        Of the groups.
    exponent : int or None
        Code of their static exponent; None: each chooses its own.
    places : int
        A sum counts ``2^places`` times as much as in its state.
    records : Operand
        Factors and shifts: of each vector of channels, or of all of them for each sample.
    by_sample : bool
        Whether samples have records of their own.
    """

    kept: Kept
    turn: int
    passes: int
    exponent: int | None
    places: int
    records: Operand
    by_sample: bool


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
    step, line_step : int
        Vectors of the state from position to position of a line, and from line to line.
    exchanged : bool
        Whether the outputs' positions are the channels of the state, and their channels its positions.
    sequences : int
        Samples of the state that outputs of one sample are spread over.
    pieces, frame_step : int
        Lines that belong together, where these do not follow each other in the state, and vectors from the first of
        them to that of the next ones; one line: all follow each other.
    """

    state: Tensor
    lines: int
    width: int
    channels: int
    first: int
    step: int
    line_step: int
    exchanged: bool = False
    sequences: int = 1
    pieces: int = 1
    frame_step: int = 0

    @classmethod
    def whole(cls, state: Tensor, lanes: int) -> "Target":
        """All of a state."""
        step = -(-state.channels // lanes)
        return cls(state, state.lines, state.width, state.channels, 0, step, state.width * step)

    @property
    def samples(self) -> int:
        """Samples of the product."""
        return self.state.samples // self.sequences

    def vector(self, line: Any) -> Any:
        """Vectors from the first one to that of position 0 of a line, or of some lines."""
        if self.pieces == 1:
            return line * self.line_step
        return line // self.pieces * self.frame_step + line % self.pieces * self.line_step

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
        Groups of a vector of the operand at most, in whatever step.
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
    if lsb is None:
        lsb = product_exponent(exponents, np.abs(integers).sum(axis=-1), p, passes=passes)
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


def room_for_weights(
    memory: Memory, outputs: int, taps: int, pieces: Sequence[Piece], parts: int = 1
) -> tuple[Weights, ...]:
    """Place for what `compile_weights` makes of weights of this shape, without content."""
    p = memory.parameters
    groups = sum(-(-piece.emission.channels // p.lanes) for piece in pieces)
    size = outputs // parts * taps * groups * image.weight_bytes(p)
    return tuple(Weights(memory.place(WEIGHTS, size), groups, 0) for _ in range(parts))


class _Ring:
    """Both halves of a buffer, filled one after the other, again and again.

    Parameters
    ----------
    name : str
        What it is.
    size : int
        Addresses of a half.
    """

    def __init__(self, name: str, size: int):
        self._name, self.size = name, size
        self._grain = 16 if size <= 4096 else size // 64  # addresses that are ordered together
        self._half, self._at = 0, 0
        self._kept: dict[Hashable, tuple[int, int, int]] = {}  # half, first address and end, by content

    def room(self, count: int) -> int:
        """How often so many addresses fit into a half."""
        return max(self.size // self._whole(count), 1)

    def take(self, count: int, times: int) -> list[tuple[int, int]]:
        """Half and address of so many addresses, so many times; not more than both halves have room for."""
        if (self.size - self._at) // self._whole(count) + self.room(count) < times:
            self._half, self._at = 1 - self._half, 0
        found = []
        for _ in range(times):
            if self._at + count > self.size:
                self._half, self._at = 1 - self._half, 0
            found.append((self._half, self._at))
            self._at += self._whole(count)
        for half, at in found:
            self._kept = {
                content: (other, first, end)
                for content, (other, first, end) in self._kept.items()
                if other != half or end <= at or at + count <= first
            }
        return found

    def keep(self, content: Hashable, half: int, at: int, count: int) -> None:
        """Remember what stands at so many addresses, until others take them."""
        self._kept[content] = half, at, at + count

    def find(self, content: Hashable) -> tuple[int, int] | None:
        """Half and address where this stands already."""
        found = self._kept.get(content)
        return found and found[:2]

    def places(self, half: int, at: int, count: int) -> list[Hashable]:
        """What stands for addresses where accesses are ordered."""
        return [(self._name, half, grain) for grain in range(at // self._grain, -(-(at + count) // self._grain))]

    def _whole(self, count: int) -> int:
        return -(-count // self._grain) * self._grain


class Buffers:
    """Banks and weight buffer, and where they are filled next. What is in a spool must not change while they are used.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    """

    def __init__(self, parameters: Parameters):
        self.banks = _Ring("bank", parameters.group_buffer)
        self.weights = _Ring("weights", parameters.weight_buffer)
        self.scales = _Ring("scales", parameters.scale_buffer // 2)


@dataclasses.dataclass(frozen=True)
class _Band:
    """Lines of the output that rows of the array work on side by side.

    Members
    -------
    first : int
        Line of row 0.
    strip : int
        Lines of a row.
    rows : int
        Rows that there are.
    lines : int
        Of a sample's output.
    numbers : range
        Samples: more than one are the rows, and have all the same lines.
    pitch : int
        Lines from row to row: strips follow each other, or are as far apart as frames.
    """

    first: int
    strip: int
    rows: int
    lines: int
    numbers: range
    pitch: int

    @property
    def samples(self) -> bool:
        """Whether rows are samples, not strips."""
        return len(self.numbers) > 1

    @property
    def end(self) -> int:
        """Line behind the last one."""
        return min(self.first + self.strip + (0 if self.samples else (self.rows - 1) * self.pitch), self.lines)

    def at(self, line: int) -> int:
        """How many rows have this line of their strip."""
        if self.samples:
            return self.rows
        return sum(self.first + row * self.pitch + line < self.lines for row in range(self.rows))


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Positions of a band: lines and columns, by the first of each and how many; rows that have them."""

    line: int
    lines: int
    column: int
    columns: int
    rows: int


def _whole(target: Target, lanes: int) -> int:
    """Lines of the output that whole vectors, or whole blocks of an exchange, take."""
    if target.exchanged:
        return lanes // math.gcd(lanes, target.width)
    return lanes // math.gcd(lanes, target.width * target.channels) if target.narrow(lanes) else 1


def _room(target: Target, p: Parameters) -> tuple[int, int]:
    """Columns and lines of a tile at most; a line that is cut has tiles of about the same size."""
    narrow = target.narrow(p.lanes)
    room = p.tile_words // -(-target.channels // p.columns) if narrow else p.tile_positions
    tiles = -(-target.width // min(room, _FIELD))
    width = -(-target.width // tiles)
    return width, min(max(room // width, 1), _FIELD)


def _bands(target: Target, p: Parameters, numbers: range, tall: int, first: int) -> Iterator[_Band]:
    """Bands of at most so many lines a row, the first one of at most `first`, of one sample or of several as rows."""
    whole, lines, line = _whole(target, p.lanes), target.lines, 0
    if target.pieces > 1:
        yield from _bands_of_frames(target, p, numbers, tall)
        return
    while line < lines:
        left = lines - line
        if len(numbers) > 1:
            strip = min(tall if line else first, left)
            band = _Band(line, strip, len(numbers), lines, numbers, strip)
        else:
            strip = min(tall if line else first, -(-left // p.rows // whole) * whole)
            rows = p.rows
            if left < p.rows * strip and left % strip % whole:
                # a row that ended sooner would cut the vectors of the others
                strip, rows = min(tall, left), 1
            band = _Band(line, strip, rows, lines, numbers, strip)
        yield band
        line = band.end


def _bands_of_frames(target: Target, p: Parameters, numbers: range, tall: int) -> Iterator[_Band]:
    """Bands whose rows are frames, or samples, since from frame to frame is not as far as from line to line."""
    pieces, samples = target.pieces, len(numbers) > 1
    tall = tall if target.line_step <= _STEP else 1
    together = 1 if samples else p.rows
    for frame in range(0, target.lines // pieces, together):
        rows = len(numbers) if samples else min(together, target.lines // pieces - frame)
        for piece in range(0, pieces, tall):
            strip = min(tall, pieces - piece)
            yield _Band(frame * pieces + piece, strip, rows, target.lines, numbers, pieces)


def _tiles(target: Target, p: Parameters, band: _Band) -> Iterator[_Tile]:
    """Tiles of a band."""
    width, _ = _room(target, p)
    line = 0
    while line < band.strip:
        have = band.at(line)
        if not have:
            return
        count = 1
        while line + count < band.strip and band.at(line + count) == have:
            count += 1
        for column in range(0, target.width, width):
            yield _Tile(band.first + line, count, column, min(width, target.width - column), have)
        line += count


def _lower(target: Target, p: Parameters, tall: int) -> int:
    """Lines of a row in the first band, where weights need not be read again for it: the array begins sooner."""
    return tall if _whole(target, p.lanes) > 1 else -(-tall // 2)


def reach(kernel: Kernel, target: Target, parameters: Parameters, repeat: int, lines: int) -> list[int]:
    """Lines of an emission after which the next band can be multiplied, up to all of its `lines`."""
    _, tall = _room(target, parameters)
    ends = []
    together = target.samples if target.samples >= parameters.rows > 1 else 1
    for band in _bands(target, parameters, range(together), tall, _lower(target, parameters, tall)):
        last = (band.end - 1) * kernel.stride - kernel.top + (kernel.lines - 1) * kernel.dilation
        end = min(last // repeat + 1, lines)
        if end > (ends[-1] if ends else 0):
            ends.append(end)
    return [*ends[:-1], lines]


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
    buffers: Buffers,
    bias: Bias | None,
    start: bool,
    origin: Tensor | None = None,
    samples: range | None = None,
    leaving: Leaving | None = None,
    tag: int = 0,
) -> None:
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
    buffers : Buffers
        Where groups and weights go.
    bias : Bias or None
        What is added.
    start : bool
        Whether the state starts anew.
    origin : Tensor, optional
        What it starts with instead of zeros.
    samples : range, optional
        Those that are run; the default is all.
    leaving : Leaving, optional
        How the outputs leave as groups; the default is as joint vectors.

    Raises
    ------
    ValueError
        If a line of groups does not fit a bank, or a block of records the weight buffer; if outputs leave as groups,
        and a tile does not hold whole lines of them.
    """
    samples = range(product.target.samples) if samples is None else samples
    first, together = samples.start, parameters.rows if parameters.rows > 1 else 1
    turns = []
    while first < samples.stop:
        count = together if samples.stop - first >= together else 1
        turns.append(range(first, first + count))
        first += count
    for each in [turns] if leaving is None else [[turn] for turn in turns]:
        _Run(schedule, parameters, product, sent, buffers, bias, origin, start, tag, each, leaving).add()


@dataclasses.dataclass
class _Run:
    """One run of a product; `turns` are the samples that are rows together, or one that is cut into strips."""

    schedule: Schedule
    parameters: Parameters
    product: Product
    sent: Sequence[int]
    buffers: Buffers
    bias: Bias | None
    origin: Tensor | None
    start: bool
    tag: int
    turns: Sequence[range]
    leaving: Leaving | None = None

    def __post_init__(self) -> None:
        kernel, target, pieces = self.product.kernel, self.product.target, self.product.pieces
        shape = pieces[0]
        width = shape.emission.width * shape.repeat
        across = (target.width - 1) * kernel.stride + (kernel.columns - 1) * kernel.dilation + 1
        self.right = max(across - kernel.left - width, 0)
        repairs = [piece.repairs.passes for piece in pieces if piece.repairs is not None]
        self.repaired = max(repairs, default=0)
        masked = [piece.emission.passes for piece in pieces if piece.signs is not None and self.parameters.replays]
        self.slots = max([*self.sent, *masked]) + self.repaired
        if self.slots > _SLOTS:
            raise ValueError(
                f"Groups of a vector that {self.product.name!r} reads must be at most {_SLOTS} with replays and "
                f"repairs, not {self.slots}"
            )
        self.pitch = sum(piece.emission.groups(self.parameters.lanes) for piece in pieces) * self.slots
        self.per_line = (kernel.left + width + self.right) * self.pitch
        self.records = kernel.lines * kernel.columns * self.product.weights.groups
        self._touched: dict[Hashable, tuple[list[tuple[int, Tensor, list[int]]], list[Hashable]]] = {}  # by tile

    def add(self) -> None:
        """Add the commands."""
        p, target = self.parameters, self.product.target
        if self.leaving:
            self._load_scales(self.leaving)
        tall = self._tall()
        parts, size = self._parts(min(p.lanes, target.channels))
        kept = len(parts) <= 2 * self.buffers.weights.room(size)
        first = _lower(target, p, tall) if kept else tall
        bands = [list(_bands(target, p, numbers, tall, first)) for numbers in self.turns]
        room = max(self._groups(band) for each in bands for band in each)
        chunks = [chunk for each in bands for chunk in self._chunks(each, room)]
        together = self._chunks([band for each in bands for band in each], room)
        if len(together) < len(chunks) and kept and self._weights_bind(bands[0]):
            chunks = together
        for chunk in chunks:
            held = self._held(chunk, room)
            for block in range(0, target.channels, p.lanes):
                self._block(block, chunk, held)

    def _load_scales(self, leaving: Leaving) -> None:
        """Factors and shifts of all vectors of channels, of each sample that has its own."""
        p, name = self.parameters, self.product.name
        if self.product.target.width > p.tile_positions:
            raise ValueError(
                f"tile_positions must hold lines of {self.product.target.width} positions of {name!r}, whose outputs "
                f"leave as groups, not {p.tile_positions}"
            )
        blocks = len(leaving.kept.spools)
        records = blocks * (len(self.turns[0]) if leaving.by_sample else 1)
        if records > self.buffers.scales.size:
            raise ValueError(
                f"norm_buffer must hold {2 * records * p.lanes} channels for {name!r}, not {p.norm_buffer}"
            )
        ((half, at),) = self.buffers.scales.take(records, 1)
        self.scales = half * self.buffers.scales.size + at
        first = self.turns[0].start * blocks * image.scale_bytes(p) if leaving.by_sample else 0
        self.scale_places = self.buffers.scales.places(half, at, records)
        self.schedule.add(
            LoadScales(
                tag=self.tag, source=leaving.records.moved(first // UNIT_BYTES), at=self.scales, records=records
            ),
            # nothing is multiplied before it can be accumulated: where a chain starts, an emission makes the state
            reads=self.product.target.state.places(),
            writes=self.scale_places,
        )

    def _chunks(self, bands: Sequence[_Band], room: int) -> list[Sequence[_Band]]:
        """Bands that the banks hold together."""
        fit = self.buffers.banks.room(room)
        size = len(bands) if len(bands) <= 2 * fit else fit
        return [bands[first : first + size] for first in range(0, len(bands), size)]

    def _weights_bind(self, bands: Sequence[_Band]) -> bool:
        """Whether weights that come once for all turns win more than it costs that turns no longer overlap.

        They must take longer than the array works with them. And near memory works on all turns before the product and
        after it, not on one while the array is at the other; so it must take less than the weights that are not read.
        """
        p, target = self.parameters, self.product.target
        channels, saved = min(p.lanes, target.channels), len(self.turns) - 1
        tiles = [tile.lines * tile.columns for band in bands for tile in _tiles(target, p, band)]
        works = sum(max(self.slots * positions, channels + 1) for positions in tiles)
        emitted = sum(
            piece.emission.lines * piece.emission.width * piece.emission.groups(p.lanes) * passes
            for piece, passes in zip(self.product.pieces, self.sent, strict=True)
        )
        sent = emitted * len(self.turns[0]) * (p.lanes // p.near_lanes)
        weights = p.record_clocks * target.channels * self.records
        return p.record_clocks * channels > works and saved * weights > 2 * (saved + 1) * sent

    def _tall(self) -> int:
        """Lines of a row in a band."""
        p, kernel, product = self.parameters, self.product.kernel, self.product
        target = product.target
        lines, whole = target.lines, _whole(target, p.lanes)
        width, tall = _room(target, p)
        room = (p.group_buffer // self.per_line - self._extra) // kernel.stride + 1
        least = min(whole, lines) if room > 0 else 1
        if room < least:
            raise ValueError(
                f"group_buffer must hold {(least - 1) * kernel.stride + self._extra} lines of {self.per_line} groups "
                f"for {product.name!r}, not {p.group_buffer}"
            )
        block = min(p.columns, p.lanes) * self.records
        if block > p.weight_buffer:
            raise ValueError(f"weight_buffer must hold {block} records for {product.name!r}, not {p.weight_buffer}")
        if (whole > 1 or target.narrow(p.lanes) or target.exchanged) and (width < target.width or tall < least):
            why = "exchanged" if target.exchanged else "fewer channels than lanes"
            raise ValueError(
                f"tile_positions must hold {least} lines of {target.width} positions of {product.name!r} ({why}), "
                f"not {p.tile_positions}"
            )
        tall = min(tall, room)
        return tall - tall % whole or lines

    @property
    def _extra(self) -> int:
        """Lines of groups that one line of the output takes."""
        return (self.product.kernel.lines - 1) * self.product.kernel.dilation + 1

    def _groups(self, band: _Band) -> int:
        """Groups of a band in each bank."""
        return ((band.strip - 1) * self.product.kernel.stride + self._extra) * self.per_line

    def _held(self, chunk: Sequence[_Band], room: int) -> list[tuple[int, int]]:
        """Half and address of the groups of each band, which are loaded unless all are there: another product that
        reads the same left them."""
        banks = self.buffers.banks
        loads = [self._loads(band) for band in chunk]
        contents = [(self.schedule.barriers, *(load for load, _ in each)) for each in loads]
        known = [place for content in contents if (place := banks.find(content)) is not None]
        if len(known) == len(chunk):
            return known
        held = banks.take(room, len(chunk))
        for band, each, content, (half, at) in zip(chunk, loads, contents, held, strict=True):
            size = self._groups(band)
            for load, reads in each:
                placed = dataclasses.replace(load, tag=self.tag, half=bool(half), at=at)
                self.schedule.add(placed, reads=reads, writes=banks.places(half, at, size))
            banks.keep(content, half, at, size)
        return held

    def _loads(self, band: _Band) -> list[tuple[LoadGroups, list[Hashable]]]:
        """Loads of every piece of a band, and the lines of spools that each reads; to address 0."""
        found, position = [], 0
        for piece, passes in zip(self.product.pieces, self.sent, strict=True):
            if piece.repairs is not None:  # first, as it leaves zero groups where those of the pieces come
                found.append(self._load(band, Piece(piece.repairs, piece.repeat), piece.repairs.passes, position))
            found.append(self._load(band, piece, passes, position))
            position += piece.emission.groups(self.parameters.lanes) * self.slots
        return found

    def _load(self, band: _Band, piece: Piece, passes: int, position: int) -> tuple[LoadGroups, list[Hashable]]:
        """Lines of groups of every row, to one address of each position."""
        p, product, kernel = self.parameters, self.product, self.product.kernel
        line = band.first * kernel.stride - kernel.top
        end = (band.end - 1) * kernel.stride - kernel.top + self._extra
        emission, slots = piece.emission.sample(band.numbers.start), self.slots
        skip, height = product.head[:2] if product.head else (0, emission.lines)
        read = range(skip + max(line // piece.repeat, 0), skip + min(-(-end // piece.repeat), height))
        reads = [place for number in band.numbers for place in piece.emission.sample(number).places("spool", read)]
        signs: dict[str, Any] = {}
        if piece.signs is not None:  # records are counted from those of the first sample on
            emission, skip = piece.emission, skip + band.numbers.start * piece.emission.step
            position, slots = position + self.repaired, slots - self.repaired
            signs = {"masked": True, "signs": piece.signs}
            reads.append(("signs", piece.signs))
        load = LoadGroups(
            source=emission.spool,
            lengths=emission.lengths if p.has_lengths else Operand(0, 0),
            slot=emission.slot,
            slot_step=emission.step if band.samples else 0,
            line_step=0 if band.samples else band.pitch * kernel.stride,
            rows=band.rows - 1,
            line=line,
            skip=skip,
            lines=self._groups(band) // self.per_line,
            repeat=piece.repeat,
            height=height,
            width=emission.width,
            left=kernel.left,
            right=self.right,
            groups=emission.groups(p.lanes),
            passes=slots - 1,
            sent=passes - 1,
            first=position,
            pitch=self.pitch,
            **signs,
        )
        return load, reads

    def _block(self, first: int, chunk: Sequence[_Band], held: Sequence[tuple[int, int]]) -> None:
        """One vector's channels of every tile of a chunk."""
        p, target, ring = self.parameters, self.product.target, self.buffers.weights
        channels = min(p.lanes, target.channels - first)
        parts, size = self._parts(channels)
        kept = len(parts) <= 2 * ring.room(size)
        places: list[tuple[int, int]] = []
        if kept:
            places = ring.take(size, len(parts))
            for part, place in zip(parts, places, strict=True):
                self._load_weights(first, *part, *place)
        for band, bank in zip(chunk, held, strict=True):
            for tile in _tiles(target, p, band):
                for number, part in enumerate(parts):
                    if kept:
                        place = places[number]
                    else:
                        (place,) = ring.take(size, 1)
                        self._load_weights(first, *part, *place)
                    self._multiply(band, tile, bank, place, channels, first // p.lanes, *part)
                self._accumulate(band, tile, first // p.lanes)

    def _parts(self, channels: int) -> tuple[list[tuple[int, int]], int]:
        """Channels that are multiplied at once, as the first and how many, and the records of the first of them."""
        whole = channels * self.records <= self.parameters.weight_buffer
        each = channels if whole else self.parameters.columns
        parts = [(offset, min(each, channels - offset)) for offset in range(0, channels, each)]
        return parts, parts[0][1] * self.records

    def _load_weights(self, first: int, offset: int, count: int, half: int, at: int) -> None:
        source, records = self.product.weights.source, count * self.records
        skip = (first + offset) * self.records
        self.schedule.add(
            LoadWeights(tag=self.tag, source=source, skip=skip, half=bool(half), at=at, records=records),
            reads=[("records", source, first // self.parameters.lanes)],
            writes=self.buffers.weights.places(half, at, records),
        )

    def _multiply(
        self,
        band: _Band,
        tile: _Tile,
        bank: tuple[int, int],
        place: tuple[int, int],
        channels: int,
        vector: int,
        offset: int,
        count: int,
    ) -> None:
        p, kernel, product, buffers = self.parameters, self.product.kernel, self.product, self.buffers
        narrow = product.target.narrow(p.lanes)
        group = product.head[2] if product.head else 0
        half, at = bank
        reads = buffers.banks.places(half, at, self._groups(band))
        reads += buffers.weights.places(*place, count * self.records)
        leaves: dict[str, Any] = {}
        floor, unit = product.floor, product.weights.unit
        if self.leaving:
            reads += self.scale_places
            of, blocks = self.leaving, len(self.leaving.kept.spools)
            floor, unit = of.exponent or 0, unit + of.places
            leaves = {"leaves": "groups", "sent": of.passes - 1, "scales": self.scales + vector}
            leaves["static"] = of.exponent is not None
            leaves["scales_step"] = blocks if of.by_sample and band.samples else 0
        at += (tile.line - band.first) * kernel.stride * self.per_line + tile.column * kernel.stride * self.pitch
        self.schedule.add(
            Multiply(
                tag=self.tag,
                half=bool(half),
                at=at + group * self.slots,
                weights_half=bool(place[0]),
                weights_at=place[1],
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
                collected=channels if narrow else p.lanes,
                floor=floor,
                unit=unit,
                **leaves,
            ),
            reads=reads,
        )

    def _accumulate(self, band: _Band, tile: _Tile, vector: int) -> None:
        p, target = self.parameters, self.product.target
        sample = band.numbers.start
        n, state, strip = p.lanes, target.state.sample(sample * target.sequences), band.pitch
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
            first = target.first + target.vector(tile.line) + tile.column * target.step + vector
            steps = {"row_step": target.vector(strip), "outer": tile.lines}
            steps |= {"outer_step": target.line_step if target.line_step <= _STEP else 0}  # tiles have one line then
            steps |= {"inner": tile.columns, "inner_step": target.step}
        positions = state.positions + (target.sequences - 1) * positions_of(state.step, state.channels, n)
        if band.samples:
            row_step = target.sequences * state.step
            steps |= {"row_step": row_step, "sums_step": state.sums_step if state.summed == "channel" else 0}
            positions += (band.rows - 1) * positions_of(row_step, state.channels, n)
        if self.bias:
            bias_first += sample * self.bias.step
            steps["bias_step"] = self.bias.step if band.samples else 0
        if self.leaving:
            steps |= self._keeping(band, tile, vector)
        beside = self.leaving.kept.repairs if self.leaving else self.origin  # repairs, or what it starts with
        origin = beside.sample(sample).data if beside else Operand(0, 0)
        first_of_record = vector == 0 if state.summed == "position" else tile.line == 0 and tile.column == 0
        fresh = self.start and first_of_record
        uses = self._results(band, tile, vector)
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

    def _keeping(self, band: _Band, tile: _Tile, vector: int) -> dict[str, Any]:
        """Fields of an accumulation of groups: where these go, and their signs."""
        kept = self.leaving.kept
        spool = kept.spools[vector]
        return {
            "groups": True,
            "signs": kept.signs[vector][self.leaving.turn],
            "spool": spool.spool,
            "lengths": spool.lengths,
            "slot": spool.slot,
            "place": band.numbers.start * spool.step + tile.line,
            "sums_step": spool.step if band.samples else band.pitch,
        }

    def _results(self, band: _Band, tile: _Tile, vector: int) -> list[Hashable]:
        """What a tile's vectors change, where accesses are ordered."""
        target, lanes = self.product.target, self.parameters.lanes
        vectors = [target.first + vector] if target.first < target.step and not target.exchanged else None
        key = (band, tile, vector if target.exchanged else 0)
        if key not in self._touched:
            parts = [
                (number, target.state.sample(number * target.sequences + part), lines)
                for part, lines in self._lines(band, tile, vector).items()
                for number in band.numbers
            ]
            self._touched[key] = parts, [place for _, one, lines in parts for place in one.places(lines)]
        parts, found = self._touched[key]
        for number, one, lines in parts if target.state.sums or self.leaving else ():
            found = [*found, *one.sums_places(lanes, vectors, lines)]
            if self.leaving:
                kept = self.leaving.kept
                found += kept.spools[vector].sample(number).places("spool", lines)
                found.append(("signs", kept.signs[vector][self.leaving.turn]))
                if kept.repairs:
                    found += kept.repairs.sample(number).places(lines)
        return found

    def _lines(self, band: _Band, tile: _Tile, vector: int) -> dict[int, list[int]]:
        """Lines of each sequence of the state that a tile's outputs go to."""
        target, lanes = self.product.target, self.parameters.lanes
        state = target.state
        if target.exchanged:  # positions of the state are channels of the product
            first = target.first + target.step * np.arange(vector * lanes, min((vector + 1) * lanes, target.channels))
        else:
            strips = [0] if band.samples else [row * band.pitch for row in range(tile.rows)]
            lines = np.concatenate([np.arange(tile.lines) + strip + tile.line for strip in strips])
            if target.narrow(lanes):
                return {0: np.unique(lines).tolist()}
            columns = np.arange(tile.column, tile.column + tile.columns)
            first = target.first + target.vector(lines)[:, None] + target.step * columns
        part, place = np.divmod(first.ravel(), state.step if target.sequences > 1 else first.max() + 1)
        line = place // (state.width * -(-state.channels // lanes))
        return {number: np.unique(line[part == number]).tolist() for number in np.unique(part).tolist()}


def bias_vectors(values: np.ndarray, lanes: int) -> np.ndarray:
    """Entries of a bias, integers (..., channels), as the vectors that an accumulation takes: (..., vectors, n)."""
    values = np.asarray(values, np.int64)
    channels = values.shape[-1]
    if channels < lanes:
        values = np.concatenate([values] * (math.lcm(lanes, channels) // channels), axis=-1)
    pad = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % lanes)]
    return np.pad(values, pad).reshape(*values.shape[:-1], -1, lanes)
