"""The registers that software sees, made from their table."""

import itertools
from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.machine.registers import COUNTERS, REGISTERS, Field, Register
from hw.arith.bits import or_tree
from hw.bus.lite_slave import RegisterPort
from hw.control.engine import OFFSET_WIDTH

ADDRESS_WIDTH = 12
"""Bits of the address of a register, in bytes."""

_COUNTERS_AT = next(one.offset for one in REGISTERS if one.name == f"{COUNTERS[0].name}_low")
_REGIONS_AT = next(one.offset for one in REGISTERS if one.name == "region0_base")
_COUNTERS_END = _COUNTERS_AT + 8 * len(COUNTERS)


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

    Throughput: an access a clock; a counter takes until it is ready.

    Members
    -------
    port : In(RegisterPort)
        What software wants.
    region : Out(4), region_write : Out(1), region_value : Out(32), region_read : In(32)
        Row of the table of regions (base and limit of each in turn), whether `region_value` is written to it, and what
        it holds.
    counter : Out(7), counter_valid : Out(1), counter_ready : In(1), counter_read : In(32)
        Half of a counter that is wanted, until it is ready.
    interrupt : Out(1)
        An event that is enabled has come.
    """

    def __init__(self):
        super().__init__(
            {
                "port": In(RegisterPort(ADDRESS_WIDTH - 2)),
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
        port, number = self.port, self.port.address
        writes = Signal()
        is_counter, is_region = Signal(), Signal()
        m.d.comb += [
            is_counter.eq((number >= _COUNTERS_AT // 4) & (number < _COUNTERS_END // 4)),
            is_region.eq(number[4:] == _REGIONS_AT // 64),
            # Nothing is written to a counter, so nothing waits.
            port.ready.eq(~is_counter | port.write | self.counter_ready),
            writes.eq(port.valid & port.write),
            self.counter_valid.eq(port.valid & is_counter & ~port.write),
            self.counter.eq(number - _COUNTERS_AT // 4),
            self.region.eq(number),
            # A word that is written in part would have to be read first.
            self.region_write.eq(writes & is_region & port.strobe.all()),
            # A limit has as many bits as an offset.
            self.region_value.eq(Mux(number[0], port.data[:OFFSET_WIDTH], port.data)),
        ]
        held = {}
        rows: list[tuple[Value, Value]] = [(is_counter, self.counter_read), (is_region, self.region_read)]
        for one, fields in itertools.groupby(_fields(), key=lambda pair: pair[0]):
            here = Signal(name=f"{one.name}_here")
            written = Signal(name=f"{one.name}_written")
            row = Signal(32, name=f"{one.name}_row")
            m.d.comb += [here.eq(number == one.offset // 4), written.eq(writes & here)]
            rows.append((here, row))
            for _, field in fields:
                name = _name(one, field)
                held[name] = self._hold(m, name, field, written)
                m.d.comb += row[field.low : field.low + field.width].eq(held[name])
        m.d.comb += port.read_data.eq(or_tree(row & here.replicate(32) for here, row in rows))

        interrupts = [field for one, field in _fields() if one.name == "interrupt"]
        came = Cat(held[f"interrupt_{field.name}"] for field in interrupts)
        enabled = Cat(held[f"interrupt_enable_{field.name}"] for field in interrupts)
        m.d.comb += self.interrupt.eq((came & enabled).any())
        return m

    def _hold(self, m: Module, name: str, field: Field, written: Value) -> Value:
        """What is read of a field; `written` tells that its register is written."""
        if _is_constant(field):
            return Const(field.reset, field.width)
        member = getattr(self, name)
        data, strobe = self.port.data, self.port.strobe
        if field.access == "ro":
            return member
        if field.access == "rw":
            for byte in range(4):
                low, high = max(field.low, 8 * byte), min(field.low + field.width, 8 * byte + 8)
                if low < high:
                    with m.If(written & strobe[byte]):
                        m.d.sync += member[low - field.low : high - field.low].eq(data[low:high])
            return member
        told = written & strobe[field.low // 8] & data[field.low]
        if field.access == "w1s":
            m.d.comb += member.eq(told)
            return Const(0, 1)
        kept = Signal(name=f"{name}_kept")
        # An event that comes as it is cleared is a new one.
        m.d.sync += kept.eq((kept & ~told) | member)
        return kept


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
