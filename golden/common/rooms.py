"""The five packages that Driftless installs, its version, and who answers in their place.

Their names are short, and other projects install some of them, too. Python takes the first that it finds.
"""

from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "driftless-hdl"
"""Name under which pip knows Driftless; `driftless` alone is another project's."""

VERSION = "0.2.0"
"""Version of Driftless; pyproject.toml reads it here."""

ROOMS = ("fpga", "golden", "hw", "rtl_gen", "sim")
"""Packages at the top, in the alphabet's order."""

_HOME = Path(__file__).resolve().parents[2]


def foreign() -> dict[str, str]:
    """Look who answers to the packages' names, without importing any.

    Returns
    -------
    dict
        By name of a package that is not ours: one sentence that says what Python finds instead.
    """
    found = {}
    for name in ROOMS:
        spec = find_spec(name)
        where = Path(spec.origin) if spec and spec.origin else None
        if where is None or where.resolve().parent != _HOME / name:
            instead = f"finds {where}" if where else "finds no package of that name"
            found[name] = (
                f"Package {name} must be that of {DISTRIBUTION} in {_HOME}, but Python {instead}; "
                f"give {DISTRIBUTION} an environment of its own"
            )
    return found
