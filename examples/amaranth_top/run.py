"""Two units in an Amaranth design of one's own: ``python examples/amaranth_top/run.py``.

`DotProduct` joins a quantiser and a processing element. It is simulated against the golden model, then emitted as one
readable Verilog file, which carries no licence of Driftless beyond that of the two units.
"""

import argparse
from pathlib import Path

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from golden.parameters import preset
from golden.units.delta_quantizer import delta_quantizer
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import align_weights
from hw import payloads
from hw.stream import Fifo
from hw.units import DeltaQuantizer, MultiplierGroup
from rtl_gen.verilog.emission import emit


class DotProduct(wiring.Component):
    """Dot products of FP16 changes with weights.

    ::

        i ---> DeltaQuantizer ---------------------> MultiplierGroup ---> o
         `---> queue of weights, scale, first, last -----^

    Parameters
    ----------
    parameters : Parameters
        Of a machine whose groups choose their exponent.

    Members
    -------
    i : In(stream)
        ``values`` (n FP16 patterns), and what else of `payloads.multiplier_group_input` belongs to them.
    o : Out(stream)
        `payloads.sum_with_poison`, one for each vector marked ``last``.
    """

    def __init__(self, parameters):
        self._parameters = parameters
        whole = payloads.multiplier_group_input(parameters)
        self._side = data.StructLayout({name: field.shape for name, field in whole if name != "group"})
        vector = data.StructLayout({"values": data.ArrayLayout(16, parameters.lanes), "side": self._side})
        o = stream.Signature(payloads.sum_with_poison(parameters))
        super().__init__({"i": In(stream.Signature(vector)), "o": Out(o)})

    def elaborate(self, platform):
        """Join the two units."""
        m = Module()
        m.submodules.quantizer = quantizer = DeltaQuantizer(self._parameters)
        m.submodules.multiplier = multiplier = MultiplierGroup(self._parameters)
        # As many entries as vectors can be on their way in the quantiser, so that it never waits for the queue.
        m.submodules.queue = queue = Fifo(self._side, 32)

        # A vector is taken where both have room, a group passed on where both have theirs. No `valid` waits for the
        # `ready` of its own stream.
        group = quantizer.i.p
        m.d.comb += [
            self.i.ready.eq(quantizer.i.ready & queue.i.ready),
            quantizer.i.valid.eq(self.i.valid & queue.i.ready),
            queue.i.valid.eq(self.i.valid & quantizer.i.ready),
            group.values.eq(self.i.p.values),
            group.by_group.eq(1),
            group.first_pass.eq(1),
            queue.i.payload.eq(self.i.p.side),
            multiplier.i.valid.eq(quantizer.o.valid & queue.o.valid),
            quantizer.o.ready.eq(multiplier.i.ready & queue.o.valid),
            queue.o.ready.eq(multiplier.i.ready & quantizer.o.valid),
            multiplier.i.p.group.eq(quantizer.o.p.group),
        ]
        m.d.comb += [multiplier.i.p[name].eq(queue.o.p[name]) for name, _ in self._side]
        wiring.connect(m, multiplier.o, wiring.flipped(self.o))
        return m


def simulate(dut, vectors):
    """Play vectors, one dictionary each, and return the sums (signed integers)."""
    found = []

    async def put(ctx):
        for vector in vectors:
            ctx.set(dut.i.payload, vector)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def get(ctx):
        ctx.set(dut.o.ready, 1)
        while len(found) < sum(vector["side"]["last"] for vector in vectors):
            (payload,) = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            found.append(payload.sum)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(put)
    simulator.add_testbench(get)
    simulator.run()
    return found


def main():
    """Run the example; code 1 if a sum differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/examples/dot_product.v"))
    given = parser.parse_args()
    parameters, draw = preset("tiny"), np.random.default_rng(given.seed)

    shape = (30, parameters.lanes)
    values = draw.standard_normal(shape).astype(np.float16).view(np.uint16)
    weights, exponents = align_weights(draw.standard_normal(shape).astype(np.float16).view(np.uint16), parameters)
    scale = exponents - parameters.fraction_bits + 24  # the accumulator counts units of 2^-24
    first, last = np.arange(30) % 3 == 0, np.arange(30) % 3 == 2
    groups = delta_quantizer(values, parameters).groups
    expected = multiplier_group(groups, weights, parameters, scale=scale, first=first, last=last).sum.tolist()

    side = zip(first.tolist(), last.tolist(), scale.tolist(), weights.tolist(), strict=True)
    names = ("first", "last", "scale", "weights")
    vectors = [
        {"values": row, "side": dict(zip(names, fields, strict=True))}
        for row, fields in zip(values.tolist(), side, strict=True)
    ]
    dut = DotProduct(parameters)
    found = simulate(dut, vectors)
    if found != expected:
        parser.exit(1, f"Sums differ: {found} from the simulation, {expected} from golden\n")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(emit(DotProduct(parameters), name="dot_product").text)
    print(f"{len(found)} sums, each equal to golden's (seed {given.seed})")
    print(f"{given.out}: its Verilog")


if __name__ == "__main__":
    main()
