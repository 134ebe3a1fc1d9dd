"""What the parts of the near-memory engine have in common."""

from typing import Any

from amaranth.lib import wiring

from golden.parameters import Parameters


class Part(wiring.Component):
    """A part of the near-memory engine.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        super().__init__(self._members(parameters))

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        """The part's ports: members of its signature by name."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")
