"""Ranges as command lines give them."""

import re


def half_open(what: str, text: str) -> range:
    """A range ``A:B`` of integers from 0, B not in it.

    Raises
    ------
    ValueError
        If `text` is none, or it is empty; the sentence names `what`.
    """
    match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError(f"{what} must be a half-open range A:B, not {text!r}")
    return range(int(match[1]), int(match[2]))
