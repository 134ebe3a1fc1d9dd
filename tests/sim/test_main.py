"""The command line, as a user types it."""

import json

import pytest

from sim import run
from sim.__main__ import main
from sim.play import MODES


def type_in(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ending:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(ending.value.code or 0), captured.out, captured.err


@pytest.mark.unit
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "sign_musk"], "Error: Unit must be one of the known names, not 'sign_musk'; did you mean sign_mask"),
        (["rum"], "Error: Command must be one of the known names, not 'rum'; did you mean run or trust?"),
        (
            ["run", "all", "--preset", "tinny"],
            "Error: Preset must be one of the known names, not 'tinny'; did you mean",
        ),
        (["run", "--set", "lanes=3"], "Error: lanes must be in 4..64, not 3"),
        (
            ["layer", "--steps", "0:5"],
            "Error: Steps must be a half-open range within 1:50 (step 0 is sent raw), not 0:5",
        ),
        (["layer", "--steps", "9:5"], "Error: Steps must be a half-open range A:B, not '9:5'"),
        (["run", "--seeds", "3"], "Error: Seeds must be a half-open range A:B, not '3'"),
        (
            ["run", "--seed", "0", "--seeds", "0:2"],
            "Error: Seeds must be given by --seed or --seeds, not by both, 0 and '0:2'",
        ),
        (["layer", "--steps", "5"], "Error: Steps must be a half-open range A:B, not '5'"),
        (["layer", "--plot", "x.pdf"], "Error: Picture must be a .png in a folder that exists, not 'x.pdf'"),
        (["layer", "--layer", "down1.block.norm1"], "Error: Layer must be a convolution, not the norm "),
        (
            ["layer", "--set", "mask_operand=values"],
            "Error: mask_operand must be digits for a layer run, not values",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(capsys, arguments, message):
    code, out, err = type_in(capsys, *arguments)
    assert code == 2 and out == ""
    assert err.startswith(message) and err.count("\n") == 1


@pytest.mark.cocotb
def test_run_prints_a_table_as_json(capsys):
    code, out, _ = type_in(capsys, "run", "outlier_selector", "--preset", "tiny", "--vectors", "quick", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["unit"] == "outlier_selector" and row["mismatches"] == 0
    assert row["runs"] == len(MODES) and row["groups/clock"] == 1


@pytest.mark.cocotb
def test_waves_are_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = type_in(capsys, "run", "int_float_multiplier", "--preset", "tiny", "--waves")
    assert code == 0
    path = tmp_path / out.split("waveforms in ")[1].strip()
    assert path.suffix == ".vcd" and "$var" in path.read_text(encoding="utf-8")[:20_000]


@pytest.mark.cocotb
def test_a_mismatch_ends_with_code_1_and_names_the_unit(capsys, monkeypatch):
    load = run.load

    def lie(name, request):
        made = load(name, request)
        made.cases[0].outputs["o"]["rest"][5] ^= True
        return made

    monkeypatch.setattr(run, "load", lie)
    code, _, err = type_in(capsys, "run", "outlier_selector", "--preset", "tiny", "--vectors", "quick")
    assert code == 1
    assert "FAIL unit outlier_selector, lane 0, cycle " in err
    assert "rest of output 5 of stream o: got " in err and "expected " in err


@pytest.mark.cocotb
def test_seeds_share_a_row_and_a_mismatch_names_its_seed(capsys, monkeypatch):
    load = run.load

    def lie(name, request):
        made = load(name, request)
        made.cases[0].outputs["o"]["rest"][5] ^= request.seed == 4
        return made

    monkeypatch.setattr(run, "load", lie)
    line = ["run", "outlier_selector", "--preset", "tiny", "--vectors", "quick", "--seeds", "3:6", "--json"]
    code, out, err = type_in(capsys, *line)
    (row,) = json.loads(out)
    assert code == 1 and row["seeds"] == 3
    assert err.startswith("FAIL (seed 4) unit outlier_selector, lane 0, ") and err.count("FAIL") == 1
