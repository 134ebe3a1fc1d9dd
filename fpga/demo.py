"""A self-checking demo: real groups from ROM through a multiplier group, every sum compared with golden's.

Words: a *round* sends all stored groups once; a *chain* is the groups of one output, which meet the same weights in the
same order; a *line* is what the UART says after each round::

    driftless PASS 1024/1024 multiplier_group edge
    driftless FAIL 1023/1024 multiplier_group edge, first wrong sum 0517
"""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.content import Content
from golden.units.delta_group import DeltaGroups
from hw import payloads
from hw.units import MultiplierGroup

BAUD = 115_200
"""Bits per second on the UART, 8N1."""

_DIGITS = 4
_CLOCKS_PER_GROUP = 64
"""A round that takes longer than this has lost a group: it ends, and fails, without the missing sums."""


def clocks(clock_hz: float) -> dict[str, int]:
    """Timing of a demo on a board: arguments of `Demo`."""
    return {"bit_clocks": round(clock_hz / BAUD), "pause_clocks": round(clock_hz), "beat_clocks": round(clock_hz / 2)}


class UartTransmitter(wiring.Component):
    """Sends bytes, 8N1.

    Latency: 1 clock to the start bit. Throughput: one byte in 10 bit times and a clock.

    Parameters
    ----------
    bit_clocks : int
        Clocks of a bit; at least 1.

    Members
    -------
    i : In(stream)
        Bytes.
    tx : Out(1)
        The line, 1 when idle.

    Raises
    ------
    ValueError
        If `bit_clocks` is below 1.
    """

    def __init__(self, bit_clocks: int):
        if bit_clocks < 1:
            raise ValueError(f"bit_clocks must be at least 1, not {bit_clocks}")
        self._bit_clocks = bit_clocks
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:  # noqa: D102
        m = Module()
        bits = Signal(9, init=0x1FF)
        left = Signal(range(11))
        clock = Signal(range(self._bit_clocks))
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.ready):
            with m.If(self.i.valid):
                m.d.sync += [Cat(self.tx, bits).eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))), left.eq(10)]
                m.d.sync += clock.eq(self._bit_clocks - 1)
        with m.Elif(clock == 0):
            m.d.sync += [Cat(self.tx, bits).eq(Cat(bits, Const(1, 1))), left.eq(left - 1)]
            m.d.sync += clock.eq(self._bit_clocks - 1)
        with m.Else():
            m.d.sync += clock.eq(clock - 1)
        return m


