"""Every unit's bench on the emitted Verilog, with quick vectors and every pattern of pauses."""

import pytest

from golden.parameters import PRESETS, Parameters, preset
from hw.units import UNITS
from sim import bench, play, run

pytestmark = pytest.mark.cocotb


def test_every_unit_has_a_bench():
    assert list(bench.BENCHES[: len(UNITS)]) == list(UNITS)


@pytest.mark.parametrize("name", bench.BENCHES)
@pytest.mark.parametrize("machine", ["tiny", "edge"])
def test_bench(machine, name, fresh_seed):
    (result,) = run.carry_out(name, bench.Request(preset(machine), seed=fresh_seed))
    assert result.first is None, f"seed {fresh_seed}: {result.first}"
    assert result.vectors > 100 and result.runs >= len(play.MODES)


@pytest.mark.parametrize("machine", ["tiny", pytest.param("edge", marks=pytest.mark.slow)])
def test_a_whole_group_with_ecp5_leaves(machine):
    request = bench.Request(preset(machine), seed=3)
    result = run.run(bench.load("multiplier_group", request), seed=3, leaves="ecp5")
    assert result.first is None, str(result.first)
    assert result.vectors > 100 and result.runs >= len(play.MODES)


def test_the_models_of_ecp5_cells_matter(monkeypatch):
    cells = run._ecp5_cells()
    broken = cells.replace("assign S1 = LUT4_1 ^", "assign S1 = LUT4_1 |")
    assert broken != cells
    monkeypatch.setattr(run, "_ecp5_cells", lambda: broken)
    result = run.run(bench.load("multiplier_group", bench.Request(preset("tiny"))), leaves="ecp5")
    assert result.first is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.BENCHES)
def test_full_vectors_of_every_variant(name):
    parameters = preset("edge")
    for label, machine in ({"": parameters} | bench.variants(name, parameters)).items():
        (result,) = run.carry_out(name, bench.Request(machine, full=True, seed=2))
        assert result.first is None, f"{label}: {result.first}"


@pytest.mark.slow
@pytest.mark.parametrize("name", bench.BENCHES)
@pytest.mark.parametrize("machine", PRESETS)
def test_twenty_seeds_of_every_preset_and_variant(machine, name):
    """What `python -m sim run all --seeds 0:20 --vectors quick` does, and the variants."""
    parameters = preset(machine)
    for label, other in ({"": parameters} | bench.variants(name, parameters)).items():
        for result in run.carry_out(name, bench.Request(other), range(20)):
            assert result.first is None, f"{label}, seed {result.seed}: {result.first}"


@pytest.mark.parametrize("name", bench.BENCHES)
def test_variants_are_machines(name):
    for label, machine in bench.variants(name, preset("paper")).items():
        assert label and isinstance(machine, Parameters)


def test_an_unknown_bench_is_refused():
    with pytest.raises(
        ValueError, match="^Unit must be one of the known names, not 'sign_musk'; did you mean sign_mask"
    ):
        bench.load("sign_musk", bench.Request(preset("tiny")))
