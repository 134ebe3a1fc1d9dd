"""Looking names up: an unknown one is refused with the closest ones."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

_T = TypeVar("_T")
