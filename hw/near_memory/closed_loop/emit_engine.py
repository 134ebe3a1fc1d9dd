"""The emit engine: parts that carry out its operations, and what they share."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out

from golden.machine import command
from golden.parameters import Parameters
from hw import payloads
from hw.arith.bits import named, one_of, or_tree
from hw.control.engine import CAUSE_WIDTH, Engine, cause
from hw.near_memory.closed_loop.aligner import Aligner
from hw.near_memory.closed_loop.coefficients import CoefficientsEngine
from hw.near_memory.closed_loop.combine import Combine
from hw.near_memory.closed_loop.functions import Functions
from hw.near_memory.closed_loop.row_reader import RowReader
from hw.near_memory.closed_loop.sender import Sender
from hw.near_memory.closed_loop.vectors import join_memory, ports_to_memory
from hw.near_memory.closed_loop.x_path import XPath
from hw.stream import SkidBuffer
from hw.stream.shared import share

_PARTS = {
    "x_path": (command.Emit, XPath),
    "sender": (command.Emit, Sender),
    "combine": (command.Combine, Combine),
    "coefficients": (command.Coefficients, CoefficientsEngine),
}
"""Parts, and the operation that each carries out: an `Emit` is the work of two."""

_ATTENTION = {"aligner": (command.Align, Aligner), "rows": (command.Rows, RowReader)}
"""Those of attention; in a machine without it their operations end with the cause ``field``."""

_STANDS_AT = {"second_states_read": "held_read", "copy_states_written": "held_written"}
"""Ports of a part that stand at one of another name, since their parts never run together."""

_EVENTS = ("emitted", "link_groups", "link_zero_groups", "combined")


class EmitEngine(Engine):
    """Carries out `Combine`, `Coefficients`, `Emit`, `Align` and `Rows` (``docs/machine.md``).

    ::

        x_path --- z ~ Functions ~ x ---> sender ---> up
                         |
                      combine         coefficients         aligner         rows

    One operation runs at a time, so there is one f, and for each flow one port to memory, and one reader or writer of
    vectors at it. A `Combine` reads its second state and writes its copy where an emission has its Xhat.

    Members
    -------
    states_read, ... : Out
        Memory: ports by the flow that they count under, but for those at which a `Combine` has states.
    up : Out(stream of `payloads.stream_group`)
        The link.
    emitted, link_groups, link_zero_groups, combined : Out(1)
        Events: vectors and groups, as counters tell.
    """

    name = "emit"

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        attends = "attention" in parameters.functions
        self._kinds = {name: kind for name, (kind, _) in (_PARTS | _ATTENTION).items() if attends or name in _PARTS}
        self._parts = {name: (_PARTS | _ATTENTION)[name][1](parameters) for name in self._kinds}
        return super()._members(parameters) | {
            **{
                _STANDS_AT.get(name, name): port
                for part in self._parts.values()
                for name, port in ports_to_memory(part).items()
            },
            "up": Out(stream.Signature(payloads.stream_group(parameters))),
            **{name: Out(1) for name in _EVENTS},
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.functions = functions = Functions(self.parameters)
        m.submodules.asked = asked = SkidBuffer(functions.i.payload.shape())
        m.submodules.found = found = SkidBuffer(functions.o.payload.shape())
        wiring.connect(m, asked.o, functions.i)
        wiring.connect(m, functions.o, found.i)
        for name, part in self._parts.items():
            m.submodules[name] = part
        operation = self.operation.p.opcode
        # From the second clock of an operation on: all that parts share hangs on this.
        chosen = {name: Signal(name=f"runs_{name}") for name in self._kinds}
        settled = Signal()
        m.d.sync += settled.eq(self.operation.valid & ~self.operation.ready)
        m.d.sync += [chosen[name].eq(operation == kind.opcode) for name, kind in self._kinds.items()]
        self._distribute(m, chosen, settled)
        users = [(chosen[name], part) for name, part in self._users("settings").items()]
        self._apply(m, asked.i, functions.settings, found.o, users)
        ends: dict[str, list[tuple[Value, Any]]] = {}
        for user, part in self._parts.items():
            for name in ports_to_memory(part):
                ends.setdefault(_STANDS_AT.get(name, name), []).append((chosen[user], getattr(part, name)))
        for name, users in ends.items():
            target = join_memory(m, name, getattr(self, name), users[0][1].signature, self.parameters)
            share(m, target, users)

        x_path, sender = self._parts["x_path"], self._parts["sender"]
        # No part's ready is to wait for another's within a clock: that of the spool would reach the reader of states.
        m.submodules.sent = sent = SkidBuffer(x_path.o.payload.shape())
        wiring.connect(m, x_path.o, sent.i)
        wiring.connect(m, sent.o, sender.x)
        wiring.connect(m, x_path.held, sender.held)
        wiring.connect(m, sender.up, wiring.flipped(self.up))
        m.d.comb += sender.sent.eq(x_path.sent)
        for name in _EVENTS:
            m.d.comb += getattr(self, name).eq(or_tree(getattr(part, name) for part in self._users(name).values()))
        parts = [functions, *self._parts.values()]
        m.d.comb += [
            self.overflow.eq(or_tree(part.overflow for part in parts)),
            self.poisoned.eq(or_tree(part.poisoned for part in self._parts.values())),
        ]
        return m

    def _users(self, member: str) -> dict[str, Engine]:
        """Parts that have a member of this name."""
        return {name: part for name, part in self._parts.items() if member in part.signature.members}

    @staticmethod
    def _apply(
        m: Module, asked: stream.Interface, settings: Any, found: stream.Interface, users: list[tuple[Value, Any]]
    ) -> None:
        """Give f and its `settings` to the part that is chosen: `asked` leads there, `found` comes back."""
        given, z = (Signal.like(port) for port in (settings.as_value(), asked.payload.as_value()))
        for chosen, part in users:
            with m.If(chosen):
                m.d.comb += [given.eq(part.settings), z.eq(part.z.payload)]
            m.d.comb += [
                part.z.ready.eq(asked.ready & chosen),
                part.x.valid.eq(found.valid & chosen),
                part.x.payload.eq(found.payload),
            ]
        m.d.comb += [
            settings.eq(given),
            asked.payload.eq(z),
            asked.valid.eq(or_tree(part.z.valid & chosen for chosen, part in users)),
            found.ready.eq(or_tree(part.x.ready & chosen for chosen, part in users)),
        ]

    def _distribute(self, m: Module, chosen: dict[str, Signal], settled: Signal) -> None:
        """Offer the operation to the parts that carry it out, and take it two clocks after all of them have."""
        waits = []
        for name, part in self._parts.items():
            taken = Signal(name=f"{name}_taken")
            offered = Signal(name=f"{name}_offered")
            takes = named(m, f"{name}_takes", offered & part.operation.ready)
            offers = self.operation.valid & settled & chosen[name] & ~taken & ~takes & ~self.operation.ready
            m.d.comb += [part.operation.valid.eq(offered), part.operation.payload.eq(self.operation.payload)]
            m.d.sync += [offered.eq(offers), taken.eq(~self.operation.ready & (taken | takes))]
            waits.append(chosen[name] & ~taken)
        done = named(m, "done", settled & Cat(chosen.values()).any() & ~or_tree(waits))
        m.d.sync += self.operation.ready.eq(done & ~self.operation.ready)
        # Of two parts that go wrong in the same clock, the first one counts.
        causes = [part.error for part in self._parts.values()]
        if set(self._kinds) != {*_PARTS, *_ATTENTION}:
            absent = Signal(CAUSE_WIDTH)
            with m.If(self.operation.valid & settled & ~Cat(chosen.values()).any()):
                m.d.sync += absent.eq(cause("field"))
            causes.append(absent)
        clear = [Cat(causes[:number]) == 0 for number in range(len(causes))]
        m.d.comb += self.error.eq(one_of(list(zip(clear, causes, strict=True))))
