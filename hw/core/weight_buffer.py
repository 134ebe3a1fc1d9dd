"""The buffer of weight records."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.wiring import In, connect, flipped

from golden.parameters import Parameters
from hw import payloads
from hw.memory import BufferRead, DoubleBuffer
from hw.part import Part


class WeightBuffer(Part):
    """A `DoubleBuffer` of weight records: the weights of a group of an output channel, and their scale.

    Latency: 2 clocks from address to record. Throughput: one write and one read per clock.

    Parameters
    ----------
    parameters : Parameters
        Uses ``lanes``, ``fraction_bits`` and ``weight_buffer``.

    Members
    -------
    write : In(stream of `payloads.weight_write`)
        Records to keep; always ready.
    read : In(BufferRead)
        Who reads: a `payloads.weight_record`.
    """

    latency = DoubleBuffer.latency

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "write": In(stream.Signature(payloads.weight_write(parameters))),
            "read": In(BufferRead(payloads.weight_record(parameters), parameters.weight_buffer)),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, write = self._parameters, Module(), self.write.p
        m.d.comb += self.write.ready.eq(1)
        m.submodules.records = records = DoubleBuffer(payloads.weight_record(p), p.weight_buffer)
        m.d.comb += [
            records.write_enable.eq(self.write.valid),
            records.write_half.eq(write.half),
            records.write_address.eq(write.address),
            records.write_data.eq(write.record),
        ]
        connect(m, flipped(self.read), records.read)
        return m
