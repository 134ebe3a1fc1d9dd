"""The demo's emitted Verilog in Verilator: it passes on real groups, and reports a corrupted ROM word."""

import contextlib
from pathlib import Path

import pytest
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from fpga.content import recorded_content
from fpga.demo import Demo
from golden.parameters import PRESETS
from rtl_gen import tools
from rtl_gen.verilog.emission import emit

pytestmark = pytest.mark.cocotb

_BIT_CLOCKS = 4
_GROUPS = 1024
_WORD = 517


def test_demo_in_verilator(tmp_path, monkeypatch):
    demo = Demo(
        recorded_content(PRESETS["tiny"], _GROUPS),
        title="tiny",
        bit_clocks=_BIT_CLOCKS,
        pause_clocks=20,
        beat_clocks=64,
    )
    passed, failed = demo.lines()
    source = tmp_path / "driftless_demo.v"
    source.write_text(emit(demo, name="driftless_demo").text, encoding="utf-8")
    for name, value in tools.verilator_environment().items():
        monkeypatch.setenv(name, value)
    # A cocotb run inside pytest must not report to that pytest.
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    # Its own signals stay visible: the bench reaches into a ROM.
    runner = get_runner("verilator")
    runner.build(
        sources=[source],
        hdl_toplevel="driftless_demo",
        build_dir=tmp_path / "model",
        build_args=["-Wno-lint", "-Wno-style"],  # `rtl_gen lint` is where warnings are judged
        log_file=tmp_path / "build.log",
    )
    log = tmp_path / "run.log"
    with contextlib.suppress(SystemExit):  # so ends a run with a failing test; the results say which
        runner.test(
            test_module="demo_bench",
            hdl_toplevel="driftless_demo",
            test_dir=tmp_path,
            build_dir=tmp_path / "model",
            log_file=log,
            results_xml=str(tmp_path / "results.xml"),
            extra_env={
                "DEMO_BIT_CLOCKS": str(_BIT_CLOCKS),
                "DEMO_PASS": passed.format(good=f"{_GROUPS:04d}").rstrip(),
                "DEMO_FAIL": failed.format(good=f"{_GROUPS - 1:04d}", first=f"{_WORD:04d}").rstrip(),
                "DEMO_INDEX": str(_WORD),
                "DEMO_BIT": "9",
            },
        )
    assert get_results(tmp_path / "results.xml") == (2, 0), log.read_text(encoding="utf-8")
