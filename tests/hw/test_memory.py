import gc
import re

import pytest
from amaranth.sim import Simulator

from hw.memory import Ram, RegisterFile, Rom
from tests.hw.streams import inspect, refusal

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("depth", [1, 5, 8])
def test_reads_what_was_written_and_keeps_it(depth):
    dut = Ram(8, depth)

    async def run(ctx):
        ctx.set(dut.write_enable, 1)
        for row in range(depth):
            ctx.set(dut.write_address, row)
            ctx.set(dut.write_data, 7 * row + 1)
            await ctx.tick()
        ctx.set(dut.write_enable, 0)
        ctx.set(dut.write_data, 255)
        await ctx.tick()
        for row in range(depth):
            ctx.set(dut.read_enable, 1)
            ctx.set(dut.read_address, row)
            await ctx.tick()
            assert ctx.get(dut.read_data) == 7 * row + 1
            ctx.set(dut.read_enable, 0)
            ctx.set(dut.read_address, (row + 1) % depth)
            await ctx.tick()
            assert ctx.get(dut.read_data) == 7 * row + 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()


def test_depth():
    assert inspect(Ram(8, 5)).depth == 5


@pytest.mark.filterwarnings("ignore:.*created but never used")
@pytest.mark.parametrize(
    ("depth", "error", "message"),
    [
        (0, ValueError, "Depth of a memory must be at least 1, not 0"),
        ("8", TypeError, "Depth of a memory must be an integer, not '8'"),
    ],
)
def test_rejects(depth, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Ram(8, depth)
    gc.collect()  # the refused component must go while its warning is ignored


def test_table_answers_every_port_and_keeps_it():
    words = [5, 0, 1023, 77, 400]
    dut = Rom(words, 2)

    async def run(ctx):
        for index in range(len(words)):
            ctx.set(dut.enable, 1)
            ctx.set(dut.addresses, [index, len(words) - 1 - index])
            await ctx.tick()
            ctx.set(dut.enable, 0)
            ctx.set(dut.addresses, [0, 0])
            for _ in range(2):
                assert list(ctx.get(dut.words)) == [words[index], words[-1 - index]]
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()


@pytest.mark.parametrize(
    ("words", "ports", "message"),
    [
        ([], 1, "Words of a table must be at least 0, and one at least, not []"),
        ([3, -1], 1, "Words of a table must be at least 0, and one at least, not [3, -1]"),
        ([3], 0, "Ports of a table must be at least 1, not 0"),
    ],
)
def test_table_rejects(words, ports, message):
    assert str(refusal(Rom, words, ports)) == message


@pytest.mark.parametrize("depth, reads", [(2, 1), (5, 2), (16, 3)])
def test_register_file_reads_every_row_at_once(depth, reads):
    dut, values = RegisterFile(8, depth, reads), [0] * depth

    async def run(ctx):
        for clock in range(4 * depth):
            row = 7 * clock % depth
            ctx.set(dut.write_enable, clock % 3 != 0)
            ctx.set(dut.write_address, row)
            ctx.set(dut.write_data, 3 * clock + 1)
            for port in range(reads):
                ctx.set(dut.read_addresses[port], (row + port) % depth)
                assert ctx.get(dut.read_data[port]) == values[(row + port) % depth]
            await ctx.tick()
            if clock % 3:
                values[row] = 3 * clock + 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()


def test_a_register_file_of_one_row_is_refused():
    assert str(refusal(RegisterFile, 8, 1)) == "Depth of a memory must be at least 2, not 1"
