"""Which vectors are under way between memory's read and memory's write."""

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In


class Scoreboard(wiring.Component):
    """A bit for each hash of an address: set from a vector's start until memory accepted its last word.

    A vector whose bit is set waits. So a memory in which a read sees the writes accepted before it needs no further
    rule, and the same address may follow itself at once.

    Latency: a slot released in one clock is free in the next. Throughput: one claim and one release per clock.

    Members
    -------
    claim : In(stream)
        Slot of a vector that starts; ready while it is free.
    release : In(stream)
        Slot of a vector that is done; always ready.
    """

    slots = 64
    """Bits of the table."""

    def __init__(self) -> None:
        slot = range(self.slots)
        super().__init__(
            {"claim": In(stream.Signature(slot)), "release": In(stream.Signature(slot, always_ready=True))}
        )

    @classmethod
    def slot(cls, address: Value) -> Value:
        """Slot of a vector: all bits of its address, folded."""
        width = (cls.slots - 1).bit_length()
        folded = Const(0, width)
        for low in range(0, len(address), width):
            folded = folded ^ address[low : low + width]
        return folded[:width]

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        taken, claimed, released = (Signal(self.slots, name=name) for name in ("taken", "claimed", "released"))
        m.d.comb += self.claim.ready.eq(~taken.bit_select(self.claim.payload, 1))
        with m.If(self.claim.valid & self.claim.ready):
            m.d.comb += claimed.eq(1 << self.claim.payload)
        with m.If(self.release.valid):
            m.d.comb += released.eq(1 << self.release.payload)
        m.d.sync += taken.eq((taken | claimed) & ~released)
        return m
