"""The emitted Verilog in a second simulator, Icarus: it compiles, and gives golden's answers."""

import shutil
import subprocess

import pytest

from golden.parameters import PRESETS, preset
from hw.tops import COMPONENTS
from rtl_gen.options import choose_units
from rtl_gen.verilog.emission import emit
from sim import vectors
from sim.bench import Request, load

pytestmark = [
    pytest.mark.synth,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog: apt install iverilog"),
]

BENCH = """module bench;
  reg clk = 0, rst = 1, i_valid = 0, o_ready = 1, clear = 0;
  reg [{wide}-1:0] inputs [0:{given}-1];
  reg [{wide}-1:0] i_payload;
  wire [{out}-1:0] o_payload;
  wire i_ready, o_valid;
  integer next = 0, clocks = 0;
  {unit} dut ({ports});
  always #1 clk = ~clk;
  initial $readmemh("inputs.hex", inputs);
  always @(posedge clk) begin
    clocks <= clocks + 1;
    rst <= clocks < 3;
    if (o_valid && o_ready && !rst) $display("%h", o_payload);
    o_ready <= ({ready}) != 0;
    if (!rst && (!i_valid || i_ready)) begin
      i_valid <= next < {given};
      i_payload <= inputs[next < {given} ? next : 0];
      next <= next < {given} ? next + 1 : next;
    end
    if (clocks == 20 * {given} + 200) $finish;
  end
endmodule
"""


def icarus(folder, *files):
    """Compile; what it complains about."""
    command = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "model", *files]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stderr


@pytest.mark.parametrize(
    "machine, unit", [(machine, unit) for machine in PRESETS for unit in choose_units((), preset(machine))]
)
def test_every_unit_and_accelerator_compiles(machine, unit, tmp_path):
    (tmp_path / "unit.v").write_text(emit(COMPONENTS[unit](preset(machine)), name=unit).text)
    assert not icarus(tmp_path, "unit.v")


@pytest.mark.parametrize("ready", ["1", "clocks % 3"])
@pytest.mark.parametrize("unit", ["outlier_selector", "int_float_multiplier", "multiplier_group", "sign_mask"])
def test_a_unit_gives_golden_answers(unit, ready, tmp_path):
    bench = load(unit, Request(preset("tiny"), seed=31))
    emitted = emit(bench.component, name=unit, ports="flat")
    (tmp_path / "unit.v").write_text(emitted.text)
    shapes = {name: getattr(bench.component, name).payload.shape() for name in ("i", "o")}
    case = bench.cases[0]
    given, expected = (
        vectors.pack(shapes[name], values[name]) for name, values in (("i", case.inputs), ("o", case.outputs))
    )
    given, expected = given[:400], expected[: len(given[:400])]
    (tmp_path / "inputs.hex").write_text("\n".join(row.tobytes().hex() for row in given) + "\n")
    present = {port.name for port in emitted.ports}
    ports = ["clk", "rst"] if "clk" in emitted.text.split(");")[0] else []
    ports += [name for name in ("i_payload", "i_valid", "i_ready", "o_payload", "o_valid", "o_ready", "clear")]
    text = BENCH.format(
        unit=unit,
        wide=8 * given.shape[1],
        out=vectors.width(shapes["o"]),
        given=len(given),
        ready=ready,
        ports=", ".join(f".{name}({name})" for name in ports if name in present or name in ("clk", "rst")),
    )
    (tmp_path / "bench.v").write_text(text)
    icarus(tmp_path, "bench.v", "unit.v")
    run = subprocess.run(["vvp", "-n", "model"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [int(line, 16) for line in run.stdout.split()]
    wanted = [int.from_bytes(row.tobytes(), "big") for row in expected]
    assert found == wanted[: len(found)] and len(found) > len(given) // 40
