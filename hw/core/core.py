"""The core: buffers of groups and weights, what fills them, and the array that multiplies what they hold."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.control.cluster import Cluster
from hw.control.engine import Engine
from hw.core.banks import Banks
from hw.core.load_engine import LoadEngine
from hw.core.multiply_engine import work_counts
from hw.core.multiply_path import MultiplyPath
from hw.core.processing_element import held_sum
from hw.core.sum_buffer import sums_at_once
from hw.core.weight_buffer import WeightBuffer

_VECTOR = 1 << 16
"""Bits of a vector that Verilog promises; Amaranth writes none that is wider."""


class Core(Cluster):
    """Load and multiply engine, with the buffers between them.

    ::

                       up
                        v
        memory -> load engine -> banks, weight buffer -> multiply engine -> down, down_groups

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    up : In(stream of `payloads.stream_group`)
        Groups from the link; `last` ends a line.
    down : Out(stream of `payloads.joint_part`)
        Vectors for the near-memory engine.
    down_groups : Out(stream of `payloads.chain_group`)
        Groups for it, with the dataflow sign_mask.
    counts : Out(stream of `work_counts`)
        What each `Multiply` has done.

    Raises
    ------
    TypeError, ValueError
        As for `Cluster`; and if the groups of all rows, or their sums, are wider than a vector of Verilog may be.
    """

    name = "core"
    summary = "groups times weights: buffers, the array, the way down"

    def _make(self, parameters: Parameters) -> list[Engine]:
        sums = sums_at_once(parameters) * held_sum(parameters).size
        for what, bits in (("groups", payloads.delta_group(parameters).size), ("sums read together", sums)):
            if parameters.rows * bits > _VECTOR:
                raise ValueError(
                    f"rows must be at most {_VECTOR // bits} with {what} of {bits} bits, not {parameters.rows}"
                )
        return [LoadEngine(parameters), MultiplyPath(parameters)]

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = {"down_groups": Out(stream.Signature(payloads.chain_group(parameters)))}
        return {
            "up": In(stream.Signature(payloads.stream_group(parameters))),
            "down": Out(stream.Signature(payloads.joint_part(parameters))),
            "counts": Out(stream.Signature(work_counts(parameters))),
            **(groups if parameters.masks else {}),
        }

    def _connect(self, m: Module) -> None:
        load, multiply = self._engines
        m.submodules.banks = banks = Banks(self.parameters)
        m.submodules.weight_buffer = records = WeightBuffer(self.parameters)
        wiring.connect(m, wiring.flipped(self.up), load.up)
        wiring.connect(m, load.banks, banks.write)
        wiring.connect(m, load.weights, records.write)
        wiring.connect(m, multiply.banks, banks.read)
        wiring.connect(m, multiply.weights, records.read)
        wiring.connect(m, multiply.down, wiring.flipped(self.down))
        wiring.connect(m, multiply.counts, wiring.flipped(self.counts))
        if self.parameters.masks:
            wiring.connect(m, load.scales, multiply.scales)
            wiring.connect(m, multiply.down_groups, wiring.flipped(self.down_groups))
            m.d.comb += [load.scales_held.eq(multiply.scales_held), load.scales_left.eq(multiply.scales_left)]
