"""What readers lack: the differences of x and Xhat become delta groups, and Xhat what was sent.

::

    x ----+-> Differences -> rows -+-> Ranks -> exponents -+
    held -+                        |                       v
                                   +-> Ram <-------> Digits -+-> Groups -> o
                                                             +-> updated

A row is u elements. The rows of a vector wait in the RAM until its exponent is known; each pass reads them once, and
all passes but the last write back what they left over.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import filled, named, or_tree, take
from hw.arith.ranks import fill_slots, keep_largest
from hw.arith.shift import leading_zeros
from hw.memory import Ram
from hw.part import Part
from hw.stream import Pipelined, SkidBuffer, Stage
from hw.stream.records import RECORDS_WIDTH

_CODE_WIDTH = 5
"""Bits of an exponent code here: with at most 24 bits of state no code is above 23."""

_PASSES_WIDTH = 3

_HALF_WIDTH = 4
"""Bits of the exponent under which a difference has the 11 bits of an FP16 significand."""

_SIGNIFICAND = 11


def _largest_code(parameters: Parameters) -> int:
    """Largest exponent that a difference asks for: as it is below ``3 2^(w-2)``, its highest k bits are not all 1."""
    return parameters.state_width - parameters.digit_width + 1


def _differences(parameters: Parameters) -> data.ArrayLayout:
    """What is yet to be sent of a row."""
    return data.ArrayLayout(signed(parameters.state_width + 1), parameters.near_lanes)


def _row(parameters: Parameters) -> data.StructLayout:
    """What stays of a row: x and, with outliers, the exponents that a lane alone asks for."""
    u, fields = parameters.near_lanes, {}
    if parameters.outliers:
        # `code` that of digits, `half` that of an FP16 significand.
        fields = {"code": data.ArrayLayout(_CODE_WIDTH, u), "half": data.ArrayLayout(_HALF_WIDTH, u)}
    return data.StructLayout({"x": data.ArrayLayout(signed(parameters.state_width - 1), u), **fields})


def _difference_row(parameters: Parameters) -> data.StructLayout:
    """A row on its way: `marks` has bit c - 1 set where an element asks for code c, and others below it."""
    marks = {} if parameters.outliers else {"marks": _largest_code(parameters)}
    row = {"left": _differences(parameters), "row": _row(parameters)}
    return data.StructLayout({**row, "poisoned": 1, "last": 1, **marks})


def _vector(parameters: Parameters) -> data.StructLayout:
    """Exponent code of a vector, and whether it is poisoned."""
    return data.StructLayout({"exponent": _CODE_WIDTH, "poisoned": 1})


def _sent_part(parameters: Parameters) -> data.StructLayout:
    """Digits of a row in one pass; in its last one (`final`) the new Xhat."""
    u, fields = parameters.near_lanes, {}
    if parameters.outliers:
        fields = {"outliers": data.ArrayLayout(payloads.outlier(parameters), parameters.outliers)}
    return data.StructLayout(
        {
            "digits": data.ArrayLayout(signed(parameters.digit_width), u),
            "exponent": _CODE_WIDTH,
            "poisoned": 1,
            "last": 1,
            "final": 1,
            "updated": data.ArrayLayout(signed(parameters.state_width), u),
            **fields,
        }
    )


def _parts(parameters: Parameters) -> int:
    """Rows of a vector."""
    return parameters.lanes // parameters.near_lanes


def _highest(m: Module, name: str, bits: Value, width: int) -> Value:
    """Place of the highest 1, counted from 1, 0 if there is none, as `width` bits."""
    full = (1 << width) - 1
    return ~leading_zeros(m, name, Cat(bits, Const(0, full - len(bits))))[:width]


class Differences(Pipelined, Part):
    """``d = x - Xhat`` exactly, and the exponents that each element asks for.

    An element asks for the least code c with ``2 |d| < (2^k - 1) 2^c``: where t is the place of the highest bit of
    ``|d|``, that is ``t - k + 2``, and one more if k bits from there down are all 1; at least 0.

    Latency: 4 clocks. Throughput: one row per clock.

    Members
    -------
    x : In(stream of `payloads.element_part`)
        What is true.
    held : In(stream of u elements)
        What the readers hold; poison as in a state. With `start` none is taken.
    start : In(1)
        Xhat counts as 0.
    o : Out(stream)
        Rows.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        elements = data.ArrayLayout(payloads.state_element(parameters), parameters.near_lanes)
        return {
            "x": In(stream.Signature(payloads.element_part(parameters))),
            "held": In(stream.Signature(elements)),
            "start": In(1),
            "o": Out(stream.Signature(_difference_row(parameters))),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, o = self._parameters, self.o
        w, k = p.state_width, p.digit_width
        both = stream.Signature(0).create(path=("both",))
        s = Stage.begin(m, both)
        m.d.comb += [
            both.valid.eq(self.x.valid & (self.start | self.held.valid)),
            self.x.ready.eq(both.valid & both.ready),
            self.held.ready.eq(both.valid & both.ready & ~self.start),
        ]
        s.x, s.last = list(self.x.p["values"]), self.x.p.last
        s.held = [Mux(self.start, 0, value).as_signed() for value in self.held.p]

        s = s.cut()
        # No x but poison is so large that its two highest bits differ.
        lost = [value[-1] ^ value[-2] for value in s.x] + [value == -(1 << w - 1) for value in s.held]
        s.poisoned, s.row_x = or_tree(lost), [value[: w - 1].as_signed() for value in s.x]
        s.left = [(x - held)[: w + 1].as_signed() for x, held in zip(s.x, s.held, strict=True)]

        s = s.cut()
        s.magnitude = [((value ^ value[-1].replicate(w + 1))[:w] + value[-1])[:w] for value in s.left]

        s = s.cut()
        marks = []
        for magnitude in s.magnitude:
            wide = Cat(Const(0, 1), magnitude)
            marks.append(
                Cat(
                    magnitude[code + k - 2] | wide[code - 1 : code + k - 1].all()
                    for code in range(1, _largest_code(p) + 1)
                )
            )
        row = {"x": list(s.row_x)}
        fields = {}
        if p.outliers:
            row["code"] = [_highest(m, f"code{lane}", bits, _CODE_WIDTH) for lane, bits in enumerate(marks)]
            row["half"] = [
                _highest(m, f"half{lane}", magnitude[_SIGNIFICAND:], _HALF_WIDTH)
                for lane, magnitude in enumerate(s.magnitude)
            ]
        else:
            fields["marks"] = or_tree(marks)
        row = filled(m, "row", _row(p), **row)
        fields |= {"left": list(s.left), "row": row, "poisoned": s.poisoned, "last": s.last}
        return s.finish(o, filled(m, "payload", o.payload.shape(), **fields), depth=s.cuts)


class Ranks(Pipelined, Part):
    """Exponent of a vector: the least under which at most m lanes overflow, which is the (m+1)-th largest of theirs.

    Stage by stage the largest one so far stays, and the others go on to the next. Without outliers it is the largest of
    all, so the marks of the lanes are or-ed first.

    Latency: m + 2 clocks, one less without outliers. Throughput: one row per clock.

    Members
    -------
    i : In(stream)
        Rows of `Differences`.
    o : Out(stream)
        Exponents, one for each vector.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "i": In(stream.Signature(_difference_row(parameters))),
            "o": Out(stream.Signature(_vector(parameters))),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, i = self._parameters, self.i.p
        s = Stage.begin(m, self.i)
        first = Signal(init=1)
        poisoned = Signal(name="poisoned_so_far")
        s.first, s.last, s.poisoned = first, i.last, i.poisoned | (poisoned & ~first)
        with m.If(s.moves):
            m.d.sync += [first.eq(s.last), poisoned.eq(s.poisoned)]
        if p.outliers:
            s, decisive = keep_largest(s, list(i.row.code), p.outliers + 1)
        else:
            marks = Signal(len(i.marks), name="marks_so_far")
            s.make("marks", i.marks | Mux(first, 0, marks), held_by=marks)
            with m.If(s.moves):
                m.d.sync += marks.eq(s.marks)
            s = s.cut()
            decisive = _highest(m, "decisive", s.marks, _CODE_WIDTH)
        s.valid = s.valid & s.last
        payload = filled(m, "payload", self.o.payload.shape(), exponent=decisive, poisoned=s.poisoned)
        return s.finish(self.o, payload, depth=s.cuts)


class Digits(Part):
    """The passes of each vector: digits under its exponents, outliers, and in the last pass the new Xhat.

    A lane is shifted down by its exponent e and rounded, ties to even. What is left is its e low bits, less ``2^e`` if
    it was rounded up: a mask, no subtraction. The readers then hold ``x - what is left``. An outlier is shifted by the
    exponent under which it has the 11 bits of an FP16 significand; what FP16 loses of it rounds to 0 in later passes.

    Latency: 6 clocks from an exponent to the first part. Throughput: one row of a pass a clock; a pass that is not the
    last takes `period` clocks at least, since the next one reads what it leaves.

    Members
    -------
    rows : In(stream)
        Rows of vectors; taken as long as there is room, and while no pass writes back.
    vectors : In(stream)
        Their exponents.
    passes : In(3)
        Passes, minus 1.
    exact : In(1)
        The new Xhat is x.
    o : Out(stream)
        Digits, row by row.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "rows": In(stream.Signature(_difference_row(parameters))),
            "vectors": In(stream.Signature(_vector(parameters))),
            "passes": In(_PASSES_WIDTH),
            "exact": In(1),
            "o": Out(stream.Signature(_sent_part(parameters))),
        }

    @property
    def stored(self) -> int:
        """Clocks from the reading of a row to the writing of what is left."""
        return 3 if self._parameters.outliers else 2

    @property
    def period(self) -> int:
        """Clocks of a pass that is not the last one."""
        return max(_parts(self._parameters), self.stored + 1)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, n_rows, k = self._parameters, _parts(self._parameters), self._parameters.digit_width
        # The next vector is ranked while this one leaves.
        depth = 1 << (n_rows + 6 + p.outliers).bit_length()
        m.submodules.lefts = lefts = Ram(_differences(p), depth)
        m.submodules.kept = kept_rows = Ram(_row(p), depth)
        base, address, written = (Signal(range(depth), name=name) for name in ("base", "address", "written"))
        level = Signal(range(depth + 1))

        active = Signal()
        poisoned = Signal()
        first_pass = Signal()
        exponent = Signal(_CODE_WIDTH)
        first_exponent = Signal(_CODE_WIDTH)
        passes = Signal(_PASSES_WIDTH, name="passes_left")
        beat = Signal(range(self.period))
        beats = stream.Signature(0).create(path=("beats",))
        step = Signal()
        final = Signal()
        there = Signal()
        end = Signal()
        m.d.comb += [
            beats.valid.eq(active & there),
            step.eq(active & beats.ready),
            final.eq(passes == 0),
            there.eq(beat < n_rows if self.period > n_rows else 1),
            end.eq(beat == Mux(final, n_rows - 1, self.period - 1)),
            self.vectors.ready.eq(~active | (step & end & final)),
        ]
        for ram in (lefts, kept_rows):
            m.d.comb += [ram.read_enable.eq(beats.ready), ram.read_address.eq(address)]
        with m.If(step):
            m.d.sync += beat.eq(Mux(end, 0, beat + 1))
            with m.If(there):
                m.d.sync += address.eq(address + 1)
            with m.If(end & ~final):
                m.d.sync += [
                    address.eq(base),
                    passes.eq(passes - 1),
                    first_pass.eq(0),
                    exponent.eq(Mux(exponent > k - 1, exponent - (k - 1), 0)),
                ]
            with m.If(end & final):
                m.d.sync += [base.eq(address + 1), active.eq(0)]
        with m.If(self.vectors.valid & self.vectors.ready):
            m.d.sync += [
                active.eq(1),
                first_pass.eq(1),
                passes.eq(self.passes),
                poisoned.eq(self.vectors.p.poisoned),
                exponent.eq(self.vectors.p.exponent),
                first_exponent.eq(self.vectors.p.exponent),
            ]

        s = Stage.begin(m, beats)
        s.address, s.poisoned, s.final, s.first_pass = address, poisoned, final, first_pass
        s.exponent, s.first_exponent = exponent, first_exponent
        s.beat, s.last = beat[: max(n_rows - 1, 1).bit_length()], beat == n_rows - 1
        s.make("left", lefts.read_data, held_by=lefts.read_data)
        s.make("row", kept_rows.read_data, held_by=kept_rows.read_data)
        s = self._digits(s.cut())
        kept = named(m, "keeps", s.moves & ~s.final)
        put = Signal()
        m.d.comb += [
            # Whether a row that waits is to be kept, not whether it moves: what comes does not wait for what leaves.
            self.rows.ready.eq((level != depth) & ~(s.valid & ~s.final)),
            put.eq(self.rows.valid & self.rows.ready),
            kept_rows.write_enable.eq(put),
            kept_rows.write_address.eq(written),
            kept_rows.write_data.eq(self.rows.p.row),
            lefts.write_enable.eq(put | kept),
            lefts.write_address.eq(Mux(kept, s.address, written)),
            lefts.write_data.as_value().eq(Mux(kept, Cat(s.remaining), self.rows.p.left)),
        ]
        m.d.sync += [written.eq(written + put), level.eq(level + put - (step & final))]
        self._updates(s)
        return m

    def _digits(self, s: Stage) -> Stage:
        """Shifts each lane and rounds it; ends where what is left is known."""
        m, p = s.m, self._parameters
        w, k, u = p.state_width, p.digit_width, p.near_lanes
        if p.outliers:
            s.over = Cat(code > s.first_exponent for code in s.row.code)
            s.exponents = [Mux(s.over[lane], s.row.half[lane], s.exponent) for lane in range(u)]
            s = s.cut()
        else:
            s.exponents = [s.exponent] * u
        # Bits of a significand, or of a digit, with their sign.
        width = max(k, _SIGNIFICAND + 1) if p.outliers else k
        floors, ups, masks = [], [], []
        for lane, (left, exponent) in enumerate(zip(s.left, s.exponents, strict=True)):
            # Not ``2^e - 1``: a shift of ones takes no carries.
            mask = named(m, f"mask{lane}", ~(Const(-1, w + 1) << exponent)[: w + 1])
            window = take(m, f"window{lane}", Cat(Const(0, 1), left), exponent, width + 1)
            guard, floor = window[0], window[1:]
            floors.append(floor)
            masks.append(mask)
            ups.append(guard & ((left & (mask >> 1)).any() | floor[0]))
        s.floors, s.masks, s.ups = floors, masks, Cat(ups)

        s = s.cut()
        s.remaining = [
            Mux(up, value | ~mask, value & mask)[: w + 1].as_signed()
            for value, mask, up in zip(s.left, s.masks, s.ups, strict=True)
        ]
        return s

    def _updates(self, s: Stage) -> None:
        """What leaves: digits, outliers in slots, and what the readers hold from now on."""
        m, p = s.m, self._parameters
        w, k = p.state_width, p.digit_width
        none = [s.poisoned | flag for flag in s.over] if p.outliers else [s.poisoned] * p.near_lanes
        s.digits = [
            Mux(zero, 0, (floor + up)[:k]).as_signed() for zero, floor, up in zip(none, s.floors, s.ups, strict=True)
        ]
        if p.outliers:
            s.significands = [
                (floor.as_signed() + up)[: _SIGNIFICAND + 2] for floor, up in zip(s.floors, s.ups, strict=True)
            ]

        s = s.cut()
        s.updated = [
            Mux(s.poisoned, -(1 << (w - 1)), (x - Mux(self.exact, 0, left))[:w]).as_signed()
            for x, left in zip(s.row.x, s.remaining, strict=True)
        ]
        fields = {}
        if p.outliers:
            s = self._slots(s)
            fields["outliers"] = [getattr(s, f"slot{number}") for number in range(p.outliers)]
        for name in ("digits", "exponent", "poisoned", "last", "final", "updated"):
            value = getattr(s, name)
            fields[name] = list(value) if name in ("digits", "updated") else value
        s.finish(self.o, filled(m, "part", self.o.payload.shape(), **fields), depth=s.cuts)

    def _slots(self, s: Stage) -> Stage:
        """Outliers of a vector so far, slot by slot: an empty slot takes the first one that comes by."""
        m, p = s.m, self._parameters
        values = []
        for lane, (significand, half) in enumerate(zip(s.significands, s.row.half, strict=True)):
            negative = significand[-1]
            # At most 2^11, which is the least significand of the next exponent.
            magnitude = (significand[:-1] ^ negative.replicate(_SIGNIFICAND + 1)) + negative
            exponent = half + magnitude[_SIGNIFICAND - 1 : _SIGNIFICAND + 1]
            values.append(named(m, f"value{lane}", Cat(magnitude[: _SIGNIFICAND - 1], exponent[:5], negative)))
        s.values = values
        flags = Mux(s.first_pass & ~s.poisoned, s.over, 0)
        return fill_slots(s, flags, payloads.outlier(p), p.outliers)


