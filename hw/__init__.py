"""The machine as Amaranth components; `hw.arith` and `hw.stream` are usable alone."""

from golden import driftless_version as __version__

__all__ = ["__version__"]
