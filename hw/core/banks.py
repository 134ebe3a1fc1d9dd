"""The banks of delta groups: one for each row of the array, all read at one address."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import data, stream
from amaranth.lib.wiring import In

from golden.parameters import Parameters
from hw import payloads
from hw.memory import BufferRead, DoubleBuffer, buffer_writes
from hw.part import Part
from hw.tiles import Tile


class Bank(Tile):
    """The groups of a row: a `DoubleBuffer` that is read by ports of its own.

    Latency: 2 clocks from address to group. Throughput: one write and one read per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses what shapes a delta group, and ``group_buffer``.

    Members
    -------
    write_enable, write_half, write_address, write_data : In
        Group to keep at this clock edge.
    read_enable, read_half, read_address, read_data
        As the members of `BufferRead`.
    """

    def __init__(self, parameters: Parameters):
        kept = payloads.delta_group(parameters), parameters.group_buffer
        reads = BufferRead(*kept).flip().members
        super().__init__(parameters, buffer_writes(*kept) | {f"read_{name}": member for name, member in reads.items()})

    def describe(self, platform: object) -> Module:  # noqa: D102
        p, m = self._parameters, Module()
        m.submodules.groups = groups = DoubleBuffer(payloads.delta_group(p), p.group_buffer)
        asked = ("enable", "half", "address")
        m.d.comb += [
            *(getattr(groups, f"write_{name}").eq(getattr(self, f"write_{name}")) for name in (*asked, "data")),
            *(getattr(groups.read, name).eq(getattr(self, f"read_{name}")) for name in asked),
            self.read_data.eq(groups.read.data),
        ]
        return m


class Banks(Part):
    """A `Bank` for each row of the array.

    Latency: 2 clocks from address to groups. Throughput: one write into one row and one read of all rows per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses what shapes a delta group, ``rows`` and ``group_buffer``.

    Members
    -------
    write : In(stream of `payloads.bank_write`)
        Groups to keep; always ready. A row past the last one is written nowhere.
    read : In(BufferRead)
        Who reads: a group of each row.
    """

    latency = DoubleBuffer.latency

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = data.ArrayLayout(payloads.delta_group(parameters), parameters.rows)
        return {
            "write": In(stream.Signature(payloads.bank_write(parameters))),
            "read": In(BufferRead(groups, parameters.group_buffer)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, write = self._parameters, Module(), self.write.p
        m.d.comb += self.write.ready.eq(1)
        groups = []
        for row in range(p.rows):
            m.submodules[f"row{row}"] = bank = Bank(p)
            bank.give(
                write_enable=self.write.valid & (write.row == row),
                write_half=write.half,
                write_address=write.address,
                write_data=write.group,
                read_enable=self.read.enable,
                read_half=self.read.half,
                read_address=self.read.address,
            )
            groups.append(bank.read_data)
        m.d.comb += self.read.data.eq(Cat(*groups))
        return m