class Demo(wiring.Component):
    """Feeds a multiplier group from ROM, compares each sum with the one stored, shows and prints the outcome.

    Every stored group is sent as the last of a sum, so each partial sum of an output is checked. Every other round
    holds both streams up at random, which must not change a sum.

    ::

        groups, weights ROM --> multiplier_group --> compare --> LEDs, line
                                       sums ROM ------'

    Throughput: one group per clock, in rounds without hold-ups.

    Parameters
    ----------
    content : Content
        Groups, weights and sums.
    title : str
        Printed in the line; ASCII without braces.
    bit_clocks : int
        Clocks of a bit on the UART.
    pause_clocks : int
        Clocks between a line and the next round.
    beat_clocks : int
        Clocks between changes of the heartbeat.

    Members
    -------
    leds : Out(3)
        Bit 0: at least one round has passed and none has failed. Bit 1: a round has failed (until reset). Bit 2:
        heartbeat.
    tx : Out(1)
        UART.

    Raises
    ------
    ValueError
        If a number of clocks is below 1 or `title` is not printable ASCII without braces.
    """

    def __init__(self, content: Content, *, title: str, bit_clocks: int, pause_clocks: int, beat_clocks: int):
        for name, value in (("bit_clocks", bit_clocks), ("pause_clocks", pause_clocks), ("beat_clocks", beat_clocks)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not (title.isascii() and title.isprintable()) or "{" in title or "}" in title:
            raise ValueError(f"title must be printable ASCII without braces, not {title!r}")
        self._content = content
        self._title = title
        self._bit_clocks = bit_clocks
        self._pause_clocks = pause_clocks
        self._beat_clocks = beat_clocks
        super().__init__({"leds": Out(3), "tx": Out(1, init=1)})

    def lines(self) -> tuple[str, str]:
        """Forms of the two lines, pass and fail; ``{good}`` and ``{first}`` stand for four digits."""
        total = len(self._content.groups)
        passed = f"driftless PASS {{good}}/{total:04d} multiplier_group {self._title}"
        failed = f"driftless FAIL {{good}}/{total:04d} multiplier_group {self._title}, first wrong sum {{first}}"
        return f"{passed}\r\n", f"{failed}\r\n"

    # Memories -------------------------------------------------------------------------------------------------------

    def _group_rows(self) -> tuple[data.StructLayout, list[dict[str, Any]]]:
        content = self._content
        p = content.parameters
        layout = data.StructLayout({"rewind": 1, "first": 1, "group": payloads.delta_group(p)})
        count = len(content.groups)
        rows = [
            {
                "first": index % content.chain == 0,
                # The weights start again after the last group of an output, and for the next round.
                "rewind": (index + 1) % content.chain == 0 or index == count - 1,
                "group": group_fields(content.groups, index, replays=p.replays),
            }
            for index in range(count)
        ]
        return layout, rows

    def _weight_rows(self) -> tuple[data.StructLayout, list[dict[str, Any]]]:
        fields = payloads.multiplier_group_input(self._content.parameters).members
        layout = data.StructLayout({"scale": fields["scale"], "weights": fields["weights"]})
        rows = [
            {"scale": int(scale), "weights": [int(weight) for weight in weights]}
            for scale, weights in zip(self._content.scale, self._content.weights, strict=True)
        ]
        return layout, rows

    def _sum_rows(self) -> tuple[data.StructLayout, list[dict[str, Any]]]:
        layout = payloads.sum_with_poison(self._content.parameters)
        pairs = zip(self._content.sums, self._content.poisoned, strict=True)
        return layout, [{"sum": total, "poisoned": poisoned} for total, poisoned in pairs]

    # Logic ----------------------------------------------------------------------------------------------------------

    def elaborate(self, platform: Any) -> Module:  # noqa: D102
        m = Module()
        total = len(self._content.groups)
        m.submodules.multiplier_group = unit = MultiplierGroup(self._content.parameters)
        next_group, next_weight = Signal(range(total)), Signal(range(self._content.chain))
        next_sum = Signal(range(total))
        group = _rom(m, "groups", *self._group_rows(), address=next_group)
        weight = _rom(m, "weights", *self._weight_rows(), address=next_weight)
        expected = _rom(m, "sums", *self._sum_rows(), address=next_sum)

        start, run, end = Signal(), Signal(), Signal()
        noise = Signal(16, init=1)
        m.d.sync += noise.eq(Cat(noise[1:], Const(0, 1)) ^ Mux(noise[0], 0xB400, 0))
        hold_up = Signal()

        # Sending: an address is that of the next clock's row, so that a row is there every clock.
        sent = Signal(range(total + 1))
        held = Signal()
        weight_row = Signal(range(self._content.chain))
        taken = Signal()
        m.d.comb += [
            unit.i.valid.eq(run & (sent != total) & ~held),
            unit.i.p.first.eq(group.first),
            unit.i.p.last.eq(1),
            unit.i.p.group.eq(group.group),
            unit.i.p.scale.eq(weight.scale),
            unit.i.p.weights.eq(weight.weights),
            taken.eq(unit.i.valid & unit.i.ready),
            next_group.eq(sent),
            next_weight.eq(weight_row),
        ]
        with m.If(start):
            m.d.comb += [next_group.eq(0), next_weight.eq(0)]
            m.d.sync += [sent.eq(0), weight_row.eq(0), held.eq(0)]
        with m.Else():
            with m.If(taken):
                m.d.comb += [next_group.eq(sent + 1), next_weight.eq(Mux(group.rewind, 0, weight_row + 1))]
                m.d.sync += [sent.eq(sent + 1), weight_row.eq(next_weight)]
            # Only between groups: a group once offered stays.
            with m.If(taken | held):
                m.d.sync += held.eq(hold_up & noise[3])

        # Comparing.
        received = Signal(range(total + 1))
        arrived, right, wrong = Signal(), Signal(), Signal()
        good, place, first_wrong = (_Decimal(name) for name in ("good", "place", "first_wrong"))
        m.d.comb += [
            unit.o.ready.eq(run & ~(hold_up & noise[7])),
            arrived.eq(unit.o.valid & unit.o.ready),
            right.eq(unit.o.p.as_value() == expected.as_value()),
            next_sum.eq(received),
        ]
        with m.If(start):
            m.d.comb += next_sum.eq(0)
            m.d.sync += [received.eq(0), wrong.eq(0), good.reset(), place.reset()]
        with m.Elif(arrived):
            m.d.comb += next_sum.eq(received + 1)
            m.d.sync += [received.eq(received + 1), place.increment()]
            with m.If(right):
                m.d.sync += good.increment()
            with m.Elif(~wrong):
                m.d.sync += [wrong.eq(1), first_wrong.take(place)]

        # Rounds.
        patience = Signal(range(_CLOCKS_PER_GROUP * total + 1))
        judged, ever_failed, failed = Signal(), Signal(), Signal()
        m.d.comb += failed.eq(wrong | (received != total))
        speak, spoken = Signal(), Signal()
        pause = Signal(range(self._pause_clocks))
        with m.FSM(name="round"):
            with m.State("start"):
                m.d.comb += start.eq(1)
                m.d.sync += patience.eq(_CLOCKS_PER_GROUP * total)
                m.next = "run"
            with m.State("run"):
                m.d.comb += [run.eq(1), end.eq((received == total) | (patience == 0))]
                m.d.sync += patience.eq(patience - 1)
                with m.If(end):
                    m.next = "judge"
            with m.State("judge"):
                m.d.sync += [judged.eq(1), ever_failed.eq(ever_failed | failed), hold_up.eq(~hold_up)]
                with m.If(~wrong):
                    m.d.sync += first_wrong.take(place)
                m.next = "speak"
            with m.State("speak"):
                m.d.comb += speak.eq(1)
                m.d.sync += pause.eq(self._pause_clocks - 1)
                with m.If(spoken):
                    m.next = "pause"
            with m.State("pause"):
                m.d.sync += pause.eq(pause - 1)
                with m.If(pause == 0):
                    m.next = "start"

        self._line(m, failed, good, first_wrong, speak, spoken)

        beat = Signal(range(self._beat_clocks))
        m.d.sync += beat.eq(Mux(beat == 0, self._beat_clocks - 1, beat - 1))
        with m.If(beat == 0):
            m.d.sync += self.leds[2].eq(~self.leds[2])
        m.d.comb += [self.leds[0].eq(judged & ~ever_failed), self.leds[1].eq(ever_failed)]
        return m

    def _line(
        self, m: Module, failed: Signal, good: "_Decimal", first_wrong: "_Decimal", speak: Signal, spoken: Signal
    ) -> None:
        """Send the line while `speak` is high; `spoken` at its end. A byte with bit 7 set stands for a digit."""
        fields = {"good": 0, "first": _DIGITS}
        marks = {name: "".join(chr(0x80 + low + index) for index in range(_DIGITS)) for name, low in fields.items()}
        lines = [line.format(**marks) for line in self.lines()]
        text = b"".join(line.encode("latin-1") + b"\0" for line in lines)
        m.submodules.uart = uart = UartTransmitter(self._bit_clocks)
        position = Signal(range(len(text)))
        next_position = Signal.like(position)
        byte = _rom(m, "text", unsigned(8), list(text), address=next_position, style="logic")
        digits = Array([*good.digits_first_to_last, *first_wrong.digits_first_to_last])
        ready = Signal()
        m.d.comb += [
            next_position.eq(position),
            uart.i.payload.eq(Mux(byte[7], Const(ord("0"), 8) + digits[byte[:3]], byte)),
            uart.i.valid.eq(ready & (byte != 0)),
            spoken.eq(ready & (byte == 0)),
            self.tx.eq(uart.tx),
        ]
        with m.If(~speak):
            m.d.comb += next_position.eq(Mux(failed, len(lines[0]) + 1, 0))
        with m.Elif(uart.i.valid & uart.i.ready):
            m.d.comb += next_position.eq(position + 1)
        m.d.sync += [position.eq(next_position), ready.eq(speak)]


class _Decimal:
    """Four decimal digits that count."""

    def __init__(self, name: str):
        self.digits = [Signal(4, name=f"{name}_digit{index}") for index in range(_DIGITS)]

    @property
    def digits_first_to_last(self) -> list[Signal]:
        return self.digits[::-1]

    def reset(self) -> list:
        return [digit.eq(0) for digit in self.digits]

    def take(self, other: "_Decimal") -> list:
        return [mine.eq(theirs) for mine, theirs in zip(self.digits, other.digits, strict=True)]

    def increment(self) -> list:
        result, carry = [], Const(1, 1)
        for digit in self.digits:
            result.append(digit.eq(Mux(carry, Mux(digit == 9, 0, digit + 1), digit)))
            carry = carry & (digit == 9)
        return result


def group_fields(groups: DeltaGroups, index: int, *, replays: bool) -> dict[str, Any]:
    """A group as initial value of ``payloads.delta_group``."""
    fields: dict[str, Any] = {"exponent": int(groups.exponent[index])}
    if replays:
        fields["replay"] = int(groups.replay[index])
    fields["digits"] = [int(digit) for digit in groups.digits[index]]
    if groups.outliers:
        fields["outliers"] = [
            {
                "valid": int(groups.outlier_valid[index, slot]),
                "lane": int(groups.outlier_lane[index, slot]),
                "value": int(groups.outlier_value[index, slot]),
            }
            for slot in range(groups.outliers)
        ]
    return fields


def _rom(m: Module, name: str, shape: Any, rows: list, *, address: Signal, style: str = "block") -> Any:
    """Rows read by clock: the row at `address`, a clock later."""
    # Yosys would spend more look-up tables on a shallow ROM than on the unit under test.
    m.submodules[name] = rom = memory.Memory(shape=shape, depth=len(rows), init=rows, attrs={"rom_style": style})
    port = rom.read_port(domain="sync")
    m.d.comb += [port.addr.eq(address), port.en.eq(1)]
    return port.data
