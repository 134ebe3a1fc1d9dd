import ast
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from golden.common import start

pytestmark = pytest.mark.golden

ROOT = Path(__file__).parents[3]
START = "import os, signal\nfrom golden.common import start\nstart.begin()\n"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)\n"


def ran(program):
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)


def with_site(folder, site, arguments, **environment):
    """A run of Python in a folder, which begins with a module of ours."""
    (folder / "sitecustomize.py").write_text(site)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_interrupt_at_the_start_ends_the_program_with_one_word():
    result = ran(START + INTERRUPT)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Aborted.\n")


INTERRUPTED = """
import importlib.abc, os, signal, sys
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
"""Interrupts the process when it imports a module."""

SCRIPT = ["-c", "import sys; sys.argv = ['/bin/driftless-hdl', 'list']; from sim.script import main; main()"]


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        *((["-m", package, "--help"], "golden.common.rooms") for package in start.COMMANDS),
        (["-mgolden"], "golden.common.rooms"),
        (["-m", "golden", "--help"], "numpy"),
        (["-m", "fpga", "list"], "click"),
        (SCRIPT, "golden.common.rooms"),
        (SCRIPT, "click"),
    ],
)
def test_an_interrupt_during_the_imports_ends_a_command_with_one_word(tmp_path, arguments, module):
    result = with_site(tmp_path, INTERRUPTED, arguments, INTERRUPTED=module)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Aborted.\n")


def test_who_only_imports_keeps_its_interrupts(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("import golden\n")
    (tmp_path / "mine/__main__.py").write_text("print('never')\n")
    for arguments in (["-m", "mine", "golden"], ["-c", "import golden", "golden"]):
        result = with_site(tmp_path, INTERRUPTED, arguments, INTERRUPTED="golden.common.rooms")
        assert result.stdout == "" and "\nKeyboardInterrupt" in result.stderr


def test_the_script_is_the_one_that_pip_installs():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert [*scripts] == [start.SCRIPT]
    assert sorted(start.COMMANDS) == sorted(path.parent.name for path in ROOT.glob("*/__main__.py"))


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
    assert (result.returncode, result.stderr) == (130, "Aborted.\n")


@pytest.mark.parametrize(
    "module, extra, arguments",
    [
        ("cocotb_tools", "sim", ["-m", "sim", "--help"]),
        ("cocotb_tools", "sim", ["-m", "sim.driftless", "sim", "--help"]),
        ("matplotlib", "plot", ["-m", "golden", "sample", "--labels", "1", "--steps", "2", "--plot", "a.png"]),
    ],
)
def test_a_missing_extra_is_one_sentence(tmp_path, module, extra, arguments):
    if arguments[1] == "sim.driftless":
        arguments = [
            "-c",
            "import sys\nfrom sim.script import main\nsys.argv = ['driftless-hdl', 'sim', '--help']\nmain()",
        ]
    # None in sys.modules is how Python itself says that there is no such module
    result = with_site(tmp_path, f"import sys\nsys.modules[{module!r}] = None\n", arguments)
    message = f"Error: The Python package {module} is missing; install it with: pip install 'driftless-hdl[{extra}]'\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


def test_other_errors_keep_their_traceback():
    result = ran("from golden.common import start\nstart.begin()\nimport nothing_of_this_name")
    assert result.returncode == 1 and "ModuleNotFoundError" in result.stderr
