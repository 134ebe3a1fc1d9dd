"""Every recorded figure of README and docs stands there as its command printed it."""

import re
import shlex

import pytest

from docs.figures import record
from golden.diffusion.differential.sweep import variants
from tests.programs import PROGRAMS

pytestmark = pytest.mark.golden

PAGES = sorted({*record.PAGES, *(path for path, *_ in record.SENTENCES)})


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_the_figures_that_are_recorded(path):
    """After a new recording: ``python docs/figures/record.py pages``."""
    text = (record.ROOT / path).read_text(encoding="utf-8")
    assert record.page(path, text) == text


def test_another_figure_in_a_page_is_seen():
    text = (record.ROOT / "README.md").read_text(encoding="utf-8")
    block = text.index("<!-- figures: summary -->")
    figure = re.search(r"\d+\.\d dB", text[block:])
    place = block + figure.start()
    assert record.page("README.md", text[:place] + "9" + text[place:]) == text
    assert record.page("README.md", re.sub(r"in [\d.]+ % of 200", "in 12.3 % of 200", text)) == text
    with pytest.raises(ValueError, match=r"^Page must have figures summary once, not 0 times in README\.md$"):
        record.page("README.md", text.replace("<!-- figures: summary -->", ""))


RECORDED = record.COMMANDS | {name: record.EVERY[name] for name in record.Recording.found(record.EVERY)}


@pytest.mark.parametrize("name", RECORDED)
def test_recordings_are_of_commands_that_there_are(name):
    found = record.Recording.load(name)
    assert found.command == RECORDED[name][0] and re.fullmatch(r"[0-9a-f]{7,}\+?", found.commit)
    _, _, program, command, *arguments = shlex.split(found.command)
    assert PROGRAMS[program].commands[command].make_context(command, arguments).params["as_json"]


def test_blocks_of_pages_are_all_known():
    for path in record.ROOT.glob("**/*.md"):
        if ".venv" in path.parts:
            continue
        for name in re.findall(r"<!-- figures: ([\w-]+) -->", path.read_text(encoding="utf-8")):
            assert name in record.PAGES[str(path.relative_to(record.ROOT))]
    assert {name for names in record.PAGES.values() for name in names} == set(record.TABLES)


def test_what_differs_from_run_to_run_is_left_out():
    output = [{"psnr_mean": 50.0, "seconds": 3.2, "steps": [{"drift": [1], "step": 1}]}]
    assert record.steady(output) == [{"psnr_mean": 50.0, "steps": [{"step": 1}]}]


def test_unknown_figures_are_one_sentence(capsys):
    assert record.main(["fidelity"]) == 2
    assert capsys.readouterr().err.startswith("Error: Figures must be all, pages or of stream, ")


def test_every_sweep_has_every_variant():
    rows = [record.sweep_rows(name) for name in RECORDED if name in record.SWEEPS]
    assert rows and all(found.keys() >= variants().keys() for found in rows)  # and of some that are deleted
    assert {path.stem for path in record.FOLDER.glob("*.json")} == RECORDED.keys()