class Groups(Part):
    """Rows of digits become groups; the new Xhat leaves row by row.

    Latency: 1 clock from the last row of a group. Throughput: one row per clock.

    Members
    -------
    i : In(stream)
        Rows of `Digits`.
    o : Out(stream of `payloads.stream_group`)
        Delta groups; `last` marks the last one of a line.
    updated : Out(stream of u elements)
        The new Xhat.
    vectors : In
        Of a line.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        elements = data.ArrayLayout(payloads.state_element(parameters), parameters.near_lanes)
        return {
            "i": In(stream.Signature(_sent_part(parameters))),
            "o": Out(stream.Signature(payloads.stream_group(parameters))),
            "updated": Out(stream.Signature(elements)),
            "vectors": In(RECORDS_WIDTH),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p, i, o = self._parameters, self.i, self.o
        room = ~o.valid | o.ready
        step = Signal()
        group = o.p.group
        digits = Signal(p.lanes * p.digit_width)
        nonzero = Signal()
        found = nonzero | i.p.digits.as_value().any()
        if p.outliers:
            found = found | i.p.outliers[0].valid
        m.d.comb += [
            self.updated.valid.eq(i.valid & i.p.final & room),
            self.updated.p.eq(i.p.updated),
            i.ready.eq(room & (~i.p.final | self.updated.ready)),
            step.eq(i.valid & i.ready),
            group.digits.eq(digits),
        ]
        gone, last_vector = Signal(RECORDS_WIDTH), Signal(RECORDS_WIDTH)
        # A line's vectors are told long before its first group.
        m.d.sync += last_vector.eq(self.vectors - 1)
        line_ends = named(m, "line_ends", gone == last_vector)
        with m.If(step & i.p.last & i.p.final):
            m.d.sync += gone.eq(Mux(line_ends, 0, gone + 1))
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                digits.eq(Cat(digits, i.p.digits)[len(i.p.digits.as_value()) :]),
                nonzero.eq(found & ~i.p.last),
                o.valid.eq(i.p.last),
                group.exponent.eq(Mux(i.p.poisoned, POISONED_GROUP, Mux(found, i.p.exponent, ZERO_GROUP))),
                o.p.last.eq(i.p.final & line_ends),
            ]
            if p.outliers:
                m.d.sync += group.outliers.eq(i.p.outliers)
        return m


class DeltaPath(Part):
    """Differences of x and Xhat to delta groups, and the new Xhat (numerics, 12.10).

    ``d = x - Xhat``, exact, is quantised under the exponents of its vector in as many passes as are asked for; Xhat
    then holds what was sent, or x if `exact`. A poisoned element poisons its vector. All settings stay as they are from
    the first row of an emission to its last group.

    Throughput: a vector of n elements in ``passes n / u`` clocks, if n / u is at least `Digits.period`.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.

    Members
    -------
    x : In(stream of `payloads.element_part`)
        Vectors of x, at most ``2^(w-2) - 1`` in magnitude.
    held : In(stream of u elements)
        Their Xhat; none is taken if `start`.
    o : Out(stream of `payloads.stream_group`)
        Groups, pass by pass; `last` marks the last one of a line.
    updated : Out(stream of u elements)
        The new Xhat, in the order of `held`.
    start : In(1)
        Xhat and its poison count as 0.
    exact : In(1)
        The new Xhat is x.
    passes : In(3)
        Passes, minus 1.
    vectors : In
        Of a line.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        p = parameters
        elements = data.ArrayLayout(payloads.state_element(p), p.near_lanes)
        return {
            "x": In(stream.Signature(payloads.element_part(p))),
            "held": In(stream.Signature(elements)),
            "o": Out(stream.Signature(payloads.stream_group(p))),
            "updated": Out(stream.Signature(elements)),
            "start": In(1),
            "exact": In(1),
            "passes": In(_PASSES_WIDTH),
            "vectors": In(RECORDS_WIDTH),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        p = self._parameters
        m.submodules.differences = differences = Differences(p)
        m.submodules.ranks = ranks = Ranks(p)
        m.submodules.digits = digits = Digits(p)
        m.submodules.groups = groups = Groups(p)
        wiring.connect(m, wiring.flipped(self.x), differences.x)
        wiring.connect(m, wiring.flipped(self.held), differences.held)
        # Nor does what is ranked.
        m.submodules.vectors = vectors = SkidBuffer(ranks.o.payload.shape())
        wiring.connect(m, ranks.o, vectors.i)
        wiring.connect(m, vectors.o, digits.vectors)
        wiring.connect(m, digits.o, groups.i)
        wiring.connect(m, groups.o, wiring.flipped(self.o))
        wiring.connect(m, groups.updated, wiring.flipped(self.updated))
        m.d.comb += [
            differences.start.eq(self.start),
            digits.exact.eq(self.exact),
            digits.passes.eq(self.passes),
            groups.vectors.eq(self.vectors),
            # A row is ranked when it is stored.
            ranks.i.valid.eq(differences.o.valid & digits.rows.ready),
            ranks.i.p.eq(differences.o.p),
            digits.rows.valid.eq(differences.o.valid & ranks.i.ready),
            digits.rows.p.eq(differences.o.p),
            differences.o.ready.eq(ranks.i.ready & digits.rows.ready),
        ]
        return m
