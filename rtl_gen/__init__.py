"""The generator: components to Verilog that is proven equal to them, checked, and packed with what a project needs.

``python -m rtl_gen --help`` is the way in; ``docs/generator.md`` explains how it works.
"""

from golden import driftless_version as __version__

__all__ = ["__version__"]
