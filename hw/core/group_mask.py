"""The sign mask between a spool and the banks: groups pass where the old output was not negative."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named
from hw.part import Part
from hw.stream import Pipelined, Stage
from hw.units.delta_compressor import PASSES_WIDTH
from hw.units.sign_mask import mask_group


class GroupMask(Pipelined, Part):
    """Masks groups by the mask of their vector (``docs/numerics.md``, section 9).

    ::

        masks --> held --+
                         v
        i ----------> masked --> o

    A mask holds for all groups of a vector. `enable` and `groups` stay as they are from the first group of an operation
    to its last, and `groups` for whole vectors.

    Latency: ``latency`` clocks. Throughput: one group per clock.

    Numerics: exact.

    Parameters
    ----------
    parameters : Parameters
        What shapes a group.

    Members
    -------
    i : In(stream of `payloads.stream_group`)
        Groups.
    masks : In(stream of n bits)
        A mask for each vector, lane 0 lowest.
    enable : In(1)
        Groups are masked; 0: they pass as they are, and no mask is taken.
    groups : In(3)
        Groups of a vector, minus 1.
    o : Out(stream of `payloads.stream_group`)
        Masked groups.
    """

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        flow = stream.Signature(payloads.stream_group(parameters))
        return {
            "i": In(flow),
            "masks": In(stream.Signature(parameters.lanes)),
            "enable": In(1),
            "groups": In(PASSES_WIDTH),
            "o": Out(flow),
        }

    def _describe(self, m: Module, platform: object) -> int:
        p, group = self._parameters, self.i.p.group
        held, before = Signal(p.lanes), Signal(PASSES_WIDTH)
        begins = named(m, "begins", self.enable & (before == 0))
        both = stream.Signature(0).create(path=("both",))
        m.d.comb += [
            both.valid.eq(self.i.valid & (~begins | self.masks.valid)),
            self.i.ready.eq(both.ready & (~begins | self.masks.valid)),
            self.masks.ready.eq(both.ready & self.i.valid & begins),
        ]
        s = Stage.begin(m, both)
        s.last = self.i.p.last
        mask = named(m, "mask", Mux(begins, self.masks.payload, held) | (~self.enable).replicate(p.lanes))
        with m.If(s.moves):
            m.d.sync += [held.eq(mask), before.eq(Mux(before == self.groups, 0, before + 1))]
        s, masked = mask_group(s, p, group, mask)
        result = Signal(payloads.stream_group(p), name="result")
        m.d.comb += [result.last.eq(s.last), result.group.as_value().eq(masked)]
        return s.finish(self.o, result, depth=p.pipeline_depth)
