"""The registers that software sees, made from their table."""

import itertools
from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import COUNTERS, REGISTERS, Field, Register

__all__ = ["ADDRESS_WIDTH", "RegisterBank", "register_access"]

ADDRESS_WIDTH = 12
"""Bits of the address of a register, in bytes."""

_COUNTERS_AT = next(one.offset for one in REGISTERS if one.name == f"{COUNTERS[0].name}_low")
_COUNTERS_END = _COUNTERS_AT + 8 * len(COUNTERS)


def register_access() -> data.StructLayout:
    """A register to read or to write; `strobe` has a bit for each byte that is written."""
    return data.StructLayout({"address": ADDRESS_WIDTH, "write": 1, "data": 32, "strobe": 4})


def _is_region(one: Register) -> bool:
    return one.name.startswith("region")


class RegisterBank(wiring.Component):
    """All registers but counters and regions, which lie in memories beside this: their accesses are handed on.

    Every field of the table is a member `REGISTER_FIELD`:

    ====== ========== =====================================================================
    access member     is
    ====== ========== =====================================================================
    ro     In(width)  what is read; none where the table says what it is after a reset
    rw     Out(width) what was written last
    w1s    Out(1)     an event: 1 was written
    w1c    In(1)      an event: the bit is set, and stays until 1 is written
    ====== ========== =====================================================================

    Where there is no register, 0 is read and nothing is written.

    Latency: 1 clock from a request to its answer; of counters and regions, that of their memory more.

    Members
    -------
    request : In(stream of `register_access`)
        What software wants.
    answer : Out(stream of 32 bits)
        What it reads; of a write, anything. One for each request.
    region : Out(4), region_write : Out(1), region_value : Out(32), region_read : In(32)
        Row of the table of regions (base and limit of each in turn), whether `region_value` is written to it, and what
        it holds a clock later.
    counter : Out(7), counter_valid : Out(1), counter_ready : In(1), counter_read : In(32)
        Half of a counter that is wanted, until it is ready.
    interrupt : Out(1)
        An event that is enabled has come.
    """

    def __init__(self):
        super().__init__(
            {
                "request": In(stream.Signature(register_access())),
                "answer": Out(stream.Signature(32)),
                **{_name(one, field): _member(field) for one, field in _fields() if not _is_constant(field)},
                "region": Out(4),
                "region_write": Out(1),
                "region_value": Out(32),
                "region_read": In(32),
                "counter": Out((2 * len(COUNTERS) - 1).bit_length()),
                "counter_valid": Out(1),
                "counter_ready": In(1),
                "counter_read": In(32),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        strobe = Signal(4)
        writes = Signal()
        found = Signal(32)
        here = self.request.p
        number = Signal(ADDRESS_WIDTH - 2)
        m.d.comb += [
            number.eq(here.address[2:]),
            strobe.eq(here.strobe),
            self.region.eq(number),
            self.region_value.eq(here.data),
            self.counter.eq(number - _COUNTERS_AT // 4),
        ]
        held = {}
        with m.Switch(number):
            for one, fields in itertools.groupby(_fields(), key=lambda pair: pair[0]):
                with m.Case(one.offset // 4):
                    for _, field in fields:
                        name = _name(one, field)
                        written = Signal(field.width, name=f"{name}_written")
                        held[name] = Signal(field.width, name=f"{name}_held"), written
                        m.d.comb += found[field.low : field.low + field.width].eq(held[name][0])
                        for byte in range(4):
                            low, high = max(field.low, 8 * byte), min(field.low + field.width, 8 * byte + 8)
                            if low < high and field.access != "ro":
                                m.d.comb += written[low - field.low : high - field.low].eq(
                                    (writes & strobe[byte]).replicate(high - low)
                                )
        for one, field in _fields():
            name = _name(one, field)
            value, written = held[name]
            data_in = here.data[field.low : field.low + field.width]
            if _is_constant(field):
                m.d.comb += value.eq(field.reset)
            elif field.access == "ro":
                m.d.comb += value.eq(getattr(self, name))
            elif field.access == "rw":
                m.d.sync += value.eq((value & ~written) | (data_in & written))
                m.d.comb += getattr(self, name).eq(value)
            elif field.access == "w1s":
                m.d.comb += getattr(self, name).eq(written & data_in)
            else:
                # An event that comes as it is cleared is a new one.
                m.d.sync += value.eq((value & ~(written & data_in)) | getattr(self, name))

        regions = [one.offset // 4 for one in REGISTERS if _is_region(one)]
        is_region = Signal()
        is_counter = Signal()
        m.d.comb += [
            is_region.eq((number >= regions[0]) & (number <= regions[-1])),
            is_counter.eq((number >= _COUNTERS_AT // 4) & (number < _COUNTERS_END // 4)),
        ]
        with m.FSM(name="access"):
            with m.State("IDLE"):
                with m.If(self.request.valid):
                    m.d.sync += self.answer.payload.eq(found)
                    m.next = "ANSWER"
                    with m.If(is_counter & ~here.write):
                        m.next = "COUNTER"
                    with m.Elif(is_region):
                        # A word that is written in part would have to be read first.
                        m.d.comb += self.region_write.eq(here.write & strobe.all())
                        m.next = "REGION"
                    with m.Else():
                        m.d.comb += writes.eq(here.write)
            with m.State("COUNTER"):
                m.d.comb += self.counter_valid.eq(1)
                m.d.sync += self.answer.payload.eq(self.counter_read)
                with m.If(self.counter_ready):
                    m.next = "ANSWER"
            with m.State("REGION"):
                m.d.sync += self.answer.payload.eq(self.region_read)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.answer.valid.eq(1)
                with m.If(self.answer.ready):
                    m.d.comb += self.request.ready.eq(1)
                    m.next = "IDLE"

        interrupts = [field for one, field in _fields() if one.name == "interrupt"]
        came = Cat(held[f"interrupt_{field.name}"][0] for field in interrupts)
        enabled = Cat(held[f"interrupt_enable_{field.name}"][0] for field in interrupts)
        m.d.comb += self.interrupt.eq((came & enabled).any())
        return m


def _fields() -> Iterator[tuple[Register, Field]]:
    """Registers that are kept here, with each of their fields."""
    for one in REGISTERS:
        if one.offset < _COUNTERS_AT and not _is_region(one):
            for field in one.fields:
                yield one, field


def _name(one: Register, field: Field) -> str:
    return f"{one.name}_{field.name}"


def _is_constant(field: Field) -> bool:
    return field.access == "ro" and field.reset != 0


def _member(field: Field) -> Any:
    return {"ro": In(field.width), "rw": Out(field.width), "w1s": Out(1), "w1c": In(1)}[field.access]
