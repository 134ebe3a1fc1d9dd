"""Mutants of a part of the machine, judged by the runs of its tests."""

import textwrap

import pytest

from sim import mutants, parts
from sim.__main__ import main

pytestmark = pytest.mark.cocotb

TESTS = """
    import numpy as np
    from amaranth.hdl import Module, Signal
    from amaranth.lib import stream, wiring
    from amaranth.lib.wiring import In, Out

    from sim import engine


    class Adder(wiring.Component):
        "Adds what came before to each of its words."

        def __init__(self):
            super().__init__({"i": In(stream.Signature(4)), "o": Out(stream.Signature(4))})

        def elaborate(self, platform):
            m = Module()
            before = Signal(4)
            m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
            m.d.comb += self.o.payload.eq(self.i.payload + before)
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += before.eq(self.i.payload)
            return m


    def test_sums():
        words = np.array(WORDS)
        model = engine.build(Adder())
        for mode in ("both", "reset"):
            found = model.run(np.zeros(32, np.uint8), [], streams={"i": words}, mode=mode).streams["o"]
            np.testing.assert_array_equal(np.ravel(found), (words + np.concatenate([[0], words[:-1]])) % 16)
"""


def bench(tmp_path, name, words):
    file = tmp_path / f"test_{name}.py"
    file.write_text(textwrap.dedent(TESTS).replace("WORDS", words))
    return file


def test_mutants_of_a_part_are_told_from_it(tmp_path):
    (report,) = parts.run(bench(tmp_path, "many", "np.arange(200) * 7 % 16"), count=25, seed=2)
    assert report.unit == "Adder" and len(report.findings) == 25
    assert not report.survived and report.caught > 15
    # One word shows nothing of what came before.
    (report,) = parts.run(bench(tmp_path, "one", "[3]"), count=25, seed=2, full=False)
    assert report.survived


def test_what_cannot_be_a_bench_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["mutate", "none.py"], prog_name="sim")
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "Error: Unit must be a unit's name or a file of tests that exists, not 'none.py'\n"
    )
    empty = tmp_path / "test_nothing.py"
    empty.write_text("def test_nothing():\n    pass\n")
    with pytest.raises(ValueError, match=r"^Tests of a part must run it by sim\.engine, and those of test_nothing\.py"):
        parts.record(empty)
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text("def test_wrong():\n    assert False\n")
    with pytest.raises(mutants.simulator.SimulationError, match="^Tests must pass without a mutant: 1 failed"):
        parts.record(wrong)
