"""cocotb bench of the demo's emitted Verilog; run by `test_demo_cocotb`, one process for each test."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer

PERIOD_NS = 10
BIT_NS = PERIOD_NS * int(os.environ.get("DEMO_BIT_CLOCKS", "1"))


async def _start(dut):
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0


async def _line(dut):
    """Next line on the UART, heard as a receiver hears it: it wakes on start bits and in the middle of bits."""
    text = bytearray()
    while not text.endswith(b"\r\n"):
        await FallingEdge(dut.tx)
        await Timer(BIT_NS * 3 // 2, unit="ns")
        byte = 0
        for index in range(8):
            byte |= int(dut.tx.value) << index
            await Timer(BIT_NS, unit="ns")
        assert int(dut.tx.value) == 1, "no stop bit"
        text.append(byte)
    return text[:-2].decode("ascii")


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def real_groups_pass(dut):
    """Two rounds, the second with hold-ups."""
    await _start(dut)
    for _ in range(2):
        assert await _line(dut) == os.environ["DEMO_PASS"]
        assert int(dut.leds.value) & 3 == 1


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def a_corrupted_word_is_reported(dut):
    """A bit of a stored sum flips after the first round has passed."""
    await _start(dut)
    assert await _line(dut) == os.environ["DEMO_PASS"]
    index, bit = int(os.environ["DEMO_INDEX"]), int(os.environ["DEMO_BIT"])
    word = dut.sums[index]
    right = int(word.value)
    word.value = right ^ (1 << bit)
    assert await _line(dut) == os.environ["DEMO_FAIL"]
    assert int(dut.leds.value) & 3 == 2, "the failure must show"
    word.value = right
    assert await _line(dut) == os.environ["DEMO_PASS"]
    assert int(dut.leds.value) & 3 == 2, "a failure must stay visible"
