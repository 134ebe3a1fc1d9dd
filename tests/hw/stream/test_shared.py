"""One port for several parts: spans and words are those of the part that is chosen."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.bus.ports import MemoryRead, MemoryWrite
from hw.stream.shared import share

pytestmark = pytest.mark.unit

PARTS = 3


class Shared(wiring.Component):
    """A port of each kind for three parts, which stand outside."""

    def __init__(self, parts):
        self.parts = parts
        super().__init__({"chosen": In(PARTS), "read": Out(MemoryRead(8)), "write": Out(MemoryWrite(8))})

    def elaborate(self, platform):
        m = Module()
        for name in ("read", "write"):
            share(m, getattr(self, name), [(self.chosen[i], part[name]) for i, part in enumerate(self.parts)])
        return m


def test_parts():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    parts = [
        {"read": MemoryRead(8).create(path=(f"r{i}",)), "write": MemoryWrite(8).create(path=(f"w{i}",))}
        for i in range(PARTS)
    ]
    dut = Shared(parts)

    async def bench(ctx):
        for _ in range(300):
            chosen = r.choice([None, *range(PARTS)])
            ctx.set(dut.chosen, 0 if chosen is None else 1 << chosen)
            given = {}
            for part, ports in enumerate(parts):
                for name, port in ports.items():
                    valid, span = r.random() < 0.5, {"region": part, "address": r.getrandbits(9), "bytes": 1}
                    ctx.set(port.request.valid, valid)
                    ctx.set(port.request.payload, span)
                    given[part, name] = valid, span
                ctx.set(ports["read"].data.ready, r.random() < 0.5)
                ctx.set(ports["write"].data.valid, r.random() < 0.5)
                ctx.set(ports["write"].data.payload, {"data": r.getrandbits(8), "strobe": 1})
            for stream in (dut.read.request, dut.write.request, dut.write.data):
                ctx.set(stream.ready, r.random() < 0.5)
            ctx.set(dut.read.data.valid, r.random() < 0.5)
            ctx.set(dut.read.data.payload, r.getrandbits(8))
            ctx.set(dut.write.idle, r.random() < 0.5)
            await ctx.delay(1e-6)
            for name in ("read", "write"):
                port, request = getattr(dut, name), getattr(dut, name).request
                valid, span = given.get((chosen, name), (False, None))
                assert ctx.get(request.valid) == valid
                if valid:
                    assert {field: ctx.get(request.p[field]) for field in span} == span
                for part, ports in enumerate(parts):
                    taken = part == chosen and ctx.get(request.ready)
                    assert ctx.get(ports[name].request.ready) == taken
                    if name == "write":
                        assert ctx.get(ports[name].data.ready) == (part == chosen and ctx.get(port.data.ready))
                        assert ctx.get(ports[name].idle) == ctx.get(port.idle)
                    else:
                        assert ctx.get(ports[name].data.valid) == (part == chosen and ctx.get(port.data.valid))
                        assert ctx.get(ports[name].data.payload) == ctx.get(port.data.payload)
            ready = chosen is not None and ctx.get(parts[chosen]["read"].data.ready)
            assert ctx.get(dut.read.data.ready) == ready
            sends = chosen is not None and ctx.get(parts[chosen]["write"].data.valid)
            assert ctx.get(dut.write.data.valid) == sends
            if sends:
                assert ctx.get(dut.write.data.p.data) == ctx.get(parts[chosen]["write"].data.p.data)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
