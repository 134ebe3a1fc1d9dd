"""A straight pipeline between two streams whose register stages can be chosen."""

from types import SimpleNamespace

from amaranth.hdl import Module, Signal, ValueLike

from hw.stream.stage import enabled_cuts

__all__ = ["Pipeline"]


class Pipeline:
    """Registers between an input and an output stream that advance together.

    All stages move in a clock in which the output stage is empty or taken, else all hold. So the throughput is one
    payload per clock, results keep their order, and no back-pressure pattern changes them.

    Latency: one clock per enabled cut. Throughput: one payload per clock.

    ::

        pipe = Pipeline(m, self.i, self.o, cuts=3, depth=depth)
        s = pipe.cut(a=self.i.p.a + 1, b=self.i.p.b)   # s.a, s.b: registered if the first cut is enabled
        s = pipe.cut(c=s.a * s.b)
        pipe.finish(s.c)                               # the last cut is the output register

    Parameters
    ----------
    m : Module
        Module to add to.
    i, o : stream interfaces
        Input (as seen inside the component) and output.
    cuts, depth : int
        See `enabled_cuts`.
    name : str
        Starts the names of the registers; needed where a module holds several pipelines.

    Attributes
    ----------
    advance : Signal
        All stages move at this clock edge.
    valid : Signal
        The stage the next `cut` reads from holds a payload.
    """

    def __init__(self, m: Module, i: object, o: object, *, cuts: int, depth: int, name: str = ""):
        self._m = m
        self._name = name
        self._o = o
        self._enabled = list(enabled_cuts(cuts, depth))
        self._stage = 0
        self.advance = Signal(name=f"{name}advance")
        self.valid = i.valid
        m.d.comb += [self.advance.eq(~o.valid | o.ready), i.ready.eq(self.advance)]

    def cut(self, **values: ValueLike) -> SimpleNamespace:
        """Pass `values` through the next cut; returns them, registered if that cut is enabled.

        A value that is a `data.View` comes back as one.
        """
        enabled = self._enabled.pop(0)
        self._stage += 1
        prefix = f"{self._name}stage{self._stage}_"
        # Without registers the values are named all the same: as expressions they would be written out again for each
        # use, so that a chain of stages would grow exponentially.
        outputs = {name: self._signal(prefix + name, value, enabled) for name, value in values.items()}
        if not enabled:
            self._m.d.comb += [outputs[name].eq(value) for name, value in values.items()]
            return SimpleNamespace(**outputs)
        valid = Signal(name=f"{prefix}valid")
        with self._m.If(self.advance):
            self._m.d.sync += [valid.eq(self.valid), *(outputs[name].eq(value) for name, value in values.items())]
        self.valid = valid
        return SimpleNamespace(**outputs)

    @staticmethod
    def _signal(name: str, value: ValueLike, register: bool) -> Signal:
        shape = value.shape() if hasattr(value, "shape") else None
        return Signal(shape, name=name, reset_less=register)

    def finish(self, payload: ValueLike, *, valid: ValueLike | None = None) -> None:
        """Drive the output register.

        Parameters
        ----------
        payload : value
            Payload of the output stream (same layout or width).
        valid : value, optional
            Whether this payload is to be emitted; default: whenever the stage is valid.
        """
        if self._enabled != [True]:
            raise ValueError(f"finish must follow the last inner cut, not with {len(self._enabled)} cuts left")
        self._enabled.pop()
        emit = self.valid if valid is None else self.valid & valid
        with self._m.If(self.advance):
            self._m.d.sync += [self._o.valid.eq(emit), self._o.payload.eq(payload)]
