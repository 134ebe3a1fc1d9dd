# amaranth: UnusedElaboratable=no
import re

import pytest
from amaranth.hdl import Shape

from golden.parameters import preset
from hw.units import UNITS
from rtl_gen import tools
from rtl_gen.verilog import collateral
from rtl_gen.verilog.emission import emit

pytestmark = pytest.mark.synth

TINY = preset("tiny")


def lint(folder, *files, top):
    tools.run([*tools.verilator_command(), "--lint-only", "-Wno-fatal", "--top-module", top, *files], cwd=folder)


@pytest.mark.parametrize("name", ["delta_quantizer", "channel_scale", "near_memory_engine"])
def test_files_compile_and_agree_with_the_signature(name, tmp_path):
    component = UNITS[name](TINY)
    emitted = emit(component)
    files = collateral.collateral(emitted)
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    (tmp_path / f"{name}.v").write_text(emitted.text)
    checks = []
    for port in emitted.ports:
        macro = f"`{name.upper()}_{port.name.upper()}_WIDTH"
        checks.append(f"  if ({macro} != {port.width}) no_such_module wrong ();")
        if port.member:
            checks.append(f"  if ($bits({name}_pkg::{port.name}_t) != {macro}) no_such_module wrong ();")
    for path, member, _value in component.signature.flatten(component):
        typed = f"{'_'.join(path)}_t"
        if re.search(rf"\b{typed};", files[f"{name}_pkg.sv"]):
            bits = Shape.cast(member.shape).width
            checks.append(f"  if ($bits({name}_pkg::{typed}) != {bits}) no_such_module wrong ();")
    body = "\n".join(checks)
    (tmp_path / "user.sv").write_text(
        f'`include "{name}.vh"\nmodule user;\n`include "{name}_instance.vh"\n{body}\nendmodule\n'
    )
    lint(tmp_path, f"{name}_pkg.sv", f"{name}.v", "user.sv", top="user")


def test_a_wrong_width_is_seen(tmp_path):
    text = collateral.package(emit(UNITS["outlier_selector"](TINY)))
    check = "module user; if ($bits(outlier_selector_pkg::i_flags_t) != 5) no_such_module wrong (); endmodule\n"
    (tmp_path / "user.sv").write_text(text + check)
    with pytest.raises(tools.ToolError):
        lint(tmp_path, "user.sv", top="user")


def test_first_field_is_last_in_a_structure():
    text = collateral.package(emit(UNITS["outlier_selector"](TINY)))
    assert "  typedef struct packed {\n    i_values_t i_values;\n    i_flags_t i_flags;\n  } i_payload_t;\n" in text
    assert "  typedef logic [15:0] i_values_element_t;\n  typedef i_values_element_t [3:0] i_values_t;\n" in text
