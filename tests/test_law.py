"""The law's three pages: numbered through, a sentence a line, and rules that others name are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"numerics": [*range(1, 12), 15], "closed-loop": [12], "open-loop": [13, 14]}

pytestmark = pytest.mark.golden


def rules(text):
    """Sections of a page, each with the numbers of its rules."""
    found = {}
    for line in text.splitlines():
        if head := re.match(r"## (\d+)\. ", line):
            found[int(head[1])] = []
        elif rule := re.match(r"(\d+)\. ", line):
            found[max(found)].append(int(rule[1]))
    return found


TEXTS = {page: (ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in PAGES}
RULES = {section: numbers for text in TEXTS.values() for section, numbers in rules(text).items()}


def test_sections_and_rules_are_numbered_through():
    assert {page: sorted(rules(text)) for page, text in TEXTS.items()} == PAGES
    for numbers in RULES.values():
        assert numbers == list(range(1, len(numbers) + 1))


def sentences_behind_others(text):
    """Lines on which a second sentence begins, tables and code aside; `**Poison.**` and the like are no sentence."""
    for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines():
        bare = re.sub(r"\*\*[^*]*\.\*\* |^\s*\d+\. |`[^`]*`", "x", line)
        if not line.startswith(("|", "#")) and re.search(r"[.?!]\)? \S", bare):
            yield line


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_has_its_own_line(page):
    assert list(sentences_behind_others(TEXTS[page])) == []
    assert list(sentences_behind_others("1. **Sum.** It is `0. 5`.\n   So. Not\n| a. b |\n")) == ["   So. Not"]


def references():
    """(file, page or None, section, rule or None) of every mention of the law in code and pages."""
    law = r"(?:docs/)?(numerics|closed-loop|open-loop)(?:\.md)?[`)\]]*,? \(?(?:sections? |rules? )?"
    for folder in ("docs", "fpga", "golden", "hw", "rtl_gen", "sim", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".py", ".md", ".cpp", ".h", ".sv"):
                continue
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
            for found in re.finditer(law + r"(\d+(?:\.\d+)?(?:(?:, | to | and |, and )\d+(?:\.\d+)?)*)", text):
                whole = "docs/" in found[0] or ".md" in found[0]
                for number in re.findall(r"\d+(?:\.\d+)?", found[2]):
                    section, _, rule = number.partition(".")
                    yield path.relative_to(ROOT), whole and found[1], int(section), int(rule) if rule else None


def test_rules_that_are_named_are_there():
    named = list(references())
    assert len(named) > 80
    for path, page, section, rule in named:
        assert section in RULES and (rule is None or rule in RULES[section]), (path, section, rule)
        assert not page or section in PAGES[page], (path, page, section)
