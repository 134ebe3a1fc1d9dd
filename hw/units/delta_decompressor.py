"""The decompression unit: a packed stream of words back to delta groups."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.bits import take
from hw.link.blocks import BLOCK_GROUPS, HEADER_WIDTH
from hw.link.checks import CheckReader, sound_header, without_checks
from hw.link.delta_code import PREFIX_WIDTH, START, Code
from hw.link.delta_scan import Scan
from hw.link.recall import Recall
from hw.stream import SkidBuffer, Stage, count_stages
from hw.units.delta_compressor import PASSES_WIDTH, delta_marker, link_ports
from hw.units.unit import Unit

_ROWS = 3
"""Rows of words that wait: two that hold a group, and one that is being filled."""

_BUFFERED = 12
"""Words that wait in registers and buffers between the recall and the rows at most, but for those looked ahead at."""

_SCAN_LIMIT = 2048
"""Largest `link_width` times `lanes` to scan, since a scan's LUTs grow with this: 8,600 at 1,024, 26,400 at 4,096."""


class DeltaDecompressor(Unit):
    """Unpacks the stream of `DeltaCompressor`; whatever else comes in ends in `error` and poisoned groups.

    Words are sorted first: those of a block with a sound header pass, others are dropped. The *scan* finds, for every
    bit of a word, where a group that starts there would end (`hw.link.delta_scan`). Words of a block are gathered into
    *rows*, in which no group is longer than a row, so the oldest two hold the group that starts at the *offset* in the
    older. One loop looks up its end, which is the next offset; it is the only part that must finish within a clock.
    What is in the group is decoded behind the loop. If it is refused there, the loop goes on, wherever that leads, and
    all groups up to the end of the block come out poisoned. The loop never leaves the block, whose last word is marked.
    If the last group ends before that, the length is not to be trusted: the words that came after the group are
    *recalled* and sorted again.

    With ``k > 3``, or `link_width` times `lanes` above 2048, a scan would cost too much: the loop measures the group
    itself, and its clock is slow.

    ::

        i -> recall -> sort -> scan -> rows -> locate -> prefix -> planes -> signs, outliers -> o
               ^                         ^       |
               +---- groups end early ---+- end -+

    With `link_checks`, `CheckReader` takes the place of the recall: it holds a block until it is known to be intact,
    length and all.

    Latency: 17 clocks from the only word of a stream to its group, with `pipeline_depth` at least 4, a scan
    and a link word no shorter than what it looks ahead; 12 without a scan. With `link_checks` 2 more, from its block's
    last word.
    Throughput: one group per clock, or `link_width` / group bits, whichever is lower; and for each block one clock more
    at its end, if its final group reaches into another row.
    Numerics: lossless; ``docs/formats.md``, delta stream, with its list of what is refused.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.link_word`)
        Words; `last` ends the stream.
    passes : In(3)
        Groups of a vector, minus 1; constant while the unit holds a stream. A block of another number is refused.
    o : Out(stream of `payloads.stream_group`)
        Groups; `last` marks the final group of each stream, always.
    clear : In(1)
        Lowers `error`.
    error : Out(1)
        Sticky: something was refused.
    """

    name = "delta_decompressor"
    summary = "unpacks a compressed stream into delta groups, and resynchronises after errors"

    def __init__(self, parameters: Parameters):
        super().__init__(parameters)
        self._code = code = Code(parameters)
        width = parameters.link_width
        self._row_width = code.row_width(width)
        scans = not code.rest_width and width * parameters.lanes <= _SCAN_LIMIT
        self._scanner = Scan(code, width) if scans else None
        self._n_ahead = -(-self._scanner.ahead // width) if self._scanner else 0
        word = {"data": width, "final": 1, "last": 1, "end": range(width + 1)}
        row = {"data": self._row_width, "final": 1, "last": 1, "end": range(self._row_width + 1)}
        if not parameters.link_checks:
            # Words on their way to the loop, and those of the row that it has left. Each has a number; a row has those
            # of its first word and of the word after it.
            words = self._n_ahead + _BUFFERED + (_ROWS + 1) * (self._row_width // width)
            self._n_recalled = 1 << (words - 1).bit_length()
            self._number_width = self._n_recalled.bit_length()
            word |= {"number": self._number_width}
            row |= {"first": self._number_width, "following": self._number_width}
        self._word, self._ends = data.StructLayout(word), None
        if self._scanner:
            planes = self._scanner.end_width
            self._ends = data.StructLayout(word | {"ends": data.ArrayLayout(width, planes)})
            row["ends"] = data.ArrayLayout(self._row_width, planes)
        self._row = data.StructLayout(row)

    def _members(self, parameters: Parameters) -> dict:
        ports = link_ports(payloads.link_word(parameters), payloads.stream_group(parameters))
        return ports | {"clear": In(1), "error": Out(1)}

    @property
    def latency(self) -> int:
        """Clocks from the only word of a stream, or the last one with `link_checks`, to its group."""
        words, ends, groups = self._streams()
        scanned = 0
        if self._scanner:
            bits = Signal(self._scanner.width + self._scanner.ahead)
            scan = count_stages(lambda m: self._find_ends(m, words, ends, bits))
            scanned = self._n_ahead + scan + SkidBuffer.latency
        held = CheckReader.latency if self.parameters.link_checks else Recall.latency
        decoded = count_stages(lambda m: self._decode(m, groups, []))
        return held + 1 + scanned + _ROWS + 1 + SkidBuffer.latency + decoded

    def _streams(self) -> tuple[stream.Interface, stream.Interface | None, stream.Interface]:
        """Words, words with ends (None without a scan), and groups whose place is found."""
        groups = {"bits": self._code.longest, "starts": 1, "bad": 1, "early": 1, "last": 1}
        layouts = {"scanned": self._word, "ends": self._ends, "located": data.StructLayout(groups)}
        words, ends, located = (
            None if layout is None else stream.Signature(layout).create(path=(name,))
            for name, layout in layouts.items()
        )
        return words, ends, located

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        rate = f"one group per clock, or {self.parameters.link_width} bits per clock, whichever is lower"
        return f"{rate}; at most one clock more at the end of a block"

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        errors: list[Value] = []
        p, marker = self.parameters, delta_marker(self.parameters, self.passes)
        # Whatever is on its way to the loop is forgotten when words are recalled.
        front, again = Module(), Signal(name="again")
        m.submodules.front = ResetInserter(again)(front)
        recall = None
        if p.link_checks:
            i = without_checks(m, p, wiring.flipped(self.i), marker, self._code.longest)
        else:
            m.submodules.recall = recall = Recall(payloads.link_word(p), self._n_recalled)
            wiring.connect(m, wiring.flipped(self.i), recall.i)
            m.d.comb += recall.again.eq(again)
            i = recall.o
        words = self._sort(front, i, marker, errors)
        if self._scanner:
            words = self._buffered(front, "scan_buffer", self._scan(front, words))
        located = self._locate(m, front, words, again, recall)
        self._decode(m, self._buffered(m, "located_buffer", located), errors)
        self._stick(m, error=Cat(*errors).any())
        return m

    @staticmethod
    def _buffered(m: Module, name: str, source: object) -> object:
        """`source` after a buffer, so that whether the loop moves on is told within the loop alone."""
        m.submodules[name] = buffer = SkidBuffer(source.payload.shape())
        m.d.comb += [
            buffer.i.valid.eq(source.valid),
            buffer.i.payload.eq(source.payload),
            source.ready.eq(buffer.i.ready),
        ]
        return buffer.o

    def _sort(self, m: Module, i: stream.Interface, marker: Value, errors: list[Value]) -> object:
        """Pass the words of sound blocks on, each with what is known of its end."""
        width = self.parameters.link_width
        words = stream.Signature(self._word).create(path=("words",))

        # The header's tests are made on the way into the first register.
        given = i.p if self.parameters.link_checks else i.p.word
        sound, valid = Signal(name="sound"), Signal(name="word_valid")
        word, last = Signal(width, name="word"), Signal(name="word_last")
        taken = Signal(name="word_taken")
        m.d.comb += i.ready.eq(~valid | taken)
        with m.If(i.ready):
            m.d.sync += [
                valid.eq(i.valid),
                word.eq(given.data),
                last.eq(given.last),
                sound.eq(sound_header(given.data[:HEADER_WIDTH], marker, self._code.longest)),
            ]
            if not self.parameters.link_checks:
                number = Signal(self._number_width, name="word_number")
                m.d.sync += number.eq(i.p.number)
                m.d.comb += words.p.number.eq(number)

        # Bits of the block that this word and those after it hold; 0 outside blocks.
        most = range(HEADER_WIDTH + BLOCK_GROUPS * self._code.longest + 1)
        remaining, here, beyond = (Signal(most, name=name) for name in ("remaining", "bits_here", "bits_beyond"))
        inside, known, fits = Signal(name="inside"), Signal(name="known"), Signal(name="fits")
        m.d.comb += [
            inside.eq(remaining.any()),
            known.eq(inside | sound),
            here.eq(Mux(inside, remaining, word[14:30] + HEADER_WIDTH)),
            fits.eq(here <= width),
            beyond.eq(Mux(fits | last, 0, here - width)),
            words.valid.eq(valid),
            words.p.final.eq(fits | last | ~known),
            words.p.last.eq(last),
            # A word in no block is a block of one group without a bit, which only the end of a stream needs: it owes a
            # group marked last.
            words.p.data.eq(Mux(known, word, 0)),
            words.p.end.eq(Mux(known, Mux(fits, here, width), HEADER_WIDTH)),
            taken.eq(words.ready),
        ]
        padding = Signal(width, name="padding")
        m.d.comb += padding.eq(Const(-1, width) << words.p.end)
        with m.If(valid & taken):
            m.d.sync += remaining.eq(Mux(known, beyond, 0))
            errors += [
                valid & taken & ~known,
                valid & taken & known & last & ~fits,
                valid & taken & known & fits & (word & padding).any(),
            ]
        return words

    def _scan(self, m: Module, words: object) -> object:
        """Find for each bit of a word where a group that starts there would end."""
        scan, width = self._scanner, self.parameters.link_width
        row = [Signal(self._word, name=f"scanned{index}") for index in range(self._n_ahead)]
        # What follows a block's last word is of no account, so none need follow.
        ended, shift = Signal(init=1, name="scan_ended"), Signal(name="scan_shift")
        valids = Signal(self._n_ahead, name="scan_valids")
        now, ends, _ = self._streams()
        m.d.comb += [
            now.valid.eq(valids[0] & (words.valid | ended)),
            now.payload.eq(row[0]),
            words.ready.eq(now.ready | ~valids[0]),
            shift.eq(words.ready & (words.valid | ended)),
        ]
        with m.If(shift):
            m.d.sync += [word.eq(following) for word, following in zip(row, [*row[1:], words.payload], strict=True)]
            m.d.sync += valids.eq(Cat(valids[1:], words.valid))
            with m.If(words.valid):
                m.d.sync += ended.eq(words.p.final)
        self._find_ends(m, now, ends, Cat(*(word.data for word in row), words.p.data)[: width + scan.ahead])
        return ends

    def _find_ends(self, m: Module, words: stream.Interface, ends: stream.Interface, bits: Value) -> int:
        """The scan, in stages, beside the words."""
        s = Stage.begin(m, words, name="scan_")
        s.word = words.payload
        s = self._scanner.ends(s, bits)
        return s.finish(ends, Cat(s.word, *s.ends), depth=self.parameters.pipeline_depth)

    def _rows(self, m: Module, words: object, pop: Value) -> tuple[list[data.View], list[Value]]:
        """Gather the words of a block into rows; returns the oldest two and whether they are there."""
        width, p = self.parameters.link_width, words.p
        rows = [Signal(self._row, name=f"row{index}", reset_less=True) for index in range(_ROWS)]
        valids = [Signal(name=f"row{index}_valid") for index in range(_ROWS)]
        n_words = self._row_width // width
        at = Signal(range(n_words), name="word_of_row")
        moves = [Signal(name=f"row{index}_moves") for index in range(_ROWS)]
        m.d.comb += moves[0].eq(pop)
        for index in range(1, _ROWS):
            m.d.comb += moves[index].eq(valids[index] & (~valids[index - 1] | moves[index - 1]))
        for index in range(_ROWS - 1):
            with m.If(moves[index + 1]):
                m.d.sync += [rows[index].eq(rows[index + 1]), valids[index].eq(1)]
            with m.Elif(moves[index]):
                m.d.sync += valids[index].eq(0)
        row, complete = rows[-1], Signal(name="row_complete")

        def part(value: Value) -> Value:
            """The bits of a row that the word brings; a part chosen by no bits would be lost in Verilog."""
            return value.word_select(at, width) if n_words > 1 else value

        m.d.comb += [
            words.ready.eq(~valids[-1] | moves[-1]),
            complete.eq(p.final | (at == n_words - 1)),
        ]
        with m.If(words.ready):
            m.d.sync += valids[-1].eq(words.valid & complete)
            with m.If(words.valid):
                m.d.sync += [
                    at.eq(Mux(p.final, 0, at + 1)),
                    part(row.data).eq(p.data),
                    row.final.eq(p.final),
                    row.last.eq(p.last),
                    row.end.eq(at * width + p.end),
                ]
                if not self.parameters.link_checks:
                    m.d.sync += row.following.eq(p.number + 1)
                    with m.If(at == 0):
                        m.d.sync += row.first.eq(p.number)
                if self._scanner:
                    for digit in range(self._scanner.end_width):
                        m.d.sync += part(row.ends[digit]).eq(p.ends[digit])
        return rows[:2], valids[:2]

    def _end(self, m: Module, rows: list[data.View], offset: Value, bits: Value) -> Value:
        """Where the group at `offset` of the older row ends."""
        end = Signal(range(2 * self._row_width), name="end")
        if self._scanner:
            shift = (self.parameters.link_width - 1).bit_length()
            here = Cat(plane.bit_select(offset, 1) for plane in rows[0].ends)
            m.d.comb += end.eq(here + (offset[shift:] << shift))
        else:
            m.submodules.length = inner = Module()
            m.d.comb += end.eq(offset + self._code.measure(inner, bits).length)
        return end

    def _locate(self, m: Module, front: Module, words: object, again: Signal, recall: Recall | None) -> object:
        """The loop: find where each group ends, which is where the next one starts."""
        code, width = self._code, self._row_width
        _, _, groups = self._streams()
        g = groups.p
        pop = Signal(name="row_pop")
        rows, valids = self._rows(front, words, pop)
        offset = Signal(range(width), init=HEADER_WIDTH, name="offset")
        starts, broken, seeking = Signal(init=1, name="starts"), Signal(name="broken"), Signal(name="seeking")
        left, saved = Signal(6, name="groups_left"), Signal(6, name="groups_left_saved")
        m.d.comb += left.eq(Mux(starts, rows[0].data[8:14], saved))

        # No group is longer than a row, so two hold it.
        bits = Signal(code.longest, name="group_bits")
        m.d.comb += bits.eq(take(m, "group", Cat(row.data for row in rows), offset, code.longest))
        end = self._end(m, rows, offset, bits)

        block_end = Signal(range(2 * width + 1), name="block_end")
        known, empty = Signal(name="end_known"), Signal(name="empty")
        over, ends, final = Signal(name="over"), Signal(name="block_ends"), Signal(name="final_group")
        # With checks the length is sound, and what is left of the block is passed over.
        early = Signal(name="early")
        if recall is not None:
            m.d.comb += early.eq(final & ~ends & ~broken)
        m.d.comb += [
            block_end.eq(Mux(rows[0].final, rows[0].end, rows[1].end + width)),
            known.eq(rows[0].final | rows[1].final),
            # Made up by `_sort` of a word in no block.
            empty.eq(starts & rows[0].final & (rows[0].end <= HEADER_WIDTH)),
            over.eq((known & (end > block_end)) | empty),
            ends.eq((known & (end >= block_end)) | empty),
            final.eq(left == 0),
        ]
        step = Signal(name="locate_step")
        m.d.comb += step.eq(valids[0] & (rows[0].final | valids[1]) & ~seeking & (~groups.valid | groups.ready))
        with m.If(groups.ready):
            m.d.sync += groups.valid.eq(0)
        with m.If(step):
            m.d.comb += pop.eq(final | (end[-1] & ~rows[0].final & ~broken))
            m.d.sync += [
                # A stream always ends with a group marked last, so a block's final group waits for its final word.
                groups.valid.eq((~final | (rows[0].final & ~early)) & ~(empty & ~rows[0].last)),
                seeking.eq(final & (~rows[0].final | early)),
                g.bits.eq(bits),
                g.starts.eq(starts),
                g.bad.eq(over | broken),
                g.early.eq(final & ~ends),
                g.last.eq(final & rows[0].last),
                saved.eq(left - 1),
                starts.eq(final),
                # No bit is left for the groups that follow; the final row stays until they have been delivered.
                broken.eq((broken | ends) & ~final),
                offset.eq(Mux(final, HEADER_WIDTH, end[:-1])),
            ]
        returns, ends_stream = Signal(name="returns"), Signal(name="ends_stream")
        if recall is not None:
            with m.If(step):
                m.d.sync += returns.eq(early)
            m.d.comb += ends_stream.eq(self._recall(m, rows, step, end, recall))
        with m.If(seeking & returns):
            m.d.comb += again.eq(1)
            m.d.sync += [seeking.eq(0), groups.valid.eq(1), g.last.eq(ends_stream)]
        with m.Elif(seeking):
            m.d.comb += pop.eq(valids[0])
            with m.If(valids[0] & rows[0].final):
                m.d.sync += [seeking.eq(0), groups.valid.eq(1), g.last.eq(rows[0].last)]
        return groups

    def _recall(self, m: Module, rows: list[data.View], step: Value, end: Value, recall: Recall) -> Value:
        """In the clock after a step: the word behind its group, to go on with; whether the one before ends a stream."""
        width = self.parameters.link_width
        fields = ("first", "following", "last", "final")
        row = Signal(data.StructLayout({name: self._row[name].shape for name in fields}), name="row_of_group")
        ended = Signal(len(end), name="group_ended")
        with m.If(step):
            m.d.sync += [*(getattr(row, name).eq(getattr(rows[0], name)) for name in fields), ended.eq(end)]
        m.d.comb += [
            recall.kept.eq(row.first),
            recall.back.eq(row.first + ((ended + (width - 1)) >> (width - 1).bit_length())),
        ]
        # The group's last word is one of the oldest row, or of the one behind it, which is the oldest by now.
        in_row, in_next = (one.last & (one.following == recall.back) for one in (row, rows[0]))
        return in_row | (~row.final & in_next)

    def _decode(self, m: Module, located: stream.Interface, errors: list[Value]) -> int:
        """Find exponent, digits and outliers; poison what was refused."""
        p, code, g = self.parameters, self._code, located.p
        s = Stage.begin(m, located)
        measured = code.measure(m, g.bits)
        s.prefix, s.starts, s.early, s.last = g.bits[:PREFIX_WIDTH], g.starts, g.early, g.last
        s.bad = g.bad | measured.bad
        self._exponent(m, s.cut())
        s = code.decode(s, measured)
        spoiled, bad = Signal(name="spoiled"), Signal(name="bad")
        m.d.comb += bad.eq(s.bad | s.refused | (spoiled & ~s.starts))
        with m.If(s.moves):
            m.d.sync += spoiled.eq(bad)
        errors.append(s.moves & (bad | s.early))
        result = Signal(payloads.stream_group(p), name="o_result")
        m.d.comb += result.last.eq(s.last)
        with m.If(bad):
            m.d.comb += result.group.exponent.eq(POISONED_GROUP)
        with m.Else():
            m.d.comb += [result.group.exponent.eq(s.exponent), result.group.digits.eq(s.digits)]
            if p.replays:
                m.d.comb += result.group.replay.eq(s.replay)
            if p.outliers:
                m.d.comb += result.group.outliers.eq(s.outliers)
        return s.finish(self.o, result, depth=p.pipeline_depth)

    def _exponent(self, m: Module, s: Stage) -> None:
        """Of a stage with `prefix` the `exponent`, whether it is a `replay`, and `bad`; follows the predictors."""
        places = range(1 << PASSES_WIDTH)
        predictors = [Signal(EXPONENT_WIDTH, init=START, name=f"predictor{index}") for index in places]
        saved, saved_place = Signal(EXPONENT_WIDTH, name="before"), Signal(PASSES_WIDTH, name="place")
        place, before = Signal(PASSES_WIDTH, name="place_now"), Signal(EXPONENT_WIDTH, name="before_now")
        predictor = Signal(EXPONENT_WIDTH, name="predicted")
        m.d.comb += [
            place.eq(Mux(s.starts, 0, saved_place)),
            before.eq(Mux(s.starts, POISONED_GROUP, saved)),
        ]
        with m.Switch(place):
            for index in places:
                with m.Case(index):
                    m.d.comb += predictor.eq(Mux(s.starts, START, predictors[index]))
        exponent, replay, refused = self._code.exponent(m, s.prefix, predictor, before)
        s.exponent, s.replay, s.bad = exponent, replay, s.bad | refused
        with m.If(s.moves):
            m.d.sync += saved.eq(exponent)
            with m.If(~replay):
                m.d.sync += saved_place.eq(Mux(place == self.passes, 0, place + 1))
            with m.Else():
                m.d.sync += saved_place.eq(place)
            for index in places:
                with m.If(~replay & (exponent < ZERO_GROUP) & (place == index)):
                    m.d.sync += predictors[index].eq(exponent)
                with m.Elif(s.starts):
                    m.d.sync += predictors[index].eq(START)
