import subprocess
import sys
from pathlib import Path

import pytest

from rtl_gen.__main__ import main as generator
from sim.driftless import main

pytestmark = pytest.mark.golden

ROOT = Path(__file__).resolve().parents[2]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments), prog_name="driftless-hdl")
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_generator_commands_stand_at_the_top(capsys):
    code, output, _ = run(capsys, "--help")
    assert code == 0
    assert set(main.commands) == {*generator.commands, "sim", "fpga", "golden"}
    assert all(name in output for name in main.commands)


@pytest.mark.parametrize("package, command", [("golden", "capture"), ("sim", "run"), ("fpga", "build")])
def test_other_packages_are_groups(capsys, package, command):
    code, output, _ = run(capsys, package, "--help")
    assert code == 0
    assert command in output


def test_version_is_that_of_the_project(capsys):
    assert run(capsys, "--version")[:2] == (0, "driftless-hdl 0.2.0\n")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["simm"], "Command must be one of the known names, not 'simm'; did you mean sim?"),
        (
            ["golden", "capure"],
            "Command must be one of the known names, not 'capure'; did you mean capture or compare or sample?",
        ),
        (["explain", "--preset", "tinny"], "Preset must be one of the known names, not 'tinny'; did you mean tiny?"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(capsys, arguments, sentence):
    assert run(capsys, *arguments) == (2, "", f"Error: {sentence}\n")


def test_simulator_and_plots_are_not_loaded_for_help():
    script = (
        "import sys\n"
        "from sim.driftless import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'cocotb', 'matplotlib', 'sim.bench', 'fpga.__main__'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
