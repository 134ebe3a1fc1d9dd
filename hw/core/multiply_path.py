"""The multiply engine with its way out of the core."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.control.engine import Engine, cause
from hw.core.chain_path import ChainPath, scale_write, tiles_waiting
from hw.core.multiply_engine import MultiplyEngine, work_counts
from hw.core.output_path import OutputPath
from hw.core.sequencer import waits
from hw.link.joint_link import JointLink
from hw.memory import BufferRead


class MultiplyPath(Engine):
    """Carries out `Multiply`: sums of the array leave in the joint form, or as groups.

    ::

        banks, weights -> multiply engine -> sums -+-> output path -> link -> down
                                                   +-> chain path -> down_groups

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.

    Members
    -------
    banks, weights : Out(BufferRead)
        Groups of all rows, and records.
    down : Out(stream of `payloads.joint_part`)
        Vectors for the near-memory engine.
    down_groups : Out(stream of `payloads.chain_group`)
        Groups for it; this and the other members of scales only with the dataflow sign_mask.
    scales : In(stream of `scale_write`)
        Factors and shifts; always ready.
    scales_held, scales_left : Out
        As `MultiplyEngine` tells.
    counts : Out(stream of `work_counts`)
        What each operation has done.
    link_outputs : Out
        Events: vectors that were sent down.
    multiply_without_records, ... : Out(1)
        Events: a clock in which there was no step for want of something.
    """

    name = "multiply"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = data.ArrayLayout(payloads.delta_group(parameters), parameters.rows)
        chains = {
            "down_groups": Out(stream.Signature(payloads.chain_group(parameters))),
            "scales": In(stream.Signature(scale_write(parameters))),
            "scales_held": Out(tiles_waiting()),
            "scales_left": Out(1),
        }
        return super()._members(parameters) | {
            "banks": Out(BufferRead(groups, parameters.group_buffer)),
            "weights": Out(BufferRead(payloads.weight_record(parameters), parameters.weight_buffer)),
            "down": Out(stream.Signature(payloads.joint_part(parameters))),
            "counts": Out(stream.Signature(work_counts(parameters))),
            "link_outputs": Out(1 + parameters.masks),
            **{f"multiply_without_{what}": Out(1) for what in waits().members},
            **(chains if parameters.masks else {}),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.engine = engine = MultiplyEngine(self.parameters)
        m.submodules.output_path = output = OutputPath(self.parameters)
        m.submodules.link = link = JointLink(self.parameters)
        wiring.connect(m, wiring.flipped(self.operation), engine.operation)
        wiring.connect(m, engine.banks, wiring.flipped(self.banks))
        wiring.connect(m, engine.weights, wiring.flipped(self.weights))
        wiring.connect(m, engine.counts, wiring.flipped(self.counts))
        overflow, poisoned = engine.overflow | output.overflow, engine.poisoned | output.poisoned
        outputs = output.link_outputs
        if self.parameters.masks:
            chain = self._chain(m, engine, output.i)
            overflow |= chain.overflow | chain.saturated
            poisoned |= chain.poisoned
            outputs = outputs + (chain.o.valid & chain.o.ready & chain.o.p.last)
        else:
            wiring.connect(m, engine.sums, output.i)
        wiring.connect(m, output.o, link.i)
        wiring.connect(m, link.o, wiring.flipped(self.down))
        m.d.comb += [
            self.error.eq(Mux(link.damaged, cause("damaged"), engine.error)),
            self.overflow.eq(overflow),
            self.poisoned.eq(poisoned),
            self.link_outputs.eq(outputs),
            *(getattr(self, f"multiply_without_{what}").eq(engine.waits[what]) for what in waits().members),
        ]
        return m

    def _chain(self, m: Module, engine: MultiplyEngine, joint: stream.Interface) -> ChainPath:
        """Sums to `joint`, or to a path to groups, which is returned."""
        m.submodules.chain_path = chain = ChainPath(self.parameters)
        wiring.connect(m, engine.chains, chain.tile)
        wiring.connect(m, wiring.flipped(self.scales), chain.write)
        wiring.connect(m, chain.o, wiring.flipped(self.down_groups))
        groups = engine.sums.p.groups
        m.d.comb += [
            *(target.payload.eq(engine.sums.payload) for target in (joint, chain.i)),
            joint.valid.eq(engine.sums.valid & ~groups),
            chain.i.valid.eq(engine.sums.valid & groups),
            engine.sums.ready.eq(Mux(groups, chain.i.ready, joint.ready)),
            self.scales_held.eq(engine.scales_held),
            self.scales_left.eq(engine.scales_left),
        ]
        return chain
