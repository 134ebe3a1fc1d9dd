"""f of an emission and of a combine: identity, ReLU, SiLU and both forms of GELU, u elements a clock."""

import dataclasses
from typing import Any, get_args

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.machine.command import Function
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import filled, or_tree
from hw.arith.rounding import round_shift, shift_amount
from hw.arith.shift import Window, saturate_amount
from hw.memory import Rom
from hw.near_memory.closed_loop import tables
from hw.part import Part
from hw.stream import Stage

_NUMBERS = {name: number for number, name in enumerate(get_args(Function))}

_PLACE = 8
"""Bits of a place in a segment."""

_EVEN = 23
"""Fraction bits of h."""


def settings() -> data.StructLayout:
    """What `Functions` is told: number of the function, exponents of the units of its argument and of its result."""
    return data.StructLayout({"function": 3, "middle": signed(8), "result": signed(8)})


def known(parameters: Parameters, function: Value) -> Value:
    """Whether a machine has this f."""
    return function < _NUMBERS["softmax" if "tables" in parameters.functions else "silu"]


class Functions(Part):
    """``x = RNE(f(z))``, clamped to ``+-(2^(w-2) - 1)``; a poisoned element stays so.

    ::

        |z| --> in units of 2^-(w+13) --+--> 18 bits --> segment --> base, delta --> h --+
                                        |               place  ---------------^         |
                                        +-------------------- z / 2 -------------------> + --> RNE --> x
                                                                   z or max(z, 0) -------^

    Without tables among the machine's functions, only z or max(z, 0) is rounded.

    With a unit so small that the argument rounds to 0 whatever z is, ``f(z) = z / 2``. From 16 on it is z or 0.

    Latency: 14 clocks, without tables 6. Throughput: one part per clock. Numerics: 12.8.

    Members
    -------
    i, o : stream of `payloads.element_part`
        z and x.
    settings : In(`settings`)
        Constant while parts are under way, and for two clocks before them.
    overflow : Out(1)
        An x was clamped.
    """

    @property
    def latency(self) -> int:
        """Clocks from a part to its result."""
        return 14 if self._smooth else 6

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        part = payloads.element_part(parameters)
        return {
            "i": In(stream.Signature(part)),
            "o": Out(stream.Signature(part)),
            "settings": In(settings()),
            "overflow": Out(1),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        w, chosen = self._parameters.state_width, self._choice(m)
        poison = -(1 << w - 1)
        s = Stage.begin(m, self.i)
        s.last = self.i.p.last
        lanes = []
        for lane, element in enumerate(self.i.p["values"]):
            part = s.part(f"lane{lane}")
            part.poisoned = element == poison
            part.z = Mux(part.poisoned, 0, element)[:w].as_signed()
            lanes.append(part.cut())
        if self._smooth:
            s, lanes = s.join([self._place(lane, chosen) for lane in lanes])
            words = self._look_up(m, chosen, [lane.argument[_PLACE:-1] for lane in lanes], s.moves)
            for lane, word in zip(lanes, words, strict=True):
                lane.make("word", word, held_by=word)
            s, lanes = s.join([self._finish(lane.cut(), chosen) for lane in lanes])
        else:
            s, lanes = s.join([self._round(lane, chosen) for lane in lanes])
        values = [Mux(lane.poisoned, poison, lane.rounded) for lane in lanes]
        m.d.comb += self.overflow.eq(s.moves & or_tree(lane.clamped for lane in lanes))
        s.finish(self.o, filled(m, "x", self.o.p.shape(), values=values, last=s.last), depth=s.cuts)
        return m

    def _choice(self, m: Module) -> "_Choice":
        """What the settings come to."""
        w, given = self._parameters.state_width, self.settings
        function, middle, result = given.function, given.middle, given.result
        raw = {
            "smooth": function >= _NUMBERS["silu"],
            "rectified": function == _NUMBERS["relu"],
            "table": (function - _NUMBERS["silu"])[:2],
            "linear": middle < -(w + 13),
            "place": saturate_amount(m, "place", middle + (w + 13), (w + 17).bit_length()),
            "inner": shift_amount(m, "inner", result + (w + 14), self._sum_width, w - 1),
        }
        raw["halved"] = raw["linear"] & raw["smooth"]
        raw["outer"] = shift_amount(m, "outer", result - middle + raw["halved"], self._sum_width, w - 1)
        choice = {}
        for name, value in raw.items():
            value = Value.cast(value)
            choice[name] = Signal(value.shape(), name=f"chosen_{name}", reset_less=True)
            m.d.sync += choice[name].eq(value)
        return _Choice(**choice)

    @property
    def _smooth(self) -> bool:
        """Whether there are tables."""
        return "tables" in self._parameters.functions

    @property
    def _sum_width(self) -> int:
        """Bits of ``z / 2 + h``: below 16, in units of ``2^-(w + 14)``; or of z alone."""
        return self._parameters.state_width + (19 if self._smooth else 0)

    def _place(self, s: Stage, chosen: "_Choice") -> Stage:
        """|z| in units of ``2^-(w + 13)``: `half`; its `argument`, 18 bits and one that tells that it is past them."""
        w = self._parameters.state_width
        s.negative, s.magnitude = s.z[-1], Mux(s.z[-1], -s.z, s.z)[: w - 1]

        s = s.cut()
        s.window = Window.of(
            s.m,
            s.label("placed"),
            Cat(s.magnitude, Const(0, 1)).as_signed(),
            offset=0,
            width=w + 18,
            amount_width=len(chosen.place),
        )
        middle = len(chosen.place) // 2
        s.window = s.window.shift(chosen.place[:middle])

        s = s.cut()
        s.window = s.window.shift(chosen.place[middle:], 1 << middle)

        s = s.cut()
        s.half, s.beyond = s.window.floor[: w + 17], s.window.huge
        whole, fraction = s.half[w - 1 :], s.half[: w - 1]
        up = fraction[-1] & (fraction[:-1].any() | whole[0])
        s.argument = (whole + up)[:19]
        return s.cut()

    def _look_up(self, m: Module, chosen: "_Choice", segments: list[Value], enable: Value) -> list[Value]:
        """Word of each segment, one clock on."""
        words = [base | delta << tables.BASE_WIDTH for name in tables.FUNCTIONS for base, delta in tables.table(name)]
        m.submodules.words = rom = Rom(words, len(segments))
        m.d.comb += rom.enable.eq(enable)
        m.d.comb += [
            address.eq(Cat(segment, chosen.table)) for address, segment in zip(rom.addresses, segments, strict=True)
        ]
        return list(rom.words)

    def _round(self, s: Stage, chosen: "_Choice") -> Stage:
        """``RNE(f(z))`` without tables: `rounded` and `clamped`."""
        s.value = Mux(s.z[-1] & chosen.rectified, 0, s.z)[: self._sum_width].as_signed()

        s = s.cut()
        return round_shift(s, s.value, chosen.outer, self._parameters.state_width - 1)

    def _finish(self, s: Stage, chosen: "_Choice") -> Stage:
        """``RNE(f(z))``: `rounded` and `clamped`."""
        w = self._parameters.state_width
        s.base = s.word[: tables.BASE_WIDTH]
        s.rise = s.word[tables.BASE_WIDTH :] * s.argument[:_PLACE]

        s = s.cut()
        s.even = (s.base << _PLACE) + s.rise
        s.inner = chosen.smooth & ~chosen.linear & ~s.beyond & ~s.argument[-1]

        s = s.cut()
        total = Mux(s.negative, -s.half, s.half) + (s.even << w + 14 - _EVEN)
        s.total = total[: self._sum_width].as_signed()
        cut_off = s.negative & (chosen.rectified | (chosen.smooth & ~chosen.linear))
        s.plain = Mux(cut_off, 0, s.z)

        s = s.cut()
        s.value = Mux(s.inner, s.total, s.plain)[: self._sum_width].as_signed()
        s.amount = Mux(s.inner, chosen.inner, chosen.outer)

        s = s.cut()
        return round_shift(s, s.value, s.amount, w - 1)


@dataclasses.dataclass(frozen=True)
class _Choice:
    """The settings as the lanes need them.

    Attributes
    ----------
    smooth, rectified : Value
        Whether f has a table; whether it is ReLU.
    table : Value
        Number of the table.
    linear, halved : Value
        Whether the unit of z is so small that a table says 0 for all arguments; whether f is therefore ``z / 2``.
    place : Value
        Places to the left that make |z| an argument.
    inner, outer : Value
        Amounts of the last shift, for a sum with h and for z.
    """

    smooth: Value
    rectified: Value
    table: Value
    linear: Value
    halved: Value
    place: Value
    inner: Value
    outer: Value
