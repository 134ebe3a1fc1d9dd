"""What every unit of the machine has in common."""

from amaranth.hdl import Module, Value
from amaranth.lib import wiring

from golden.parameters import Parameters
from hw.stream import Pipelined


class Unit(wiring.Component):
    """A unit of the machine: a component with a name, made from `Parameters`.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Attributes
    ----------
    name : str
        Class attribute: name of the unit on every floor of the code and of its emitted module.
    summary : str
        Class attribute: what it does, one line.
    latency : int
        Clocks from an accepted input to the output it causes, without back-pressure.
    throughput : str
        Payloads per clock in words, for example ``"one group per clock"``.

    Raises
    ------
    TypeError
        If `parameters` is no `Parameters`.
    """

    name: str
    summary: str

    def __init__(self, parameters: Parameters):
        if not isinstance(parameters, Parameters):
            raise TypeError(f"parameters must be Parameters, not {parameters!r}")
        self._parameters = parameters
        super().__init__(self._members(parameters))

    def _members(self, parameters: Parameters) -> dict:
        """The unit's ports: members of its signature by name."""
        raise NotImplementedError(f"{type(self).__name__} must define _members")

    def _stick(self, m: Module, **events: Value) -> None:
        """Raise each sticky status output while its event holds; `clear` lowers it unless the event holds as well."""
        for name, event in events.items():
            status = getattr(self, name)
            m.d.sync += status.eq((status & ~self.clear) | event)

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    @property
    def latency(self) -> int:
        """Clocks from an accepted input to the output it causes, without back-pressure."""
        raise NotImplementedError(f"{type(self).__name__} must define latency")

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        raise NotImplementedError(f"{type(self).__name__} must define throughput")


class PipelinedUnit(Pipelined, Unit):
    """A unit that is nothing but pipelines.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    """
