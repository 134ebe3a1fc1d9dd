# amaranth: UnusedElaboratable=no
"""The near-memory engine: adds delta groups to the raw state, which never leaves the memory's side."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.parameters import EXPONENT_WIDTH, POISONED_GROUP, ZERO_GROUP, Parameters
from hw import payloads
from hw.arith.float import FLOAT16, FloatAdd
from hw.memory import Ram
from hw.stream import Fifo, Pipeline
from hw.units.unit import Unit

__all__ = ["NearMemoryEngine"]

_WAITING = 64
"""Words of a delta that can wait for their state: memory latencies up to about this many clocks cost nothing."""

_FLIPPED = 16
"""Words with flips that can wait for their repairs to leave."""

_SLOTS = 64
"""Entries of the table of vectors in flight."""

_SUM_WIDTH = 48
"""Bits of a running delta: each group adds less than 2^41, so 63 groups and a bias fit."""

_FRACTION = 12
"""Fraction bits kept of an outlier before rounding; an FP16 significand (11 bits) that falls below is under a half."""


def _create(layout: object, name: str) -> object:
    return stream.Signature(layout).create(path=(name,))


def _times(value: Value, factor: int) -> Value:
    """``value * factor`` as shifts and adds, so that no tool spends a multiplier on an address."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    return sum(terms[1:], terms[0])


def _slot(address: Value) -> Value:
    """Entry of the table of vectors in flight: all bits of the address, folded."""
    width = (_SLOTS - 1).bit_length()
    folded = Const(0, width)
    for low in range(0, len(address), width):
        folded = folded ^ address[low : low + width]
    return folded[:width]


def _ordered(pattern: Value) -> Value:
    """A signed integer ordered like the finite numbers of FP16, both zeros alike."""
    return Mux(pattern[15], -pattern[:15], pattern[:15])


def _digit_to_half(m: Module, name: str, digit: Value, code: Value) -> tuple[Value, Value]:
    """FP16 pattern of ``digit * 2^(code - 24)``, clamped, and whether it was."""
    width = len(digit) - 1
    negative = digit < 0
    magnitude = Signal(width, name=f"{name}_magnitude")
    m.d.comb += magnitude.eq(Mux(negative, -digit, digit))
    # Left-justified; `place` is where its leading one stands, counted from FP16's least subnormal.
    top, place = Signal(width, name=f"{name}_top"), Signal(EXPONENT_WIDTH + 1, name=f"{name}_place")
    for zeros in reversed(range(width)):  # the last assignment, that of the highest bit, counts
        with m.If(magnitude[width - 1 - zeros]):
            m.d.comb += [top.eq(magnitude << zeros), place.eq(code + (width - 1 - zeros))]
    fraction = Cat(Const(0, 11 - width), top[:-1])
    # Below 2^10 of the least subnormal the integer itself is the pattern.
    small = Signal(10, name=f"{name}_small")
    m.d.comb += small.eq(magnitude << code)
    beyond = magnitude.any() & (place > 39)
    field = (place - 9)[:5]
    pattern = Mux(beyond, FLOAT16.largest, Mux(place < 10, small, Cat(fraction, field)))
    return Cat(pattern[:15], negative), beyond


