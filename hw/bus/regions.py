"""The table of regions: where each lies in memory, and how much of it there is."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.ports import REGION_WIDTH
from hw.bus.span_check import UNITS_WIDTH, Lookup
from hw.memory import RegisterFile


class RegionTable(wiring.Component):
    """Bases and limits of regions in a small memory, written by a host. No reset changes it.

    Latency: none to read, 1 clock to write.

    Members
    -------
    write_enable : In(1), address : In(4), write_data : In(32)
        What the host writes: the base of region r has the address 2 r, its limit 2 r + 1; both are 0 at first.
    read_data : Out(32)
        What stands at `address`.
    lookup : In(Lookup)
        Both of a region.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "write_enable": In(1),
                "address": In(REGION_WIDTH + 1),
                "write_data": In(UNITS_WIDTH),
                "read_data": Out(UNITS_WIDTH),
                "lookup": In(Lookup()),
            }
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        found = {}
        for number, name in enumerate(("base", "limit")):
            m.submodules[name] = rows = RegisterFile(UNITS_WIDTH, 1 << REGION_WIDTH, reads=2)
            m.d.comb += [
                rows.write_enable.eq(self.write_enable & (self.address[0] == number)),
                rows.write_address.eq(self.address[1:]),
                rows.write_data.eq(self.write_data),
                rows.read_addresses[0].eq(self.address[1:]),
                rows.read_addresses[1].eq(self.lookup.region),
                getattr(self.lookup, name).eq(rows.read_data[1]),
            ]
            found[name] = rows.read_data[0]
        m.d.comb += self.read_data.eq(Mux(self.address[0], found["limit"], found["base"]))
        return m
