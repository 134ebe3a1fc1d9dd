"""What of the machine can be built as a design of its own: the units, and what joins them."""

from amaranth.lib import wiring

from hw.accelerator import Accelerator
from hw.core.core import Core
from hw.near_memory.closed_loop.near_memory import NearMemory
from hw.units import UNITS

TOPS: dict[str, type[wiring.Component]] = {top.name: top for top in (Accelerator, Core, NearMemory)}
"""The accelerator and its halves, by name; of machines with a closed loop."""

COMPONENTS: dict[str, type[wiring.Component]] = {**UNITS, **TOPS}
"""All that is made from `Parameters` alone, and has a name and a summary."""
