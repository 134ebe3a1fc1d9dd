"""The banks of delta groups: one for each row of the array, all read at one address."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from golden.parameters import Parameters
from hw import payloads
from hw.memory import BufferRead, DoubleBuffer

__all__ = ["Banks"]


class Banks(wiring.Component):
    """A `DoubleBuffer` of delta groups for each row of the array.

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

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        groups = data.ArrayLayout(payloads.delta_group(parameters), parameters.rows)
        super().__init__(
            {
                "write": In(stream.Signature(payloads.bank_write(parameters))),
                "read": In(BufferRead(groups, parameters.group_buffer)),
            }
        )

    @property
    def parameters(self) -> Parameters:
        """The machine's parameters."""
        return self._parameters

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, write = self._parameters, Module(), self.write.p
        m.d.comb += self.write.ready.eq(1)
        for row in range(p.rows):
            m.submodules[f"row{row}"] = bank = DoubleBuffer(payloads.delta_group(p), p.group_buffer)
            m.d.comb += [
                bank.write_enable.eq(self.write.valid & (write.row == row)),
                bank.write_half.eq(write.half),
                bank.write_address.eq(write.address),
                bank.write_data.eq(write.group),
                bank.read.enable.eq(self.read.enable),
                bank.read.half.eq(self.read.half),
                bank.read.address.eq(self.read.address),
                self.read.data[row].eq(bank.read.data),
            ]
        return m
