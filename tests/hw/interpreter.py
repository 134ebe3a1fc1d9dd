"""The interpreter on a memory that a test made."""

from golden.machine.accelerator import Accelerator


def interpreter(p, memory, regions):
    """An interpreter with a copy of `memory`, and with these regions: 8, or the first ones."""
    golden = Accelerator(p, memory.size)
    golden.memory[:] = memory
    golden.regions[: len(regions)] = regions
    return golden
