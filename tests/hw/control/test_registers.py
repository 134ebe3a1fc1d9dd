"""The register bank does what the table of registers says, field by field."""

import random

import pytest
from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.sim import Simulator

from golden.machine.registers import COUNTERS, REGISTERS, register
from hw.control.registers import RegisterBank

pytestmark = pytest.mark.unit

KEPT = [one for one in REGISTERS if one.offset < 0x100 and not one.name.startswith("region")]


async def access(ctx, dut, address, *, data=None, strobe=15):
    """Read or write a register; what was read."""
    port = dut.port
    ctx.set(port.address, address // 4)
    ctx.set(port.write, data is not None)
    ctx.set(port.data, data or 0)
    ctx.set(port.strobe, strobe)
    ctx.set(port.valid, 1)
    for _ in range(20):
        if ctx.get(port.ready):
            value = ctx.get(port.read_data)
            await ctx.tick()
            ctx.set(port.valid, 0)
            return value
        await ctx.tick()
    raise AssertionError("an access must end")


def simulate(bench, process=None):
    """Run a bench on a bank with memories behind it: a table of regions, counters of which half h reads 1000 + h."""
    dut = RegisterBank()
    m = Module()
    m.submodules.dut = dut
    table = Array(Signal(32, name=f"row{number}") for number in range(16))
    waits = Signal(2)
    m.d.sync += waits.eq(Mux(dut.counter_valid, waits + 1, 0))
    m.d.comb += [
        dut.region_read.eq(table[dut.region]),
        dut.counter_ready.eq(dut.counter_valid & (waits == 3)),
        dut.counter_read.eq(Mux(dut.counter_ready, 1000 + dut.counter, 0xDEAD)),
    ]
    with m.If(dut.region_write):
        m.d.sync += table[dut.region].eq(dut.region_value)
    simulator = Simulator(m)
    simulator.add_clock(1e-6)

    async def run(ctx):
        await bench(ctx, dut)

    simulator.add_testbench(run)
    if process is not None:

        async def background(ctx):
            await process(ctx, dut)

        simulator.add_testbench(background, background=True)
    simulator.run()


def test_what_is_read_is_what_the_table_says():
    draw = random.Random(3)

    async def bench(ctx, dut):
        for _ in range(3):
            for one in KEPT:
                expected = 0
                for field in one.fields:
                    if field.access == "ro":
                        value = field.reset or draw.getrandbits(field.width)
                        if not field.reset:
                            ctx.set(getattr(dut, f"{one.name}_{field.name}"), value)
                        expected |= value << field.low
                if any(field.access == "ro" for field in one.fields):
                    assert await access(ctx, dut, one.offset) == expected, one.name
        assert await access(ctx, dut, register("id").offset) == int.from_bytes(b"DRFT", "little")

    simulate(bench)


def test_what_was_written_is_kept_byte_by_byte():
    draw = random.Random(4)

    async def bench(ctx, dut):
        model = {one.name: 0 for one in KEPT if any(field.access == "rw" for field in one.fields)}
        assert set(model) == {"interrupt_enable", "program", "program_size", "watchdog"}
        for _ in range(60):
            name = draw.choice(list(model))
            one = register(name)
            data, strobe = draw.getrandbits(32), draw.getrandbits(4)
            await access(ctx, dut, one.offset, data=data, strobe=strobe)
            bytes_mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
            mask = sum(field.mask for field in one.fields) & bytes_mask
            model[name] = model[name] & ~mask | data & mask
            for other, value in model.items():
                assert await access(ctx, dut, register(other).offset) == value
                for field in register(other).fields:
                    shown = ctx.get(getattr(dut, f"{other}_{field.name}"))
                    assert shown == value >> field.low & (1 << field.width) - 1

    simulate(bench)


def test_what_does_something_does_it_once():
    names = [field.name for field in register("control").fields]
    seen = []

    async def watch(ctx, dut):
        async for _, _, *events in ctx.tick().sample(*(getattr(dut, f"control_{name}") for name in names)):
            seen.append(events)

    async def bench(ctx, dut):
        for data in (0, 1, 0b101010, 0b111111, 1 << 20):
            seen.clear()
            await access(ctx, dut, register("control").offset, data=data)
            await ctx.tick().repeat(3)
            told = [sum(events[number] for events in seen) for number in range(len(names))]
            assert told == [data >> number & 1 for number in range(len(names))]
            assert await access(ctx, dut, register("control").offset) == 0

    simulate(bench, watch)


def test_events_stay_until_they_are_cleared_and_raise_the_interrupt_if_enabled():
    async def bench(ctx, dut):
        at, enable = register("interrupt").offset, register("interrupt_enable").offset
        for number, field in enumerate(register("interrupt").fields):
            event = getattr(dut, f"interrupt_{field.name}")
            ctx.set(event, 1)
            await ctx.tick()
            ctx.set(event, 0)
            assert await access(ctx, dut, at) == 1 << number and not ctx.get(dut.interrupt)
            await access(ctx, dut, enable, data=1 << number)
            assert ctx.get(dut.interrupt)
            await access(ctx, dut, at, data=~(1 << number) & 7)
            assert await access(ctx, dut, at) == 1 << number
            ctx.set(event, 1)
            await access(ctx, dut, at, data=7)
            ctx.set(event, 0)
            assert await access(ctx, dut, at) == 1 << number, "an event that comes again stays"
            await access(ctx, dut, at, data=7)
            assert await access(ctx, dut, at) == 0 and not ctx.get(dut.interrupt)

    simulate(bench)


def test_regions_and_counters_are_asked_for_where_they_lie():
    draw = random.Random(5)

    async def bench(ctx, dut):
        model = [0] * 16
        for _ in range(40):
            row, value = draw.randrange(16), draw.getrandbits(32)
            await access(ctx, dut, 0x40 + 4 * row, data=value, strobe=15)
            model[row] = value & register(f"region{row // 2}_{'limit' if row % 2 else 'base'}").fields[0].mask
            await access(ctx, dut, 0x40 + 4 * draw.randrange(16), data=value, strobe=7)
            row = draw.randrange(16)
            assert await access(ctx, dut, 0x40 + 4 * row) == model[row]
        for half in (0, 1, 2, 2 * len(COUNTERS) - 1):
            assert await access(ctx, dut, 0x100 + 4 * half) == 1000 + half

    simulate(bench)


def test_where_there_is_no_register_nothing_happens():
    async def bench(ctx, dut):
        for address in (0x03C, 0x08C, 0x0F0, 0x100 + 8 * len(COUNTERS), 0xFFC):
            assert await access(ctx, dut, address) == 0
            await access(ctx, dut, address, data=0xFFFFFFFF)
        for one in KEPT:
            for field in one.fields:
                if field.access == "rw":
                    assert ctx.get(getattr(dut, f"{one.name}_{field.name}")) == 0

    simulate(bench)
