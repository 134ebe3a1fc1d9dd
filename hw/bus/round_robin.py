"""Who is next, where many want the same thing."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.bits import named, or_tree


class RoundRobin(wiring.Component):
    """Grants what one of many wants: the first behind the one that was granted last.

    Latency: none (combinational). Nobody who keeps wanting waits longer than all others take once.

    Parameters
    ----------
    count : int
        How many want.

    Members
    -------
    wants : In(count)
        Who wants.
    moves : In(1)
        The grant is taken in this clock.
    grant : Out(count)
        One of `wants`, or none if nobody does.
    number : Out
        Its number; 0 if nobody does.

    Raises
    ------
    TypeError
        If `count` is no integer.
    ValueError
        If it is below 1.
    """

    def __init__(self, count: int):
        if not isinstance(count, int):
            raise TypeError(f"count must be an integer, not {count!r}")
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self._count = count
        super().__init__(
            {"wants": In(count), "moves": In(1), "grant": Out(count), "number": Out((count - 1).bit_length())}
        )

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        last = Signal(self._count)
        later = named(m, "later", self.wants & Cat(or_tree(last[:index]) for index in range(self._count)))
        first_later, first = (
            Cat(one & ~or_tree(ones[:index]) for index, one in enumerate(ones)) for ones in (later, self.wants)
        )
        m.d.comb += self.grant.eq(Mux(later.any(), first_later, first))
        for bit in range(len(self.number)):
            m.d.comb += self.number[bit].eq(
                or_tree(self.grant[index] for index in range(self._count) if index >> bit & 1)
            )
        with m.If(self.moves & self.wants.any()):
            m.d.sync += last.eq(self.grant)
        return m
