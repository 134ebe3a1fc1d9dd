"""Simulation of the emitted Verilog: benches for every unit, mutants that they must catch, and runs of a real layer.

``python -m sim --help`` is the way in; ``docs/simulation.md`` explains how it works.
"""

from golden import driftless_version as __version__

__all__ = ["__version__"]
