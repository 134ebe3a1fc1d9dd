"""The code of pages runs and prints what the page says below it; pages are readable as text; links lead somewhere."""

import collections
import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
OURS = "https://github.com/driftless-hw/driftless/tree/main/"

pytestmark = pytest.mark.golden


@pytest.mark.parametrize(
    ("page", "count"),
    [("tutorial", 4), ("your-design", 1), ("add-a-unit", 4), ("choose", 1), ("drive", 3), ("verified", 1)],
)
def test_each_block_prints_what_follows_it(page, count):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == count
    names = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == expected


def prose(text):
    """(number, line) of what is neither code nor a table, nor written by a command as a figure."""
    fence = figures = False
    for number, line in enumerate(text.splitlines(), 1):
        mark = line.lstrip().startswith("```")
        fence ^= mark
        figures = "<!-- figures: " in line or (figures and "<!-- end of figures" not in line)
        if not (fence or mark or figures or line.startswith("|")):
            yield number, line


def test_the_readme_is_a_page_long():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120 and [line for line in lines if len(line) > 100] == []


def long_lines(text):
    return [number for number, line in prose(text) if len(line) > 100]


def long_paragraphs(text):
    """First line of each paragraph of more than six lines; an item of a list is a paragraph."""
    found, length, before = [], 0, 0
    for number, line in [*prose(text), (0, "")]:
        goes_on = number == before + 1 and line.strip() and not re.match(r"\s*([*-]|\d+\.) |#", line)
        if not goes_on and length > 6:
            found.append(before - length + 1)
        length = length + 1 if goes_on else bool(line.strip()) and not line.startswith("#")
        before = number
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_and_paragraphs_are_short(page):
    """The law's pages have a sentence a line, and rules as long as they are; what is missing is a list of its own."""
    text = page.read_text(encoding="utf-8")
    if page.stem == "remaining":
        return
    assert long_lines(text) == []
    if page.stem not in ("numerics", "closed-loop", "open-loop"):
        assert long_paragraphs(text) == []


def test_long_lines_and_paragraphs_are_found():
    text = "# A\n" + "x\n" * 7 + "\n```\n" + "y" * 101 + "\n```\n|" + "z" * 101 + "\n* " + "w" * 99 + "\n"
    assert long_lines(text) == [14] and long_paragraphs(text) == [2]


def anchors(path):
    """Names of the headings of a page, as the site and GitHub give them."""
    found = []
    for _, line in prose(path.read_text(encoding="utf-8")):
        if head := re.match(r"#+ (.*)", line):
            bare = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head[1]).lower())
            found.append(bare.strip().replace(" ", "-"))
    return found


def broken(page, text):
    """Links that lead nowhere. Addresses outside are only looked at for their form: tests need no network."""
    bare = "\n".join(line for _, line in prose(text)) + "\n".join(re.findall(r"^\|.*", text, re.M))
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", bare)):
        if target.startswith(OURS):
            if not (ROOT / target.removeprefix(OURS)).exists():
                yield target
        elif re.match(r"[a-z]+:", target):
            if not re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[^\s]*)?", target):
                yield target
        else:
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_broken_links_are_found():
    links = ["missing.md", "machine.md#nowhere", "http://plain.org", OURS + "nothing", "machine.md#registers"]
    text = " ".join(f"[a]({link})" for link in links)
    assert list(broken(DOCS / "drive.md", text)) == links[:4]


NAMES = """AVX AVX2 BLAS BSD C99 CAPI CCU2C CIFAR CITATION CPU CVPR DRFT F16 F32 F64 FP32 FP8 FPGA GB HDL IEEE ISCA JSON
LED LUT4 MB PMOD README RTLIL SHA SMT SSE TB ULX3S UTF VHDL""".split()
"""Short words in capitals that are names, or that any reader of such pages knows."""


def test_short_words_are_in_the_glossary():
    """All of two and more letters that stand in two pages or more, and the terms that are used without a word."""
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    used = collections.Counter()
    for page in PAGES:
        text = " ".join(line for _, line in prose(page.read_text(encoding="utf-8")))
        used.update(set(re.findall(r"\b[A-Z][A-Z0-9]{1,7}\b", re.sub(r"`[^`]*`|\]\([^)]*\)", "", text))))
    words = {word for word, pages in used.items() if pages > 1 and not re.fullmatch(r"Y\d|XL|LFE5U", word)}
    terms = ["joint form", "exponent policy", "floor", "accumulator window", "calibration", "profile", "SFU", "spool"]
    assert [word for word in [*sorted(words - set(NAMES)), *terms] if not re.search(rf"\b{word}\b", glossary)] == []
