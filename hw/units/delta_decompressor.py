"""The decompression unit: a packed stream of words back to delta groups."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.delta_code import PREFIX_WIDTH, START, Code, take
from hw.stream import Pipeline
from hw.units.delta_compressor import HEADER_WIDTH, MARKER
from hw.units.unit import Unit

__all__ = ["DeltaDecompressor"]

_CUTS = 4


class DeltaDecompressor(Unit):
    """Unpacks the stream of `DeltaCompressor`; whatever else comes in ends in `error` and poisoned groups.

    Words are sorted first: those of a block with a sound header pass, others are dropped. The *window* is the row of
    the next words; a group starts at the *offset* in its first word. One loop measures the group there and moves on by
    its length; it is the only part that must finish within a clock, and only the length is found in it. What is in the
    group is decoded behind the loop. If it is refused there, the loop goes on, wherever that leads, and all groups up
    to the end of the block come out poisoned. The loop never leaves the block, whose last word is marked.

    ::

        i -> sort -> window -> measure -> prefix -> planes -> signs, outliers -> o
                        ^         |
                        +- length-+

    Latency: 6 clocks from the only word of a stream to its group, with `pipeline_depth` at least 4.
    Throughput: one group per clock, or `link_width` / group bits, whichever is lower.
    Numerics: lossless; ``docs/formats.md``, delta stream, with its list of what is refused.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.link_word`)
        Words; `last` ends the stream.
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
        self._code = Code(parameters)

    def _members(self, parameters: Parameters) -> dict:
        return {
            "i": In(stream.Signature(payloads.link_word(parameters))),
            "o": Out(stream.Signature(payloads.stream_group(parameters))),
            "clear": In(1),
            "error": Out(1),
        }

    @property
    def latency(self) -> int:
        """Clocks from the only word of a stream to its group."""
        return 2 + min(_CUTS, self.parameters.pipeline_depth)

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        return f"one group per clock, or {self.parameters.link_width} bits per clock, whichever is lower"

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        self._errors = []
        words = self._sort(m)
        measured = self._measure(m, words)
        self._decode(m, measured)
        self._stick(m, error=Cat(*self._errors).any())
        return m

    def _sort(self, m: Module) -> object:
        """Pass the words of sound blocks on, each with what is known of its end."""
        width, longest = self.parameters.link_width, self._code.longest
        self._word = data.StructLayout({"data": width, "final": 1, "last": 1, "end": range(width + 1)})
        words = stream.Signature(self._word).create(path=("words",))

        # The header's tests are made on the way into the first register.
        head = Signal(data.StructLayout({"marker": 8, "groups": 6, "passes": 2, "length": 16}), name="head")
        groups = Signal(7, name="head_groups")
        m.d.comb += [head.eq(self.i.p.data[:HEADER_WIDTH]), groups.eq(head.groups + 1)]
        most = sum((groups << bit for bit in range(longest.bit_length()) if longest >> bit & 1), Const(0, 1))
        sound, valid = Signal(name="sound"), Signal(name="word_valid")
        word, last = Signal(width, name="word"), Signal(name="word_last")
        taken = Signal(name="word_taken")
        m.d.comb += self.i.ready.eq(~valid | taken)
        with m.If(self.i.ready):
            m.d.sync += [
                valid.eq(self.i.valid),
                word.eq(self.i.p.data),
                last.eq(self.i.p.last),
                sound.eq((head.marker == MARKER) & (head.length >= groups) & (head.length <= most)),
            ]

        # Bits of the block that this word and those after it hold; 0 outside blocks.
        remaining, here, beyond = (Signal(17, name=name) for name in ("remaining", "bits_here", "bits_beyond"))
        inside, known, fits = Signal(name="inside"), Signal(name="known"), Signal(name="fits")
        m.d.comb += [
            inside.eq(remaining.any()),
            known.eq(inside | sound),
            here.eq(Mux(inside, remaining, word[16:32] + HEADER_WIDTH)),
            fits.eq(here <= width),
            beyond.eq(Mux(fits | last, 0, here - width)),
            words.valid.eq(valid & (known | last)),
            words.p.final.eq(fits | last | ~known),
            words.p.last.eq(last),
            # A stream that ends outside a block still owes a group marked last: a block of one group without a bit.
            words.p.data.eq(Mux(known, word, 0)),
            words.p.end.eq(Mux(known, Mux(fits, here, width), HEADER_WIDTH)),
            taken.eq(words.ready | ~(known | last)),
        ]
        padding = Signal(width, name="padding")
        m.d.comb += padding.eq(Const(-1, width) << words.p.end)
        with m.If(valid & taken):
            m.d.sync += remaining.eq(Mux(known, beyond, 0))
            self._errors += [
                valid & taken & ~known,
                valid & taken & known & last & ~fits,
                valid & taken & known & fits & (word & padding).any(),
            ]
        return words

    def _measure(self, m: Module, words: object) -> object:
        """The window and the loop: find where each group ends."""
        code, width = self._code, self.parameters.link_width
        furthest = max(width - 1, HEADER_WIDTH)
        needed = -(-(furthest + code.longest) // width)
        # One word more covers the clock in which the window is full and takes none, and one the padding of a block.
        slots = needed + 2
        window = [Signal(self._word, name=f"window{index}") for index in range(slots)]
        filled = Signal(range(slots + 1), name="filled")
        offset = Signal(range(furthest + 1), init=HEADER_WIDTH, name="offset")
        starts, broken = Signal(init=1, name="starts"), Signal(name="broken")
        saved = Signal(data.StructLayout({"left": 6, "passes": 2}), name="block")
        block = Signal(saved.shape(), name="block_now")
        with m.If(starts):
            m.d.comb += [block.left.eq(window[0].data[8:14]), block.passes.eq(window[0].data[14:16])]
        with m.Else():
            m.d.comb += block.eq(saved)

        # The block's last word, if the window holds it.
        complete, last = Signal(name="complete"), Signal(name="block_last")
        position, end = Signal(range(slots), name="final_word"), Signal(range(slots * width + 1), name="block_end")
        for index in reversed(range(slots)):
            with m.If(window[index].final & (filled > index)):
                m.d.comb += [
                    complete.eq(1),
                    last.eq(window[index].last),
                    position.eq(index),
                    end.eq(index * width + window[index].end),
                ]
        available = Signal(range(slots * width + 1), name="available")
        m.d.comb += available.eq(end - offset)
        final = Signal(name="final_group")
        m.d.comb += final.eq(block.left == 0)

        bits = Signal(code.longest, name="group_bits")
        m.d.comb += bits.eq(take(m, "group", Cat(word.data for word in window[:needed]), offset, code.longest))
        measured = code.measure(m, bits)
        over, ends = Signal(name="over"), Signal(name="ends")
        m.d.comb += [
            over.eq(complete & (measured.length > available)),
            ends.eq(complete & (measured.length >= available)),
        ]
        layout = data.StructLayout(
            {
                "prefix": PREFIX_WIDTH,
                "body": code.body_width,
                "plain": 1,
                "listed": 1,
                "count": len(Value.cast(measured.count)),
                "above0": len(measured.above0),
                "above1": len(measured.above1),
                "nonzero": len(measured.nonzero),
                "starts": 1,
                "passes": 2,
                "bad": 1,
                "early": 1,
                "last": 1,
            }
        )
        groups = stream.Signature(layout).create(path=("measured",))
        g = groups.p
        m.d.comb += [
            groups.valid.eq((filled != 0) & (complete | ((filled >= needed) & ~final))),
            g.prefix.eq(bits[:PREFIX_WIDTH]),
            g.starts.eq(starts),
            g.passes.eq(block.passes),
            g.bad.eq(measured.bad | over | broken),
            g.early.eq(final & ~ends),
            g.last.eq(final & last),
        ]
        m.d.comb += [
            getattr(g, name).eq(getattr(measured, name))
            for name in ("body", "plain", "listed", "count", "above0", "above1", "nonzero")
        ]

        step = Signal(name="measure_step")
        drop = Signal(range(slots + 1), name="drop")
        following = Signal(range(furthest + code.longest + 1), name="offset_next")
        shift = (width - 1).bit_length()
        m.d.comb += [step.eq(groups.valid & groups.ready), following.eq(offset + measured.length)]
        with m.If(step):
            m.d.sync += [saved.left.eq(block.left - 1), saved.passes.eq(block.passes), starts.eq(final)]
            with m.If(final):
                m.d.comb += drop.eq(position + 1)
                m.d.sync += [offset.eq(HEADER_WIDTH), broken.eq(0)]
            with m.Elif(broken | ends):
                # No bit is left for the groups that follow; the final word stays until they have been delivered.
                m.d.sync += broken.eq(1)
            with m.Else():
                m.d.comb += drop.eq(following >> shift)
                m.d.sync += offset.eq(following[:shift])

        put, full, surplus = Signal(name="window_put"), Signal(name="window_full"), Signal(name="surplus")
        m.d.comb += [
            full.eq(filled == slots),
            # The final group waits for its block's end; words that find the window full hold nothing announced.
            surplus.eq(full & final & ~complete),
            words.ready.eq(~full | surplus),
            put.eq(words.valid & words.ready),
        ]
        m.d.sync += filled.eq(filled + (put & ~full) - drop)
        joined = [Signal(self._word, name=f"window_in{index}") for index in range(slots)]
        for index in range(slots):
            here = filled == index
            if index == slots - 1:
                here = here | (put & full)
            m.d.comb += joined[index].eq(Mux(here, words.payload, window[index]))
        moved = [word.as_value() for word in joined]
        for bit in range(len(drop)):
            moved = [
                Mux(drop[bit], moved[index + (1 << bit)], word) if index + (1 << bit) < slots else word
                for index, word in enumerate(moved)
            ]
            rows = [Signal(len(word), name=f"window_moved{bit}_{index}") for index, word in enumerate(moved)]
            m.d.comb += [row.eq(word) for row, word in zip(rows, moved, strict=True)]
            moved = rows
        m.d.sync += [word.eq(row) for word, row in zip(window, moved, strict=True)]
        return groups

    def _decode(self, m: Module, measured: object) -> None:
        """Find exponent, digits and outliers; poison what was refused."""
        p, code = self.parameters, self._code
        pipe = Pipeline(m, measured, self.o, cuts=_CUTS, depth=p.pipeline_depth)
        s = pipe.cut(**{name: getattr(measured.p, name) for name in measured.payload.shape().members})
        exponent, replay, refused = self._exponent(m, pipe, s)
        keep = {
            "exponent": exponent,
            "replay": replay,
            "starts": s.starts,
            "bad": s.bad | refused,
            "early": s.early,
            "last": s.last,
        }
        decoded, keep = code.decode(m, lambda **values: pipe.cut(**values), s, keep)
        k = SimpleNamespace(**keep)
        spoiled, bad = Signal(name="spoiled"), Signal(name="bad")
        m.d.comb += bad.eq(k.bad | decoded.bad | (spoiled & ~k.starts))
        arrives = pipe.valid & pipe.advance
        with m.If(arrives):
            m.d.sync += spoiled.eq(bad)
        self._errors.append(arrives & (bad | k.early))
        result = Signal(payloads.stream_group(p), name="o_result")
        m.d.comb += result.last.eq(k.last)
        with m.If(bad):
            m.d.comb += result.group.exponent.eq(POISONED_GROUP)
        with m.Else():
            m.d.comb += [
                result.group.exponent.eq(k.exponent),
                result.group.digits.eq(decoded.digits),
            ]
            if p.replays:
                m.d.comb += result.group.replay.eq(k.replay)
            if p.outliers:
                m.d.comb += result.group.outliers.eq(decoded.outliers)
        pipe.finish(result)

    def _exponent(self, m: Module, pipe: Pipeline, s: object) -> tuple[Value, Value, Value]:
        """Exponent code, whether the group is a replay, and whether it is refused; follows the predictors."""
        predictors = [Signal(EXPONENT_WIDTH, init=START, name=f"predictor{index}") for index in range(4)]
        saved, saved_place = Signal(EXPONENT_WIDTH, name="before"), Signal(2, name="place")
        place, before = Signal(2, name="place_now"), Signal(EXPONENT_WIDTH, name="before_now")
        predictor = Signal(EXPONENT_WIDTH, name="predicted")
        m.d.comb += [
            place.eq(Mux(s.starts, 0, saved_place)),
            before.eq(Mux(s.starts, POISONED_GROUP, saved)),
        ]
        with m.Switch(place):
            for index in range(4):
                with m.Case(index):
                    m.d.comb += predictor.eq(Mux(s.starts, START, predictors[index]))
        exponent, replay, refused = self._code.exponent(m, s.prefix, predictor, before)
        with m.If(pipe.valid & pipe.advance):
            m.d.sync += saved.eq(exponent)
            with m.If(~replay):
                m.d.sync += saved_place.eq(Mux(place == s.passes, 0, place + 1))
            with m.Else():
                m.d.sync += saved_place.eq(place)
            for index in range(4):
                with m.If(~replay & (exponent < ZERO_GROUP) & (place == index)):
                    m.d.sync += predictors[index].eq(exponent)
                with m.Elif(s.starts):
                    m.d.sync += predictors[index].eq(START)
        return exponent, replay, refused
