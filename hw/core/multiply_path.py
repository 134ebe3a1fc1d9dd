"""The multiply engine with its way out of the core."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from golden.parameters import Parameters
from hw import payloads
from hw.control.engine import Engine, cause
from hw.core.multiply_engine import MultiplyEngine, work_counts
from hw.core.output_path import OutputPath
from hw.core.sequencer import waits
from hw.link.joint_link import JointLink
from hw.memory import BufferRead

__all__ = ["MultiplyPath"]


class MultiplyPath(Engine):
    """Carries out `Multiply`: sums of the array leave in the joint form.

    ::

        banks, weights -> multiply engine -> sums -> output path -> link -> down

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
    counts : Out(stream of `work_counts`)
        What each operation has done.
    link_outputs : Out(1)
        Event: a vector was sent down.
    multiply_without_records, ... : Out(1)
        Events: a clock in which there was no step for want of something.
    """

    name = "multiply"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        groups = data.ArrayLayout(payloads.delta_group(parameters), parameters.rows)
        return {
            "banks": Out(BufferRead(groups, parameters.group_buffer)),
            "weights": Out(BufferRead(payloads.weight_record(parameters), parameters.weight_buffer)),
            "down": Out(stream.Signature(payloads.joint_part(parameters))),
            "counts": Out(stream.Signature(work_counts(parameters))),
            "link_outputs": Out(1),
            **{f"multiply_without_{what}": Out(1) for what in waits().members},
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
        wiring.connect(m, engine.sums, output.i)
        wiring.connect(m, output.o, link.i)
        wiring.connect(m, link.o, wiring.flipped(self.down))
        m.d.comb += [
            self.error.eq(Mux(link.damaged, cause("damaged"), engine.error)),
            self.overflow.eq(engine.overflow | output.overflow),
            self.poisoned.eq(engine.poisoned | output.poisoned),
            self.link_outputs.eq(output.link_outputs),
            *(getattr(self, f"multiply_without_{what}").eq(engine.waits[what]) for what in waits().members),
        ]
        return m
