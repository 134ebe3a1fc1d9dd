"""Looking names up: an unknown one is refused with the closest ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

_T = TypeVar("_T")


def unknown(what: str, name: str, names: Iterable[str]) -> str:
    """Sentence for a name that is not one of `names`, with the closest ones first."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
    return f"{what} must be one of the known names, not {name!r}; {hint}"


def lookup(what: str, name: str, table: Mapping[str, _T]) -> _T:
    """``table[name]``.

    Raises
    ------
    ValueError
        If there is no such name; the sentence suggests the closest.
    """
    if name not in table:
        raise ValueError(unknown(what, name, table))
    return table[name]
