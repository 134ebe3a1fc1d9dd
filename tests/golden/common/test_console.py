"""Tables hold their numbers whole at every width, and lose nothing."""

import importlib
import json
import random
import re

import click
import pytest

from golden.common import console
from tests.tables import numbers, printed

WIDTHS = (80, 100, 120, 160)


@pytest.mark.parametrize("width", WIDTHS)
def test_random_tables(capsys, monkeypatch, fresh_seed, width):
    choose = random.Random(fresh_seed)
    for _ in range(20):
        heads = [f"{choose.choice(('bits', 'memory_read_bytes', 'of dense', 'x'))} {i}" for i in range(12)]
        kinds = [choose.choice(("word", "number", "mixed", "text")) for _ in heads]
        rows = [
            {"name": f"row{i}"} | {head: _value(choose, kind) for head, kind in zip(heads, kinds, strict=True)}
            for i in range(choose.randint(1, 6))
        ]
        text = printed(capsys, monkeypatch, rows, width, title="A title of 128 images that is wide " * 3)
        assert max(map(len, text.splitlines())) <= width, text
        assert numbers(rows) <= set(re.split(r"[\s│┃]+", text)), text


def _value(choose, kind):
    number = choose.choice((choose.randint(0, 10**7), choose.uniform(-1, 1) * 10 ** choose.randint(-6, 6), None))
    words = " ".join(choose.choice(("closed-int3", "12.28", "(16.35,", "9.27)", "groups", "0x17ed")) for _ in range(9))
    return {"word": "closed-int3", "number": number, "mixed": choose.choice((number, "yes")), "text": words}[kind]


def test_columns_that_do_not_fit_follow_below(capsys, monkeypatch):
    rows = [{"method": name, **{f"figure{i}": 1234567 + i for i in range(12)}} for name in ("dense", "paper")]
    text = printed(capsys, monkeypatch, rows, 80)
    assert text.count("dense") == 2 and "figure11" in text
    assert printed(capsys, monkeypatch, rows, 160).count("dense") == 1


def test_only_what_tells_rows_apart_stands_again(capsys, monkeypatch):
    rows = [{"tool": f"tool{i}", "purpose": "checks", "version": "1" * 50, "rest": "2" * 30} for i in range(3)]
    text = printed(capsys, monkeypatch, rows, 80)
    assert text.count("tool1") == 2 and text.count("checks") == 3


def test_long_paths_break_between_names_and_nothing_is_lost(capsys, monkeypatch):
    path = "build/" + "a_rather_long_folder/" * 6 + "file1234567.v"
    text = printed(capsys, monkeypatch, [{"unit": "u", "bits": 12, "file": path}], 80)
    pieces = [line.split("│")[3].strip() for line in text.splitlines() if "│" in line]
    assert "".join(pieces) == path and all(piece.endswith(("/", "_", ".v")) for piece in pieces)
    single = printed(capsys, monkeypatch, [{"word": "x" * 200}], 80)
    assert single.count("x") == 200 and max(map(len, single.splitlines())) <= 80


def test_json_is_the_rows(capsys):
    rows = [{"a": 1.23456789, "b": None}]
    console.show(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.123456, "0.1235"), (12345.6, "12346"), (True, "True"), (7, "7"), ("", "")]
)
def test_cells(capsys, monkeypatch, value, text):
    assert printed(capsys, monkeypatch, [{"a": "k", "b": value}], 80).splitlines()[3].split("│")[2].strip() == text


def options_of(command, path=()):
    """Every option of a command and of those below it, by the words that lead there."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options_of(below, (*path, name))
    for option in command.params:
        yield (*path, *option.opts), command, option


@pytest.mark.parametrize("package", ["golden", "rtl_gen", "sim", "fpga"])
def test_no_number_of_a_command_is_infinite_or_none(package):
    found = [one for one in options_of(importlib.import_module(f"{package}.__main__").main)]
    numbers = [one for one in found if isinstance(one[2].type, click.types.FloatParamType)]
    assert numbers
    for path, command, option in numbers:
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(click.BadParameter):
                option.process_value(click.Context(command), text)
                raise AssertionError(" ".join(path))
