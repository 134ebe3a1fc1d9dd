"""Every unit's bench on the emitted Verilog, with quick vectors and every pattern of pauses."""

import pytest

from golden.parameters import Parameters, preset
from hw.units.catalogue import UNITS
from sim import bench

pytestmark = pytest.mark.cocotb


def test_every_unit_has_a_bench():
    assert list(bench.BENCHES[: len(UNITS)]) == list(UNITS)


@pytest.mark.parametrize("name", bench.BENCHES)
@pytest.mark.parametrize("machine", ["tiny", "edge"])
def test_bench(machine, name):
    result = bench.carry_out(name, bench.Request(preset(machine), seed=1))
    assert result.first is None, str(result.first)
    assert result.vectors > 100 and result.runs >= len(bench.MODES)


@pytest.mark.parametrize("machine", ["tiny", "edge"])
def test_a_whole_group_with_ecp5_leaves(machine):
    request = bench.Request(preset(machine), seed=3)
    result = bench.run(bench.load("multiplier_group", request), seed=3, leaves="ecp5")
    assert result.first is None, str(result.first)
    assert result.vectors > 100 and result.runs >= len(bench.MODES)


def test_the_models_of_ecp5_cells_matter(monkeypatch):
    cells = bench._ecp5_cells()
    broken = cells.replace("assign S1 = LUT4_1 ^", "assign S1 = LUT4_1 |")
    assert broken != cells
    monkeypatch.setattr(bench, "_ecp5_cells", lambda: broken)
    result = bench.run(bench.load("multiplier_group", bench.Request(preset("tiny"))), leaves="ecp5")
    assert result.first is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.BENCHES)
def test_full_vectors_of_every_variant(name):
    parameters = preset("edge")
    for label, machine in ({"": parameters} | bench.variants(name, parameters)).items():
        result = bench.carry_out(name, bench.Request(machine, full=True, seed=2))
        assert result.first is None, f"{label}: {result.first}"


@pytest.mark.parametrize("name", bench.BENCHES)
def test_variants_are_machines(name):
    for label, machine in bench.variants(name, preset("paper")).items():
        assert label and isinstance(machine, Parameters)


def test_an_unknown_bench_is_refused():
    with pytest.raises(
        ValueError, match="^Unit must be one of the known names, not 'sign_musk'; did you mean sign_mask"
    ):
        bench.load("sign_musk", bench.Request(preset("tiny")))
