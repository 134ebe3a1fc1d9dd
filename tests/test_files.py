"""Files that cannot be read or written: one sentence from every option of every command, and nothing is written."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.programs import PROGRAMS

pytestmark = pytest.mark.golden

TEXTS = {"empty": b"", "junk": bytes(range(256)), "deep": b"[" * 100_000, "list": b"[1]", "text": b'"x"'}
"""Contents of files that hold nothing of use."""

INPUTS = ("--network", "--method", "--config", "--from", "--conditioning", "--read", "--areas")
"""Options that take a file, or a list in which files can stand."""

OUTPUTS = ("--plot", "--pareto", "--png", "--trace")
"""Options that take a file to write."""

ENDS = ("png", "json", "jsonl", "npz")
"""Their endings."""


def commands(group, words=()):
    """Every command below a group, with the words that call it."""
    for name, command in group.commands.items():
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def lines(options):
    """Program, words of the command and option, wherever a command has one of the options."""
    found = []
    for program, main in PROGRAMS.items():
        for words, command in commands(main):
            own = [option.opts[0] for option in command.params if isinstance(option, click.Option)]
            for option in sorted(set(own) & set(options)):
                found.append(pytest.param(program, words, option, id=" ".join((program, *words, option))))
    return found


def refused(program, *words):
    """Nothing is computed, printed or written; one sentence says why."""
    before = sorted(Path().rglob("*"))
    result = CliRunner().invoke(PROGRAMS[program], words)
    told = (result.exit_code, result.stdout, result.stderr.count("\n"), result.stderr[:7])
    assert told == (2, "", 1, "Error: "), (words, result.stderr)
    assert "Errno" not in result.stderr and sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("program, words, option", lines(INPUTS))
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, program, words, option):
    monkeypatch.chdir(tmp_path)
    for stem, text in TEXTS.items():
        Path(f"{stem}.json").write_bytes(text)
    Path("folder.json").mkdir()
    Path("loop.json").symlink_to("loop.json")
    for stem in (*TEXTS, "folder", "loop", "missing", "missing/one"):
        refused(program, *words, option, f"{stem}.json")


OUT = [pytest.param("golden", (name,), "--out", id=f"{name} --out") for name in ("sample", "sweep", "tune", "capture")]
"""Commands whose ``--out`` is a file; of others it is a folder."""


@pytest.mark.parametrize("program, words, option", [*lines(OUTPUTS), *OUT])
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, program, words, option):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder.png").mkdir()
    for value in ("folder.png", "a.txt", *(f"{where}/a.{end}" for where in ("missing", "file") for end in ENDS)):
        refused(program, *words, option, value)


def test_every_option_that_names_a_file_is_known():
    """A new option belongs into one of the lists above."""
    for program, main in PROGRAMS.items():
        for words, command in commands(main):
            for option in command.params:
                if isinstance(option.type, click.Path) and isinstance(option, click.Option):
                    assert option.opts[0] in {*INPUTS, *OUTPUTS, "--out"}, (program, *words, option.opts[0])
