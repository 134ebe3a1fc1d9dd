"""What every unit of the machine has in common."""

from amaranth.hdl import Module, Value

from hw.part import Part
from hw.stream import Pipelined


class Unit(Part):
    """A unit of the machine: a part with a name.

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
    """

    name: str
    summary: str

    def _stick(self, m: Module, **events: Value) -> None:
        """Raise each sticky status output while its event holds; `clear` lowers it unless the event holds as well."""
        for name, event in events.items():
            status = getattr(self, name)
            m.d.sync += status.eq((status & ~self.clear) | event)

    @property
    def latency(self) -> int:
        """Clocks from an accepted input to the output it causes, without back-pressure."""
        raise NotImplementedError(f"{type(self).__name__} must define latency")

    @property
    def throughput(self) -> str:
        """Payloads per clock, in words."""
        raise NotImplementedError(f"{type(self).__name__} must define throughput")


class PipelinedUnit(Pipelined, Unit):
    """A unit that is nothing but pipelines."""
