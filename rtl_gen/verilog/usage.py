"""Which parameters a unit uses: a copy of them that remembers what was asked of it."""

import dataclasses
from typing import Any, ClassVar

from golden.parameters import Parameters


def recorded(parameters: Parameters) -> Parameters:
    """Return equal parameters whose attribute `used` is the set of those fields that anything has read of them."""
    names = frozenset(field.name for field in dataclasses.fields(parameters))

    class Recorded(Parameters, noun="a configuration", schema=1):
        used: ClassVar[set[str]] = set()

        def __getattribute__(self, name: str) -> Any:
            if name in names:
                Recorded.used.add(name)
            return super().__getattribute__(name)

    result = object.__new__(Recorded)
    result.__dict__.update(parameters.__dict__)
    return result
