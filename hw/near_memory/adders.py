# amaranth: UnusedElaboratable=no
"""An FP16 adder for each lane of a word."""

from amaranth.hdl import Module, ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw.arith.float import FLOAT16, FloatAdd
from hw.stream import Stage


class Adders(wiring.Component):
    """Adds two words of FP16 values; what is `beside` them travels along.

    Latency: that of `FloatAdd`. Throughput: one word per clock.

    Parameters
    ----------
    parameters : Parameters
        The machine's parameters.
    beside : ShapeLike
        What travels along.

    Members
    -------
    i : In(stream of {a, b, beside})
        Words to add.
    o : Out(stream of {values, overflow, beside})
        Their sums, and which were clamped.
    """

    def __init__(self, parameters: Parameters, beside: ShapeLike):
        lanes, depth = parameters.memory_lanes, parameters.pipeline_depth
        rules = {"overflow": "clamp", "zero": "positive", "non_finite": "nan"}
        self._adders = [FloatAdd(FLOAT16, depth=depth, **rules) for _ in range(lanes)]
        values = data.ArrayLayout(16, lanes)
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"a": values, "b": values, "beside": beside}))),
                "o": Out(stream.Signature(data.StructLayout({"values": values, "overflow": lanes, "beside": beside}))),
            }
        )

    @property
    def latency(self) -> int:
        """Clocks from two words to their sum."""
        return self._adders[0].latency

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        i, o = self.i, self.o
        for lane, adder in enumerate(self._adders):
            m.submodules[f"lane{lane}"] = adder
            m.d.comb += [
                adder.i.valid.eq(i.valid),
                adder.i.p.a.eq(i.p.a[lane]),
                adder.i.p.b.eq(i.p.b[lane]),
                adder.o.ready.eq(o.ready),
                o.p.values[lane].eq(adder.o.p.value),
                o.p.overflow[lane].eq(adder.o.p.overflow),
            ]
        # Equal pipelines with equal valid and ready hold the same words, so one speaks for all.
        beside = stream.Signature(i.p.beside.shape()).create(path=("beside",))
        s = Stage.begin(m, i)
        s.beside = i.p.beside
        s.cut(self.latency - 1).finish(beside, s.cut(self.latency - 1).beside, depth=self.latency)
        m.d.comb += [o.valid.eq(beside.valid), beside.ready.eq(o.ready), o.p.beside.eq(beside.payload)]
        return m
