import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from golden.common import start

pytestmark = pytest.mark.golden

ROOT = Path(__file__).parents[3]
START = "import os, signal\nfrom golden.common import start\nstart.begin()\n"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)\n"


def ran(program):
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_an_interrupt_at_the_start_ends_the_program_without_a_word():
    result = ran(START + INTERRUPT)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_a_command_takes_interrupts_itself():
    command = "@console.group('x')\ndef main(traceback): pass\n@main.command()\ndef run():\n    "
    result = ran(START + "from golden.common import console\n" + command + INTERRUPT + "main(['run'])")
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, "", "Aborted.")


def test_an_ignored_interrupt_stays_ignored():
    result = ran("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + START + INTERRUPT)
    assert result.returncode == 0


def test_handlers_of_others_stay(monkeypatch):
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGINT)
        start.begin()
        start.take_interrupts()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("package", ["golden", "rtl_gen", "sim", "fpga"])
def test_every_command_begins_quietly(package):
    program = ast.parse((ROOT / package / "__main__.py").read_text())
    first, second = program.body[1:3]  # behind the docstring
    assert ast.unparse(first) == "from golden.common import start"
    assert ast.unparse(second) == "if __name__ == '__main__':\n    start.begin()"
    # nothing heavy comes with the package itself
    loaded = ran(
        f"import sys, {package}, golden.common.start\nprint({{'numpy', 'click', 'amaranth'}} & {{*sys.modules}})"
    )
    assert loaded.stdout.strip() == "set()"


def test_the_script_begins_quietly():
    fake = "import sys, types\nfake = types.ModuleType('sim.driftless')\n"
    fake += "def main():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGINT)\n"
    result = ran(fake + "fake.main = main\nsys.modules['sim.driftless'] = fake\nfrom sim.script import main\nmain()")
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    "module, extra, arguments",
    [
        ("cocotb_tools", "sim", ["-m", "sim", "--help"]),
        ("cocotb_tools", "sim", ["-m", "sim.driftless", "sim", "--help"]),
        ("matplotlib", "plot", ["-m", "golden", "sample", "--labels", "1", "--steps", "2", "--plot", "a.png"]),
    ],
)
def test_a_missing_extra_is_one_sentence(tmp_path, module, extra, arguments):
    # None in sys.modules is how Python itself says that there is no such module
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    if arguments[1] == "sim.driftless":
        arguments = [
            "-c",
            "import sys\nfrom sim.script import main\nsys.argv = ['driftless-hdl', 'sim', '--help']\nmain()",
        ]
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    message = f"Error: The Python package {module} is missing; install it with: pip install 'driftless-hdl[{extra}]'\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


def test_other_errors_keep_their_traceback():
    result = ran("from golden.common import start\nstart.begin()\nimport nothing_of_this_name")
    assert result.returncode == 1 and "ModuleNotFoundError" in result.stderr
