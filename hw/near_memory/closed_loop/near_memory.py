"""The near-memory engine of the closed loop: what keeps states, and what makes deltas of them."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.control.cluster import Cluster
from hw.control.engine import Engine
from hw.near_memory.closed_loop.accumulate_engine import AccumulateEngine
from hw.near_memory.closed_loop.emit_engine import EmitEngine


class NearMemory(Cluster):
    """Accumulate and emit engine, side by side at memory.

    ::

        down -> accumulate engine <-> memory <-> emit engine -> up

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    down : In(stream of `payloads.joint_part`)
        Vectors from the core.
    down_groups : In(stream of `payloads.chain_group`)
        With the dataflow sign_mask: groups from the core.
    up : Out(stream of `payloads.stream_group`)
        Groups for the core; `last` ends a line.
    """

    name = "near_memory"
    summary = "states: accumulate, combine, normalise, emit"

    def _make(self, parameters: Parameters) -> list[Engine]:
        return [AccumulateEngine(parameters), EmitEngine(parameters)]

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = {"down_groups": In(stream.Signature(payloads.chain_group(parameters)))} if parameters.masks else {}
        return {
            "down": In(stream.Signature(payloads.joint_part(parameters))),
            **groups,
            "up": Out(stream.Signature(payloads.stream_group(parameters))),
        }

    def _connect(self, m: Module) -> None:
        accumulate, emit = self._engines
        wiring.connect(m, wiring.flipped(self.down), accumulate.down)
        if self.parameters.masks:
            wiring.connect(m, wiring.flipped(self.down_groups), accumulate.down_groups)
        wiring.connect(m, emit.up, wiring.flipped(self.up))
