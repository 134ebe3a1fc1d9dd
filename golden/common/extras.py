"""What is missing where a command needs more than the base package, and the line that installs it."""

from golden.common.rooms import DISTRIBUTION

_MODULES = {
    "amaranth_boards": "fpga",
    "cocotb": "sim",
    "cocotb_tools": "sim",
    "diffusers": "import",
    "matplotlib": "plot",
    "softfloatpy": "sim",
    "torch": "train",
}
"""Extra of every module that is imported where it is needed."""


def install(extra: str) -> str:
    """Line that installs an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def missing(error: ModuleNotFoundError) -> str | None:
    """Sentence for a module that could not be imported; None if no extra has it, so that it is a fault of ours."""
    module = (error.name or "").partition(".")[0]
    if module not in _MODULES:
        return None
    return f"The Python package {module} is missing; install it with: {install(_MODULES[module])}"
