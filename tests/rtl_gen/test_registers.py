"""The written registers: other programs read back what the table says."""

import re
import shutil
import subprocess

import pytest
import systemrdl
from systemrdl.rdltypes import OnWriteType

from golden.machine.registers import CAUSES, COUNTERS, REGISTERS, fingerprint
from golden.parameters import preset
from rtl_gen import registers

pytestmark = pytest.mark.golden

EDGE = preset("edge")


def test_systemrdl_reads_back_as_the_table(tmp_path):
    path = tmp_path / "registers.rdl"
    path.write_text(registers.systemrdl("edge"))
    compiler = systemrdl.RDLCompiler()
    compiler.compile_file(str(path))
    top = compiler.elaborate().top
    found = list(top.registers())
    assert [(one.inst_name, one.absolute_address) for one in found] == [(one.name, one.offset) for one in REGISTERS]
    effects = {"w1s": OnWriteType.woset, "w1c": OnWriteType.woclr}
    for one, expected in zip(found, REGISTERS, strict=True):
        assert one.size == 4 and one.get_property("desc") == expected.help
        fields = sorted(one.fields(), key=lambda field: field.low)
        assert [(field.inst_name, field.low, field.width) for field in fields] == [
            (field.name, field.low, field.width) for field in expected.fields
        ]
        for field, slot in zip(fields, expected.fields, strict=True):
            assert field.get_property("reset") == slot.reset
            assert field.get_property("onwrite") == effects.get(slot.access)
            assert field.is_sw_writable == (slot.access != "ro")
            assert field.is_sw_readable == (slot.access != "w1s")


def test_the_header_compiles_and_says_what_the_table_says(tmp_path):
    (tmp_path / "registers.h").write_text(registers.header("edge", EDGE))
    lines = ["#include <stdio.h>", '#include "registers.h"', '#include "registers.h"', "int main(void) {"]
    expected = {"FINGERPRINT": fingerprint(EDGE)} | {f"CAUSE_{name.upper()}": at for at, name in enumerate(CAUSES)}
    for one in REGISTERS:
        expected[one.name.upper()] = one.offset
        for field in one.fields:
            expected[f"{one.name}_{field.name}_SHIFT".upper()] = field.low
            expected[f"{one.name}_{field.name}_MASK".upper()] = field.mask
    lines += [f'printf("{name} %lu\\n", (unsigned long)DRIFTLESS_{name});' for name in expected]
    (tmp_path / "main.c").write_text("\n".join([*lines, "return 0; }", ""]))
    compiler = shutil.which("gcc") or shutil.which("g++")
    subprocess.run([compiler, "-Wall", "-Werror", "-o", "main", "main.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert {name: int(value) for name, value in map(str.split, printed.splitlines())} == expected


def test_the_module_holds_the_table():
    names: dict = {}
    exec(registers.python("edge", EDGE), names)
    assert names["FINGERPRINT"] == fingerprint(EDGE) and names["CAUSES"] == CAUSES
    assert names["COUNTERS"] == tuple(counter.name for counter in COUNTERS)
    assert names["REGISTERS"] == {
        one.name: (one.offset, {field.name: (field.low, field.width) for field in one.fields}) for one in REGISTERS
    }


def test_the_page_has_every_register_once():
    page = registers.markdown("edge")
    assert re.findall(r"^\| `(\w{3})` \| `(\w+)`", page, re.M) == [(f"{one.offset:03x}", one.name) for one in REGISTERS]


def test_machines_differ_by_their_fingerprint():
    prints = {fingerprint(EDGE.with_settings([f"lanes={lanes}"])) for lanes in (8, 16, 32)}
    assert len(prints) == 3 and fingerprint(EDGE) in prints
    # By hand: sha256sum of the text.
    text = subprocess.run(["sha256sum"], input=_plain(EDGE), capture_output=True, text=True, check=True).stdout
    assert int(text[:8], 16) == fingerprint(EDGE)


def _plain(parameters):
    parts = []
    for name, value in sorted(parameters.to_dict().items()):
        if isinstance(value, list):
            shown = "[" + ",".join(f'"{word}"' for word in value) + "]"
        else:
            shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
        parts.append(f'"{name}":{shown}')
    return "{" + ",".join(parts) + "}"
