"""What the parts of the machine have in common."""

from typing import Any

from amaranth.lib import wiring

from golden.parameters import Parameters


class Part(wiring.Component):
    """A part of the machine: a component that is made from `Parameters` alone.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Raises
    ------
    TypeError
        If `parameters` is no `Parameters`.
    """

    def __init__(self, parameters: Parameters):
        if not isinstance(parameters, Parameters):
            raise TypeError(f"parameters must be Parameters, not {parameters!r}")
        self._parameters = parameters
        super().__init__(self._members(parameters))

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        """The part's ports: members of its signature by name."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")
