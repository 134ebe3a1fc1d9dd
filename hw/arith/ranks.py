"""The largest of values, and the first of flagged ones, where lanes come a few at a time."""

from amaranth.hdl import Mux, Signal, Value
from amaranth.lib import data

from hw.arith.bits import multiply_constant, named
from hw.stream import Stage


def keep_largest(s: Stage, codes: list[Value], count: int) -> tuple[Stage, Value]:
    """The `count`-th largest of all lanes' codes, when the last row of them has come.

    Stage by stage the largest one so far stays, and the others go on to the next. Takes `count` cuts.

    Parameters
    ----------
    s : Stage
        With ``first``, set on the first row of a vector.
    codes : list of Value
        Codes of the lanes of a row, unsigned.
    count : int
        At least 1.

    Returns
    -------
    Stage, Value
        Where the code is, and the code; 0 while fewer have come.
    """
    m = s.m
    decisive = codes[0]
    for rank in range(count):
        kept = Signal(len(codes[0]), name=f"kept{rank}")
        largest, others = named(m, f"before{rank}", Mux(s.first, 0, kept)), []
        for lane, code in enumerate(codes):
            above = named(m, f"above{rank}_{lane}", code > largest)
            others.append(named(m, f"other{rank}_{lane}", Mux(above, largest, code)))
            largest = named(m, f"largest{rank}_{lane}", Mux(above, code, largest))
        with m.If(s.moves):
            m.d.sync += kept.eq(largest)
        s.make(f"others{rank}", others)
        s.make(f"rank{rank}", largest, held_by=kept)
        s = s.cut()
        decisive, codes = getattr(s, f"rank{rank}"), getattr(s, f"others{rank}")
    return s, decisive


def fill_slots(s: Stage, flags: Value, layout: data.StructLayout, count: int) -> Stage:
    """Slots of the first `count` flagged lanes of a vector: an empty slot takes the first one that comes by.

    Takes ``count - 1`` cuts.

    Parameters
    ----------
    s : Stage
        With ``beat``, the row's place in its vector, and ``values``, those of its lanes.
    flags : Value
        A bit for each lane of the row.
    layout : StructLayout
        Of a slot: ``valid``, ``lane``, ``value``.
    count : int
        Slots, at least 1.

    Returns
    -------
    Stage
        With ``slot0``, ``slot1``, ... as they are after the row, and ``flags<count>``, those that found no room.
    """
    m, lanes = s.m, len(flags)
    for number in range(count):
        if number:
            s = s.cut()
            flags = getattr(s, f"flags{number}")
        kept, slot = (Signal(layout, name=f"slot{number}_{name}") for name in ("kept", "now"))
        empty = named(m, f"empty{number}", (s.beat == 0) | ~kept.valid)
        with m.If(~empty):
            m.d.comb += slot.eq(kept)
        for lane, value in enumerate(s.values):
            with m.Elif(flags[lane]):
                place = multiply_constant(s.beat, lanes) + lane
                m.d.comb += [slot.valid.eq(1), slot.lane.eq(place), slot.value.eq(value)]
        with m.If(s.moves):
            m.d.sync += kept.eq(slot)
        s.make(f"slot{number}", slot)
        # Without its lowest 1, which stays here.
        s.make(f"flags{number + 1}", Mux(empty, flags & (flags - 1), flags)[:lanes])
    return s
