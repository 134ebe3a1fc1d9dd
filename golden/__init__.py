"""Number formats, parameters, presets, the cost model and the bit-exact numpy model of every unit."""

import warnings

from golden.common import start

if start.runs_command():
    start.begin()  # before anything else is imported

from golden.common import rooms

__all__ = ["__version__", "driftless_version"]

for _sentence in rooms.foreign().values():
    warnings.warn(_sentence, stacklevel=2)

__version__ = driftless_version = rooms.VERSION
"""Version of Driftless. The other packages take it by its longer name, which no foreign `golden` has."""
