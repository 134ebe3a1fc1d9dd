"""`Banks` and `WeightBuffer` against a dictionary, and what the memories of the array become."""

import random
import re

import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from golden.parameters import Parameters
from hw.core.banks import Banks
from hw.core.processing_element import ProcessingElement
from hw.core.sum_buffer import SumRow
from hw.core.weight_buffer import WeightBuffer
from rtl_gen import tools
from rtl_gen.verilog.emission import emit

SMALL = Parameters(lanes=4, rows=3, group_buffer=21, weight_buffer=19, memory_lanes=1)


def run(dut, clocks, write, read, seed):
    """Write and read at random; `write` draws ``(key, value)`` and sets it, `read` draws an address and gives keys."""
    print(f"seed {seed}")
    draw, held = random.Random(seed), {}

    async def bench(ctx):
        waiting = []
        for clock in range(clocks):
            ctx.set(dut.write.valid, 0)
            key = None
            if draw.random() < 0.7:
                ctx.set(dut.write.valid, 1)
                key, value = write(ctx, draw)
            half, address = draw.getrandbits(1), draw.randrange(clocks)
            keys = read(address, half)
            enabled = draw.random() < 0.8 and key not in keys
            ctx.set(dut.read.enable, enabled)
            if enabled:
                ctx.set(dut.read.half, half)
                ctx.set(dut.read.address, keys[0][-1])
                waiting.append((clock + dut.latency, [held.get(each, 0) for each in keys]))
            await ctx.tick()
            if key is not None:
                held[key] = value
            if waiting and waiting[0][0] == clock + 1:
                _, expected = waiting.pop(0)
                got = Value.cast(dut.read.data)
                width = len(got) // len(expected)
                bits = ctx.get(got)
                assert [bits >> row * width & (1 << width) - 1 for row in range(len(expected))] == expected

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.unit
@pytest.mark.parametrize("seed", [1, 2])
def test_banks_keep_what_each_row_was_given(seed):
    p, dut = SMALL, Banks(SMALL)

    def write(ctx, draw):
        row, half, address = draw.randrange(p.rows), draw.getrandbits(1), draw.randrange(p.group_buffer)
        payload = dut.write.p
        value = draw.getrandbits(len(Value.cast(payload.group)))
        for field, given in (("row", row), ("half", half), ("address", address)):
            ctx.set(payload[field], given)
        ctx.set(payload.group.as_value(), value)
        return (row, half, address), value

    run(dut, 1_500, write, lambda at, half: [(row, half, at % p.group_buffer) for row in range(p.rows)], seed)


@pytest.mark.unit
@pytest.mark.parametrize("seed", [1, 2])
def test_weight_buffer_keeps_what_it_was_given(seed):
    p, dut = SMALL, WeightBuffer(SMALL)

    def write(ctx, draw):
        half, address = draw.getrandbits(1), draw.randrange(p.weight_buffer)
        payload = dut.write.p
        value = draw.getrandbits(len(Value.cast(payload.record)))
        ctx.set(payload.half, half)
        ctx.set(payload.address, address)
        ctx.set(payload.record.as_value(), value)
        return (half, address), value

    run(dut, 1_500, write, lambda at, half: [(half, at % p.weight_buffer)], seed)


@pytest.mark.synth
@pytest.mark.parametrize(
    ("kind", "blocks", "tables"),
    [
        (Banks, 6, 0),  # 75 bits x 512 rows x 2 rows of the array: 3 blocks of 36 bits each
        (WeightBuffer, 13, 0),  # 233 bits x 1024 rows: blocks of 18 bits
        (SumRow, 4, 0),  # 35 bits x 128 rows x 4 elements
        (ProcessingElement, 0, 9),  # 35 bits x 16 sums: 4 bits each
    ],
)
def test_memories(kind, blocks, tables, tmp_path):
    """Buffers are block RAM, the sums of an element stand in look-up tables."""
    component = kind(Parameters(group_buffer=256))
    (tmp_path / "buffers.v").write_text(emit(component, name="buffers").text, encoding="utf-8")
    script = "read_verilog buffers.v\nsynth_ecp5 -top buffers -flatten\nstat"
    output = tools.run_yosys(script, cwd=tmp_path, timeout=120)
    statistics = output[output.rindex("Printing statistics") :]
    cells = {name: int(number) for number, name in re.findall(r"^\s+(\d+)\s+(\w+)$", statistics, re.MULTILINE)}
    assert (cells.get("DP16KD", 0), cells.get("TRELLIS_DPR16X4", 0)) == (blocks, tables)
