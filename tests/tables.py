"""What tests of tables share: rows printed at a width, and the numbers that must stand in them whole."""

import re

from golden.common import console


def printed(capsys, monkeypatch, rows, width, **how):
    """Text of a table at a width."""
    monkeypatch.setenv("COLUMNS", str(width))
    capsys.readouterr()
    console.show(rows, **how)
    return capsys.readouterr().out


def numbers(rows):
    """Words with a digit in any cell, as `console.show` writes them; long names, which may break, are left out."""
    found = set()
    for row in rows:
        for value in row.values():
            text = f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else None
            text = text or (f"{value:.0f}" if isinstance(value, float) else str(value))
            found |= {word for word in text.split() if re.search(r"\d", word) and len(word) <= 30}
    return found
