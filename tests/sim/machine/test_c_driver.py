"""The bare C driver, with the generated header, against registers."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sim.machine
from golden.machine.registers import CAUSES, register
from rtl_gen.registers import header
from sim.machine import InterpreterPort
from sim.machine.verilated import Memory, VerilatedPort
from tests.sim.machine.test_driver import machine, sum_of_two
from tests.sim.machine.test_networks import METHOD, model, sections

pytestmark = pytest.mark.cocotb

SHIM = """
#include "driftless.h"
static uint32_t (*reads)(uint32_t);
static void (*writes)(uint32_t, uint32_t);
void connect(uint32_t (*r)(uint32_t), void (*w)(uint32_t, uint32_t)) { reads = r; writes = w; }
uint32_t driftless_read(uint32_t offset) { return reads(offset); }
void driftless_write(uint32_t offset, uint32_t value) { writes(offset, value); }
"""


def compiled(folder, parameters):
    """The driver, for one build of the machine."""
    for file in Path(sim.machine.__file__).with_name("c").iterdir():
        shutil.copy(file, folder)
    (folder / "registers.h").write_text(header("tiny", parameters))
    (folder / "shim.c").write_text(SHIM)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    files = ["driftless.c", "shim.c"]
    subprocess.run(["gcc", *strict, "-shared", "-fPIC", "-o", "driver.so", *files], cwd=folder, check=True)
    found = ctypes.CDLL(str(folder / "driver.so"))
    found.driftless_counter.restype = ctypes.c_uint64
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("driver"), machine())


READS, WRITES = (
    ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32),
    ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32),
)


def connect(library, port):
    """Let the driver reach a port; what must stay alive meanwhile."""
    ends = READS(port.read), WRITES(port.write)
    library.connect(*ends)
    return ends


def place(library, program):
    library.driftless_place((ctypes.c_uint32 * 16)(*(value for region in program.regions for value in region)))


def test_a_program_runs(library):
    program, expected = sum_of_two()
    port = InterpreterPort(program.parameters, program.image.copy())
    ends = connect(library, port)
    assert library.driftless_probe() == 0
    place(library, program)
    library.driftless_start(program.operand.encode(), program.commands)
    assert library.driftless_wait(1000) == 0 and ends
    tensor = program.tensors["both"]
    assert library.driftless_counter(register("combined_low").offset) == tensor.vectors(4)
    begin = 32 * (program.regions[tensor.data.region][0] + tensor.data.offset)
    assert (port.memory[begin:] != program.image[begin:]).any() and expected.any()


def test_a_layer_runs_on_the_verilog(tmp_path):
    library, made = compiled(tmp_path, METHOD.machine), sections(3)
    section, ports = made.sections[0], [InterpreterPort(METHOD.machine, made.program.image.copy())]
    ports.append(VerilatedPort(model(), METHOD.machine, made.program.image.copy(), Memory(latency=9)))
    counts = []
    for port in ports:
        ends = connect(library, port)
        assert library.driftless_probe() == 0
        place(library, made.program)
        library.driftless_start(section.operand.encode(), section.size)
        assert library.driftless_wait(100_000) == 0 and ends
        counts.append(library.driftless_counter(register("array_groups_low").offset))
    assert counts[0] == counts[1] > 0
    np.testing.assert_array_equal(ports[0].memory, ports[1].memory)


def test_an_error_is_told(library):
    program, _ = sum_of_two(limit=10_000)
    ends = connect(library, InterpreterPort(program.parameters, program.image.copy()))
    place(library, program)
    library.driftless_start(program.operand.encode(), program.commands)
    tag, position = ctypes.c_uint32(), ctypes.c_uint32()
    assert library.driftless_wait(1000) == -1 and ends
    assert CAUSES[library.driftless_cause(ctypes.byref(tag), ctypes.byref(position))] == "region"
    assert (tag.value, position.value) == (7, program.commands - 2)
    assert library.driftless_reset(10) == 0 and library.driftless_poll() == 1


def test_another_machine_is_foreign(library):
    class Foreign(InterpreterPort):
        def read(self, offset):
            return super().read(offset) ^ (offset == register("parameters").offset)

    ends = connect(library, Foreign(machine(), np.zeros(64, np.uint8)))
    assert library.driftless_probe() == -2 and ends
