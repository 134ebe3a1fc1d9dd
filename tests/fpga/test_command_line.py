"""``python -m fpga``: what it prints, what it writes, and its exit codes."""

import json
from pathlib import Path

import pytest

from fpga.__main__ import main

pytestmark = pytest.mark.synth


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main.main(list(arguments), prog_name="python -m fpga")
    out, err = capsys.readouterr()
    return end.value.code, out, err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("build"))


_UNIT = ("build", "--board", "icebreaker", "--unit", "outlier_selector", "--seeds", "1")


def test_a_unit_is_measured_and_reported(capsys, folder):
    code, out, err = _run(capsys, *_UNIT, "--out", folder)
    assert (code, err) == (0, "")
    assert "outlier_selector, machine tiny, on icebreaker, measured: serial harness" in out
    assert "around it: shift registers" in out
    assert "Slowest path:" in out
    code, out, _ = _run(capsys, *_UNIT, "--out", folder, "--json")
    assert code == 0
    report = json.loads(out)
    file = Path(folder, "icebreaker", "outlier_selector-tiny", "report.json")
    assert report == json.loads(file.read_text(encoding="utf-8"))
    assert report["target_mhz"] == 12.0 and report["reached"] is True
    assert report["parameters"]["lanes"] == 4
    assert report["cells"]["luts"] > 0 and report["harness"]["ff"] > 0
    assert report["fmax_mhz"]["median"] > 12


def test_a_missed_clock_target_is_code_1(capsys, folder):
    code, out, err = _run(capsys, *_UNIT, "--out", folder, "--target-mhz", "1000")
    assert code == 1
    assert "no" in out  # the table comes first
    assert err.startswith("Error: The clock target of 1000 MHz is missed: outlier_selector reaches ")
    assert err.count("\n") == 1


def test_cells_are_counted_without_placing(capsys, folder):
    code, out, err = _run(capsys, *_UNIT, "--out", folder, "--quick")
    assert (code, err) == (0, "")
    assert "outlier_selector, machine tiny, on icebreaker, counted" in out
    assert "Look-up tables by part" in out and "MHz" not in out


def test_what_does_not_fit_is_counted_first(capsys, folder):
    # 60 lanes and 4 outliers of values take more than an UP5K has.
    unit = ("build", "--board", "icebreaker", "--unit", "outlier_selector", "--preset", "paper", "--quick")
    code, out, err = _run(capsys, *unit, "--out", folder, "--json")
    assert code == 1
    cells = json.loads(out)["cells"]
    assert err.startswith(
        f"Error: outlier_selector does not fit iCE40UP5K-SG48: it needs {cells['logic']} LUTS of 5280"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("build", "--board", "icebraker", "--demo"), "did you mean icebreaker?"),
        (("build", "--board", "icebreaker", "--unit", "multiplyer_group"), "did you mean multiplier_group"),
        (("build", "--board", "icebreaker", "--demo", "--preset", "tinny"), "did you mean tiny?"),
        (("build", "--board", "icebreaker", "--demo", "--set", "lanes=3"), "lanes must be in 4..64, not 3"),
        (("build", "--board", "icebreaker"), "A build must have either --unit NAME or --demo"),
        (("build", "--board", "icebreaker", "--demo", "--unit", "x"), "either --unit NAME or --demo"),
        (("build", "--board", "icebreaker", "--unit", "x", "--corrupt", "1"), "--corrupt must come with --demo"),
        (("build", "--board", "icebreaker", "--demo", "--quick"), "--quick must come with --unit"),
        (("build", "--board", "icebreaker", "--demo", "--corrupt", "1024"), "must be in 0..1023, not 1024"),
        (("build", "--unit", "x"), "Missing option '--board'"),
        (("biuld",), "did you mean build?"),
        (("area", "--seeds", "0"), "--seeds"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(capsys, tmp_path, arguments, sentence):
    out_option = () if arguments == ("biuld",) else ("--out", str(tmp_path))
    code, out, err = _run(capsys, *arguments, *out_option)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ") and err.count("\n") == 1
    assert sentence in err
