"""Boards, open-tool flows and area reports: ``python -m fpga``."""

from golden import driftless_version as __version__

__all__ = ["__version__"]