class NearMemoryEngine(Unit):
    """Adds delta groups to the state in memory and sends back the new masks and, if asked, the exact repairs.

    A *word* is what one clock handles: `memory_lanes` elements of state, or the same lanes of a group. A group is cut
    into words; the words of a vector's groups are summed; the sum waits in a queue for the state word that was asked
    for when it was formed; both are added, and the word goes back to memory.

    ::

        i -> select -> shift -> round -> sum over groups -> queue -+-> add -> clamp -> write, o, repairs
                |                                                  |
                +-> read_request -> (memory, any latency) -> read_data

    Hazards: a vector whose address may still be written is not started. A table with one bit per hash of the address
    tells; the bit falls when the memory accepts the vector's last word. So a memory in which a read sees the writes
    accepted before it needs no further rule, and the same address may follow itself at once (it waits).

    FP16 state is read with a vector's first group and passes an adder once per group, then one for the bias.

    Latency: 10 clocks (FP16 state: 19) from the last group of a vector to its mask, with a memory that answers a
    request in the next clock and `pipeline_depth` at its default; the unit adds memory latency beyond that.
    Throughput: one word read and one word written per clock, so one group per `words_per_vector` clocks when every
    vector is one group. Further groups take as long; in FP16 state at least 8 clocks each, the way through the adder.
    Numerics: ``docs/numerics.md`` section 11.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    i : In(stream of `payloads.near_memory_input`)
        Groups.
    read_request : Out(stream of `payloads.near_memory_request`)
        Words wanted, in order.
    read_data : In(stream of `payloads.memory_word`)
        The words, in the same order.
    write : Out(stream of `payloads.near_memory_write`)
        Words to write.
    o : Out(stream of `payloads.near_memory_mask`)
        One mask per vector, in the order of the vectors.
    repairs : Out(stream of `payloads.near_memory_repair`)
        Only with `flip_repair`.
    state_exponent : In(6)
        Code of the state's LSB, ``s + 24``; constant while vectors are in flight. Unused by FP16 state.
    thresholds : In(ArrayLayout(state element, 2**mask_width - 1))
        Ascending; only with `mask_width` above 1; constant while vectors are in flight.
    clear : In(1)
        Lowers the sticky outputs.
    overflow, poisoned : Out(1)
        Sticky.
    """

    name = "near_memory_engine"
    summary = "adds delta groups to the state in memory; emits sign masks and repairs"

    def _members(self, parameters: Parameters) -> dict:
        members = {
            "i": In(stream.Signature(payloads.near_memory_input(parameters))),
            "read_request": Out(stream.Signature(payloads.near_memory_request(parameters))),
            "read_data": In(stream.Signature(payloads.memory_word(parameters))),
            "write": Out(stream.Signature(payloads.near_memory_write(parameters))),
            "o": Out(stream.Signature(payloads.near_memory_mask(parameters))),
            "state_exponent": In(EXPONENT_WIDTH),
            "clear": In(1),
            "overflow": Out(1),
            "poisoned": Out(1),
        }
        if parameters.flip_repair:
            members["repairs"] = Out(stream.Signature(payloads.near_memory_repair(parameters)))
        if parameters.mask_width > 1:
            thresholds = data.ArrayLayout(payloads.state_element(parameters), 2**parameters.mask_width - 1)
            members["thresholds"] = In(thresholds)
        return members

    @property
    def latency(self) -> int:
        """Clocks from the last group of a vector to its mask, with a memory that answers in the next clock."""
        depth = self.parameters.pipeline_depth
        if self.parameters.state_format == "fixed":
            return min(3, depth) + 1 + Fifo.latency + min(3, depth) + 1
        return min(3, depth) + Fifo.latency + 1 + 2 * FloatAdd(FLOAT16, depth=depth).latency + 1

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        words = self.parameters.words_per_vector
        return "one group per clock" if words == 1 else f"one group per {words} clocks (a memory word per clock)"

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        self._status = {"overflow": [], "poisoned": []}
        fixed = self.parameters.state_format == "fixed"
        words = self._select(m)
        waiting = self._fixed_delta(m, words) if fixed else self._half_delta(m, words)
        m.submodules.waiting = queue = Fifo(waiting.payload.shape(), _WAITING)
        m.d.comb += [
            queue.i.valid.eq(waiting.valid),
            queue.i.payload.eq(waiting.payload),
            waiting.ready.eq(queue.i.ready),
        ]
        joined = self._join(m, queue.o)
        self._emit(m, self._fixed_update(m, joined) if fixed else self._half_update(m, joined))
        self._stick(m, **{name: Cat(*events).any() for name, events in self._status.items()})
        return m

    # Groups to words ------------------------------------------------------------------------------------------------

    def _select(self, m: Module) -> object:
        """Cut groups into words, start vectors, ask for their state."""
        p = self.parameters
        lanes, n_words, slots = p.memory_lanes, p.words_per_vector, p.outliers
        # With fewer outliers than lanes it is cheaper to convert each outlier and choose afterwards.
        self._sources = sources = min(slots, lanes)
        layout = {
            "first": 1,
            "final": 1,
            "refresh": 1,
            "poisoned": 1,
            "address": payloads.address_width,
            "exponent": EXPONENT_WIDTH,
            "digits": data.ArrayLayout(signed(p.digit_width), lanes),
            "bias": payloads.memory_word(p),
            "values": data.ArrayLayout(16, sources),
            "hits": data.ArrayLayout(sources, lanes),
        }
        words = _create(data.StructLayout(layout), "words")
        group = self.i.p.group
        index, starts = Signal(range(max(n_words, 2)), name="word"), Signal(init=1, name="starts")
        saved = Signal(data.StructLayout({"refresh": 1, "address": payloads.address_width}), name="vector")
        refresh = Signal(name="refresh")
        address = Signal(payloads.address_width, name="address")
        m.d.comb += [
            refresh.eq(Mux(starts, self.i.p.refresh, saved.refresh)),
            address.eq(Mux(starts, self.i.p.address, saved.address)),
        ]

        self._in_flight = in_flight = Signal(_SLOTS, name="in_flight")
        self._started = Signal(_SLOTS, name="started")
        slot = Signal(range(_SLOTS), name="slot")
        first_word = Signal(name="first_word")
        m.d.comb += [slot.eq(_slot(self.i.p.address)), first_word.eq(starts & (index == 0))]
        free = Signal(name="free")
        m.d.comb += free.eq(~first_word | ~in_flight.bit_select(slot, 1))

        reads = Signal(name="reads")
        asked = self.i.p.last if p.state_format == "fixed" else starts
        request = self.read_request
        m.d.comb += reads.eq(asked & ~refresh)
        room = Signal(name="room")
        m.d.comb += room.eq(~reads | ~request.valid | request.ready)
        step = Signal(name="step")
        m.d.comb += [words.valid.eq(self.i.valid & free & room), step.eq(words.valid & words.ready)]
        m.d.comb += self.i.ready.eq(words.ready & free & room & (index == n_words - 1))
        with m.If(request.ready):
            m.d.sync += request.valid.eq(0)
        with m.If(step):
            m.d.sync += index.eq(Mux(index == n_words - 1, 0, index + 1))
            with m.If(reads):
                m.d.sync += [request.valid.eq(1), request.p.address.eq(_times(address, n_words) + index)]
            with m.If(first_word):
                m.d.comb += self._started.eq(1 << slot)
            with m.If(index == n_words - 1):
                m.d.sync += [starts.eq(self.i.p.last), saved.refresh.eq(refresh), saved.address.eq(address)]

        m.d.comb += [
            words.p.first.eq(starts),
            words.p.final.eq(self.i.p.last),
            words.p.refresh.eq(refresh),
            words.p.address.eq(address),
            words.p.poisoned.eq(group.exponent == POISONED_GROUP),
            words.p.exponent.eq(group.exponent),
            words.p.digits.eq(group.digits.as_value().word_select(index, lanes * p.digit_width)),
            words.p.bias.eq(self.i.p.bias.as_value().word_select(index, len(Value.cast(words.p.bias)))),
        ]
        if slots:
            offsets = []
            for position in range(slots):
                # Place of the outlier's lane in this word; anything out of 0..lanes-1 is another word's.
                offset = Signal(signed(p.lane_width + 1), name=f"offset{position}")
                m.d.comb += offset.eq(group.outliers[position].lane - index * lanes)
                offsets.append(offset)
            matches = [
                Cat(group.outliers[j].valid & (offsets[j] == lane) for j in range(slots)) for lane in range(lanes)
            ]
            if slots <= lanes:
                m.d.comb += [words.p.values[j].eq(group.outliers[j].value) for j in range(slots)]
                m.d.comb += [words.p.hits[lane].eq(matches[lane]) for lane in range(lanes)]
            else:
                for lane in range(lanes):
                    chosen = Const(0, 16)
                    for j in range(slots):
                        chosen = chosen | Mux(matches[lane][j], group.outliers[j].value, 0)
                    m.d.comb += [words.p.values[lane].eq(chosen), words.p.hits[lane].eq(matches[lane].any() << lane)]
        return words

    def _kept(self, m: Module, name: str, step: Signal, store: Value, row: Signal) -> Value:
        """What the last `store` kept for the word at hand; `step` moves on to the next word of the vector."""
        n_words = self.parameters.words_per_vector
        if n_words == 1:
            kept = Signal.like(row, name=f"{name}_kept")
            with m.If(store):
                m.d.sync += kept.eq(row)
            return kept
        m.submodules[name] = rows = Ram(row.shape(), n_words)
        index, following = Signal(range(n_words), name=f"{name}_word"), Signal(range(n_words), name=f"{name}_next")
        m.d.comb += following.eq(Mux(step, Mux(index == n_words - 1, 0, index + 1), index))
        m.d.sync += index.eq(following)
        m.d.comb += [
            rows.write_enable.eq(store),
            rows.write_address.eq(index),
            rows.write_data.eq(row),
            # A step reads the row after the one it writes; with two rows or more they never meet.
            rows.read_enable.eq(1),
            rows.read_address.eq(following),
        ]
        return rows.read_data

    # Fixed-point state ----------------------------------------------------------------------------------------------

    def _fixed_delta(self, m: Module, words: object) -> object:
        """Sum the words of a vector's groups, in LSBs of the state, limited to what the state can notice."""
        p = self.parameters
        lanes, sources = p.memory_lanes, self._sources
        term = data.StructLayout({"value": signed(42), "carry": 1, "poisoned": 1})
        layout = data.StructLayout(
            {
                "first": 1,
                "final": 1,
                "refresh": 1,
                "address": payloads.address_width,
                "bias": payloads.memory_word(p),
                "terms": data.ArrayLayout(term, lanes),
            }
        )
        terms = _create(layout, "terms")
        pipe = Pipeline(m, words, terms, cuts=3, depth=p.pipeline_depth)
        w = words.p
        empty = w.exponent >= ZERO_GROUP
        amount = Signal(signed(8), name="digit_shift")
        m.d.comb += amount.eq(w.exponent - self.state_exponent)
        keep = {name: getattr(w, name) for name in ("first", "final", "refresh", "poisoned", "address", "bias")}
        # An outlier is M * 2^(E - 25) = M * 2^(E - 1 - state_exponent) LSBs.
        amounts = []
        for j in range(sources):
            exponent = w.values[j][10:15]
            shift = Signal(signed(8), name=f"outlier_shift{j}")
            m.d.comb += shift.eq(exponent - (exponent != 0) - self.state_exponent + _FRACTION)
            amounts.append(shift)
        s = pipe.cut(
            **keep,
            digits=w.digits,
            digit_shift=Mux(empty, 0, amount[:6]),
            empty=empty,
            values=w.values,
            hits=w.hits,
            shifts=Cat(shift[:6] for shift in amounts),
            small=Cat(shift < 0 for shift in amounts),
        )
        keep = {name: getattr(s, name) for name in keep}
        digits, shifted, poisons = [], [], []
        for lane in range(lanes):
            digit = Signal(signed(42), name=f"digit{lane}")
            m.d.comb += digit.eq(Mux(s.empty, 0, s.digits[lane]) << s.digit_shift)
            digits.append(digit)
        for j in range(sources):
            value = s.values[j]
            magnitude = Signal(41 + _FRACTION, name=f"outlier_magnitude{j}")
            significand = Cat(value[:10], value[10:15].any())
            with m.If(~s.small[j]):
                m.d.comb += magnitude.eq(significand << s.shifts.word_select(j, 6))
            shifted.append(magnitude)
            poisons.append(value[10:15].all())
        s = pipe.cut(
            **keep,
            digits=Cat(digits),
            magnitudes=Cat(shifted),
            negative=Cat(s.values[j][15] for j in range(sources)),
            nonfinite=Cat(poisons),
            hits=s.hits,
        )
        result = Signal(layout, name="terms_result")
        m.d.comb += [getattr(result, name).eq(getattr(s, name)) for name in keep if name != "poisoned"]
        fixed, carries = [], []
        for j in range(sources):
            magnitude = s.magnitudes.word_select(j, 41 + _FRACTION)
            whole, fraction = magnitude[_FRACTION:], magnitude[:_FRACTION]
            up = fraction[-1] & (fraction[:-1].any() | whole[0])
            # -(whole + up) = ~whole + 1 - up: the sign flips the bits and the carry, and one adder does both.
            fixed.append((whole ^ s.negative[j].replicate(41)) | (s.negative[j] << 41))
            carries.append(up ^ s.negative[j])
        for lane in range(lanes):
            hits = s.hits[lane]
            chosen, carry = Const(0, 42), Const(0, 1)
            for j in range(sources):
                chosen = chosen | Mux(hits[j], fixed[j], 0)
                carry = carry | (hits[j] & carries[j])
            digit = s.digits.word_select(lane, 42)
            poisoned = s.poisoned | (hits & s.nonfinite).any() if sources else s.poisoned
            m.d.comb += [
                result.terms[lane].value.eq(Mux(hits.any(), chosen, digit) if sources else digit),
                result.terms[lane].carry.eq(carry),
                result.terms[lane].poisoned.eq(poisoned),
            ]
        pipe.finish(result)
        return self._fixed_sum(m, terms)

    def _fixed_sum(self, m: Module, terms: object) -> object:
        """Running sums over the groups of a vector."""
        p = self.parameters
        lanes, width = p.memory_lanes, p.state_width
        running = data.ArrayLayout(data.StructLayout({"value": signed(_SUM_WIDTH), "poisoned": 1}), lanes)
        before, after = Signal(running, name="sum_before"), Signal(running, name="sum_after")
        step = Signal(name="sum_step")
        store = Signal(name="sum_store")
        m.d.comb += store.eq(step & ~terms.p.final)
        m.d.comb += before.eq(self._kept(m, "sums", step, store, after))
        for lane in range(lanes):
            term = terms.p.terms[lane]
            start = Mux(terms.p.first, terms.p.bias[lane], before[lane].value)
            m.d.comb += [
                after[lane].value.eq(start + term.value + term.carry),
                after[lane].poisoned.eq(term.poisoned | (before[lane].poisoned & ~terms.p.first)),
            ]
        self._status["poisoned"].append(step & Cat(term.poisoned for term in terms.p.terms).any())

        total = _create(data.StructLayout({"refresh": 1, "address": payloads.address_width, "sums": running}), "total")
        m.d.comb += [
            terms.ready.eq(~terms.p.final | ~total.valid | total.ready),
            step.eq(terms.valid & terms.ready),
        ]
        with m.If(total.ready):
            m.d.sync += total.valid.eq(0)
        with m.If(step & terms.p.final):
            m.d.sync += [
                total.valid.eq(1),
                total.p.refresh.eq(terms.p.refresh),
                total.p.address.eq(terms.p.address),
                total.p.sums.eq(after),
            ]

        delta = data.StructLayout({"value": signed(width + 1), "poisoned": 1})
        waiting = _create(
            data.StructLayout(
                {"refresh": 1, "address": payloads.address_width, "deltas": data.ArrayLayout(delta, lanes)}
            ),
            "waiting",
        )
        m.d.comb += [
            waiting.valid.eq(total.valid),
            total.ready.eq(waiting.ready),
            waiting.p.refresh.eq(total.p.refresh),
            waiting.p.address.eq(total.p.address),
        ]
        for lane in range(lanes):
            value = Value.cast(total.p.sums[lane].value)
            # Anything beyond +-(2^w - 1) clamps whatever the state is, so w + 1 bits say enough.
            top = value[width:]
            fits = top.all() | ~top.any()
            m.d.comb += [
                waiting.p.deltas[lane].value.eq(
                    Mux(fits, value[: width + 1], Cat((~value[-1]).replicate(width), value[-1]))
                ),
                waiting.p.deltas[lane].poisoned.eq(total.p.sums[lane].poisoned),
            ]
        return waiting

    def _join(self, m: Module, waiting: object) -> object:
        """Pair a waiting delta with its state."""
        layout = dict(waiting.payload.shape().members)
        reads = ~waiting.p.refresh if self.parameters.state_format == "fixed" else waiting.p.first & ~waiting.p.refresh
        joined = _create(data.StructLayout({**layout, "state": payloads.memory_word(self.parameters)}), "joined")
        here = Signal(name="state_here")
        m.d.comb += [
            here.eq(~reads | self.read_data.valid),
            joined.valid.eq(waiting.valid & here),
            waiting.ready.eq(joined.ready & here),
            self.read_data.ready.eq(joined.ready & waiting.valid & reads),
        ]
        m.d.comb += [joined.p[name].eq(waiting.p[name]) for name in layout]
        m.d.comb += joined.p.state.eq(self.read_data.payload)
        return joined

    def _fixed_update(self, m: Module, joined: object) -> object:
        """Add, clamp, find the masks."""
        p = self.parameters
        lanes, width = p.memory_lanes, p.state_width
        poison, largest = -(1 << (width - 1)), (1 << (width - 1)) - 1
        results, layout = self._results()
        pipe = Pipeline(m, joined, results, cuts=3, depth=p.pipeline_depth)
        j = joined.p
        s = pipe.cut(refresh=j.refresh, address=j.address, deltas=j.deltas, state=j.state)
        old, sums, poisoned, old_poisoned = [], [], [], []
        for lane in range(lanes):
            was_poison = s.state[lane] == poison
            value = Mux(s.refresh, 0, s.state[lane])
            old.append(value)
            total = Signal(signed(width + 2), name=f"new_sum{lane}")
            m.d.comb += total.eq(value + s.deltas[lane].value)
            sums.append(total)
            old_poisoned.append(was_poison | s.refresh)
            poisoned.append(s.deltas[lane].poisoned | (was_poison & ~s.refresh))
        s = pipe.cut(
            address=s.address,
            refresh=s.refresh,
            sums=Cat(sums),
            poisoned=Cat(poisoned),
            incomparable=Cat(old_poisoned),
            old_negative=Cat(value[-1] for value in old),
        )
        result = Signal(layout, name="results_result")
        m.d.comb += result.address.eq(s.address)
        overflows = []
        for lane in range(lanes):
            total = s.sums.word_select(lane, width + 2).as_signed()
            high, low = total > largest, total < -largest
            value = Signal(signed(width), name=f"new{lane}")
            m.d.comb += value.eq(
                Mux(s.poisoned[lane], poison, Mux(high, largest, Mux(low, -largest, total[:width].as_signed())))
            )
            overflows.append((high | low) & ~s.poisoned[lane])
            m.d.comb += result.data[lane].eq(value)
            if p.mask_width == 1:
                mask = ~value[-1]  # poison is negative too
            else:
                mask = sum((value >= threshold) & ~s.poisoned[lane] for threshold in self.thresholds)
            m.d.comb += result.mask[lane].eq(mask)
            if p.flip_repair:
                flip = (value[-1] != s.old_negative[lane]) & ~s.poisoned[lane] & ~s.incomparable[lane]
                m.d.comb += result.flips[lane].eq(flip)
        m.d.comb += result.overflow.eq(Cat(overflows).any())
        pipe.finish(result)
        return results

    # FP16 state -----------------------------------------------------------------------------------------------------

    def _half_delta(self, m: Module, words: object) -> object:
        """Each word as FP16 values to add, with the bias of its vector."""
        p = self.parameters
        lanes, sources = p.memory_lanes, self._sources
        flags = {"first": 1, "final": 1, "refresh": 1, "address": payloads.address_width}
        values = data.ArrayLayout(16, lanes)
        layout = {**flags, "bias": values, "values": values, "clamped": lanes, "poisoned": lanes}
        valued = _create(data.StructLayout(layout), "valued")
        pipe = Pipeline(m, words, valued, cuts=3, depth=p.pipeline_depth)
        w = words.p
        keep = [*flags, "poisoned", "bias"]
        s = pipe.cut(
            **{name: getattr(w, name) for name in keep},
            exponent=w.exponent,
            digits=w.digits,
            values=w.values,
            hits=w.hits,
        )
        patterns, clamped = [], []
        for lane in range(lanes):
            pattern, beyond = _digit_to_half(m, f"digit{lane}", s.digits[lane], s.exponent)
            empty = s.exponent >= ZERO_GROUP
            patterns.append(Mux(empty, 0, pattern))
            clamped.append(~empty & beyond)
        s = pipe.cut(
            **{name: getattr(s, name) for name in keep},
            patterns=Cat(patterns),
            clamped=Cat(clamped),
            values=s.values,
            hits=s.hits,
        )
        result = Signal(valued.payload.shape(), name="valued_result")
        m.d.comb += [getattr(result, name).eq(getattr(s, name)) for name in keep if name != "poisoned"]
        for lane in range(lanes):
            hits, chosen = s.hits[lane], Const(0, 16)
            for j in range(sources):
                chosen = chosen | Mux(hits[j], s.values[j], 0)
            pattern = s.patterns.word_select(lane, 16)
            pattern = Mux(hits.any(), chosen, pattern) if sources else pattern
            hit = hits.any() if sources else Const(0, 1)
            bad_bias = s.first & ~FLOAT16.is_finite(s.bias[lane])
            poisoned = s.poisoned | ~FLOAT16.is_finite(pattern)
            m.d.comb += [
                result.values[lane].eq(Mux(s.poisoned, FLOAT16.nan, pattern)),
                result.clamped[lane].eq(s.clamped[lane] & ~hit & ~s.poisoned),
                result.poisoned[lane].eq(poisoned | bad_bias),
            ]
        pipe.finish(result)

        waiting = _create(data.StructLayout({**flags, "bias": values, "values": values, "clamped": lanes}), "waiting")
        v, step = valued.p, Signal(name="valued_step")
        m.d.comb += step.eq(valued.valid & valued.ready)
        bias = Signal(values, name="bias_first")
        m.d.comb += bias.eq(v.bias)
        kept = self._kept(m, "biases", step, step & v.first, bias)
        m.d.comb += [getattr(waiting.p, name).eq(getattr(v, name)) for name in (*flags, "values", "clamped")]
        m.d.comb += [
            waiting.valid.eq(valued.valid),
            valued.ready.eq(waiting.ready),
            waiting.p.bias.eq(Mux(v.first, v.bias, kept)),
        ]
        self._status["poisoned"].append(step & v.poisoned.any())
        return waiting

    def _half_update(self, m: Module, joined: object) -> object:
        """Add group after group, then the bias; find the masks."""
        p = self.parameters
        lanes, n_words = p.memory_lanes, p.words_per_vector
        values = data.ArrayLayout(16, lanes)
        # What travels beside the adders: the old state's sign and whether a flip against it means anything.
        beside = data.StructLayout(
            {
                "final": 1,
                "address": payloads.address_width,
                "bias": values,
                "clamped": lanes,
                "old_negative": lanes,
                "incomparable": lanes,
            }
        )
        running = data.StructLayout({"values": values, "old_negative": lanes, "incomparable": lanes})

        # A group's word may only start when the word of the group before has been kept: fewer words than a vector's
        # are then between start and keeping.
        between = Signal(range(4 * FloatAdd(FLOAT16).latency + 4), name="between")
        start, finish = Signal(name="add_start"), Signal(name="add_finish")
        fetched = _create(joined.payload.shape(), "fetched")
        free = Signal(name="fetch_free")
        m.d.comb += [
            free.eq((~fetched.valid | fetched.ready) & (joined.p.first | (between < n_words))),
            joined.ready.eq(free),
            start.eq(joined.valid & free),
        ]
        m.d.sync += between.eq(between + start - finish)
        with m.If(fetched.ready):
            m.d.sync += fetched.valid.eq(0)
        with m.If(start):
            m.d.sync += [fetched.valid.eq(1), fetched.payload.eq(joined.payload)]

        f = fetched.p
        side = _create(beside, "beside")
        kept = Signal(running, name="running")
        first = _create(data.StructLayout({"values": values, "overflow": lanes}), "group_sums")
        starts = Signal(values, name="starts_from")
        for lane in range(lanes):
            state = f.state[lane]
            m.d.comb += [
                starts[lane].eq(Mux(f.first, Mux(f.refresh, 0, state), kept.values[lane])),
                side.p.old_negative[lane].eq(Mux(f.first, state[15] & state[:15].any(), kept.old_negative[lane])),
                side.p.incomparable[lane].eq(
                    Mux(f.first, f.refresh | ~FLOAT16.is_finite(state), kept.incomparable[lane])
                ),
            ]
        m.d.comb += [getattr(side.p, name).eq(getattr(f, name)) for name in ("final", "address", "bias", "clamped")]
        sums, beside_sums = self._adders(m, "group", fetched, starts, f.values, side)
        b = beside_sums.p
        biased = _create(beside, "beside_sum")
        m.d.comb += [
            first.valid.eq(sums.valid & b.final),
            biased.payload.eq(beside_sums.payload),
            sums.ready.eq(first.ready | ~b.final),
            first.payload.eq(sums.payload),
            finish.eq(sums.valid & sums.ready),
        ]
        events = sums.p.overflow | (b.clamped & Cat(FLOAT16.is_finite(sums.p.values[lane]) for lane in range(lanes)))
        self._status["overflow"].append(finish & events.any())
        row = Signal(running, name="running_next")
        m.d.comb += [
            row.values.eq(sums.p.values),
            row.old_negative.eq(b.old_negative),
            row.incomparable.eq(b.incomparable),
        ]
        m.d.comb += kept.eq(self._running(m, start, fetched, finish, b.final, row))
        totals, beside_totals = self._adders(m, "bias", first, sums.p.values, b.bias, biased)

        results, layout = self._results()
        t, b = totals.p, beside_totals.p
        m.d.comb += [
            results.valid.eq(totals.valid),
            totals.ready.eq(results.ready),
            results.p.address.eq(b.address),
            results.p.overflow.eq(t.overflow.any()),
        ]
        for lane in range(lanes):
            value = t.values[lane]
            poisoned = ~FLOAT16.is_finite(value)
            if p.mask_width == 1:
                mask = ~value[15] & ~poisoned
            else:
                mask = sum((_ordered(value) >= _ordered(threshold)) & ~poisoned for threshold in self.thresholds)
            m.d.comb += [results.p.data[lane].eq(value), results.p.mask[lane].eq(mask)]
            if p.flip_repair:
                flip = (value[15] != b.old_negative[lane]) & ~poisoned & ~b.incomparable[lane]
                m.d.comb += results.p.flips[lane].eq(flip)
        return results

    def _running(self, m: Module, start: Signal, fetched: object, finish: Signal, final: Value, row: Signal) -> Value:
        """What the group before left for the word in `fetched`."""
        n_words = self.parameters.words_per_vector
        if n_words == 1:
            kept = Signal.like(row, name="running_kept")
            with m.If(finish & ~final):
                m.d.sync += kept.eq(row)
            return kept
        m.submodules.running = rows = Ram(row.shape(), n_words)
        read, write = Signal(range(n_words), name="running_read"), Signal(range(n_words), name="running_write")
        m.d.comb += [
            rows.read_enable.eq(start),
            rows.read_address.eq(read),
            rows.write_enable.eq(finish & ~final),
            rows.write_address.eq(write),
            rows.write_data.eq(row),
        ]
        with m.If(start):
            m.d.sync += read.eq(Mux(read == n_words - 1, 0, read + 1))
        with m.If(finish):
            m.d.sync += write.eq(Mux(write == n_words - 1, 0, write + 1))
        return rows.read_data

    def _adders(self, m: Module, name: str, i: object, a: Value, b: Value, side: object) -> tuple[object, object]:
        """An adder per lane, fed from stream `i`, and the payload of `side` delayed as much; all in step."""
        lanes = self.parameters.memory_lanes
        sums = _create(data.StructLayout({"values": data.ArrayLayout(16, lanes), "overflow": lanes}), f"{name}_sums")
        delayed = _create(side.payload.shape(), f"{name}_delayed")
        for lane in range(lanes):
            m.submodules[f"{name}_add{lane}"] = add = FloatAdd(
                FLOAT16, overflow="clamp", zero="positive", non_finite="nan", depth=self.parameters.pipeline_depth
            )
            m.d.comb += [
                add.i.valid.eq(i.valid),
                add.i.p.a.eq(a[lane]),
                add.i.p.b.eq(b[lane]),
                add.o.ready.eq(sums.ready),
                sums.p.values[lane].eq(add.o.p.value),
                sums.p.overflow[lane].eq(add.o.p.overflow),
            ]
        # Equal pipelines with equal valid and ready hold the same words, so any lane speaks for all.
        m.d.comb += [
            i.ready.eq(add.i.ready),
            sums.valid.eq(add.o.valid),
            side.valid.eq(i.valid),
            delayed.ready.eq(sums.ready),
        ]
        pipe = Pipeline(m, side, delayed, cuts=add.latency, depth=add.latency)
        payload = side.payload
        for _ in range(add.latency - 1):
            payload = pipe.cut(**{f"{name}_side": payload})
            payload = getattr(payload, f"{name}_side")
        pipe.finish(payload)
        return sums, delayed

    # Results to the ports -------------------------------------------------------------------------------------------

    def _results(self) -> tuple[object, data.StructLayout]:
        p = self.parameters
        layout = {
            "address": payloads.address_width,
            "overflow": 1,
            "mask": data.ArrayLayout(p.mask_width, p.memory_lanes),
            "data": payloads.memory_word(p),
        }
        if p.flip_repair:
            layout["flips"] = p.memory_lanes
        layout = data.StructLayout(layout)
        return _create(layout, "results"), layout

    def _emit(self, m: Module, results: object) -> None:
        """Give each word to memory, each vector's mask to `o`, each flip to `repairs`."""
        p = self.parameters
        n_words = p.words_per_vector
        index, end = Signal(range(max(n_words, 2)), name="result_word"), Signal(name="result_end")
        write, o, r = self.write, self.o, results.p
        write_end, write_slot = Signal(name="write_end"), Signal(range(_SLOTS), name="write_slot")
        step = Signal(name="result_step")
        room = (~write.valid | write.ready) & (~end | ~o.valid | o.ready)
        if p.flip_repair:
            room = room & self._repair(m, results, index, step)
        m.d.comb += [
            end.eq(index == n_words - 1),
            results.ready.eq(room),
            step.eq(results.valid & results.ready),
        ]
        masks = Signal(p.lanes * p.mask_width, name="masks")
        shifted = Cat(masks[p.memory_lanes * p.mask_width :], r.mask)
        with m.If(write.ready):
            m.d.sync += write.valid.eq(0)
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                write.valid.eq(1),
                write.p.address.eq(_times(r.address, n_words) + index),
                write.p.data.eq(r.data),
                write_end.eq(end),
                write_slot.eq(_slot(r.address)),
                index.eq(Mux(end, 0, index + 1)),
                masks.eq(shifted),
            ]
            with m.If(end):
                m.d.sync += [o.valid.eq(1), o.p.address.eq(r.address), o.p.mask.eq(shifted)]
        finished = Signal(_SLOTS, name="finished")
        with m.If(write.valid & write.ready & write_end):
            m.d.comb += finished.eq(1 << write_slot)
        m.d.sync += self._in_flight.eq((self._in_flight | self._started) & ~finished)
        self._status["overflow"].append(step & r.overflow)

    def _repair(self, m: Module, results: object, index: Signal, step: Signal) -> Value:
        """Queue words with flips and send their repairs one by one; returns whether this result finds room."""
        p = self.parameters
        lanes, r = p.memory_lanes, results.p
        flipped = data.StructLayout(
            {
                "address": payloads.address_width,
                "word": len(index),
                "flips": lanes,
                "data": payloads.memory_word(p),
            }
        )
        m.submodules.flipped = queue = Fifo(flipped, _FLIPPED)
        m.d.comb += [
            queue.i.valid.eq(step & r.flips.any()),
            queue.i.p.address.eq(r.address),
            queue.i.p.word.eq(index),
            queue.i.p.flips.eq(r.flips),
            queue.i.p.data.eq(r.data),
        ]
        single = _create(
            data.StructLayout({"address": payloads.address_width, "lane": p.lane_width, "value": 24}), "flip"
        )
        done, left, alone = (
            Signal(lanes, name="flips_done"),
            Signal(lanes, name="flips_left"),
            Signal(name="flip_alone"),
        )
        m.d.comb += [
            left.eq(queue.o.p.flips & ~done),
            alone.eq(~(left & (left - 1)[:lanes]).any()),
            single.valid.eq(queue.o.valid),
            single.p.address.eq(queue.o.p.address),
            queue.o.ready.eq(single.ready & alone),
        ]
        for lane in reversed(range(lanes)):
            with m.If(left[lane]):
                m.d.comb += [
                    single.p.lane.eq(queue.o.p.word * lanes + lane),
                    single.p.value.eq(queue.o.p.data[lane]),
                ]
        with m.If(single.valid & single.ready):
            m.d.sync += done.eq(Mux(alone, 0, done | (left & -left)[:lanes]))

        pipe = Pipeline(m, single, self.repairs, cuts=3, depth=p.pipeline_depth)
        value = single.p.value
        result = Signal(payloads.near_memory_repair(p), name="repairs_result")
        if p.state_format == "float16":
            s = pipe.cut(address=single.p.address, lane=single.p.lane, value=value[:15])
            s = pipe.cut(address=s.address, lane=s.lane, value=s.value)
            pattern = s.value
        else:
            width = p.state_width
            magnitude = Signal(width - 1, name="flip_magnitude")
            m.d.comb += magnitude.eq(Mux(value[width - 1], -value.as_signed(), value))
            s = pipe.cut(address=single.p.address, lane=single.p.lane, magnitude=magnitude)
            # Left-justify; `place` is the position of the leading one, counted from the least FP16 subnormal's.
            top, place = s.magnitude, self.state_exponent + (width - 2)
            for step_width in (16, 8, 4, 2, 1):
                if step_width < width - 1:
                    empty = ~top[-step_width:].any()
                    top = Mux(empty, (top << step_width)[: width - 1], top)
                    place = place - Mux(empty, step_width, 0)
            s = pipe.cut(
                address=s.address,
                lane=s.lane,
                top=top,
                place=place.as_signed(),
                small=(s.magnitude << self.state_exponent)[:10],
            )
            fraction, rest = s.top[-11:-1], s.top[:-11]
            up = rest[-1] & (rest[:-1].any() | fraction[0])
            rounded = Signal(18, name="flip_rounded")
            # Below 2^10 of the least subnormal the integer itself is the pattern.
            small = (s.place < 10) | ~s.top[-1]
            m.d.comb += rounded.eq(Mux(small, s.small, Cat(fraction, (s.place - 9)[:7]) + up))
            beyond = rounded >= 0x7C00
            pattern = Mux(beyond, 0x7BFF, rounded[:15])
            self._status["overflow"].append(pipe.valid & pipe.advance & beyond)
        m.d.comb += [result.address.eq(s.address), result.lane.eq(s.lane), result.value.eq(pattern)]
        pipe.finish(result)
        return queue.i.ready | ~r.flips.any()
