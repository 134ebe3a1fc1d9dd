"""All five channels of both buses through the crossing, at different clocks, both sides hesitating."""

import random

import pytest
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

from hw.bus.axi import AXI4, AXI4Lite
from hw.bus.crossing import Crossing
from tests.hw.lint import complaints

pytestmark = pytest.mark.unit

BUSES = {"AXI4": AXI4(16, 64), "AXI4-Lite": AXI4Lite(8)}
CHANNELS = ("aw", "w", "b", "ar", "r")


def fields(bus, prefix):
    """Names of what a channel carries."""
    names = [name for name in bus.members if name.startswith(prefix)]
    return [name for name in names if name[len(prefix) :] not in ("valid", "ready")]


@pytest.mark.parametrize("periods", [(10, 10), (10, 7), (7, 31)])
@pytest.mark.parametrize("bus", BUSES.values(), ids=BUSES)
def test_every_channel_carries_everything_in_order(bus, periods):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    dut, found = Crossing(bus), {prefix: [] for prefix in CHANNELS}
    sent = {
        prefix: [
            {name: draw.getrandbits(bus.members[name].shape.width) for name in fields(bus, prefix)} for _ in range(50)
        ]
        for prefix in CHANNELS
    }

    def forth(prefix):
        return bus.members[f"{prefix}valid"].flow == Out

    def sending(prefix):
        side, domain = (dut.i, "sync") if forth(prefix) else (dut.o, "bus")

        async def send(ctx):
            for payload in sent[prefix]:
                while draw.random() < 0.3:
                    await ctx.tick(domain)
                for name, value in payload.items():
                    ctx.set(getattr(side, name), value)
                ctx.set(getattr(side, f"{prefix}valid"), 1)
                while not (await ctx.tick(domain).sample(getattr(side, f"{prefix}ready")))[2]:
                    pass
                ctx.set(getattr(side, f"{prefix}valid"), 0)

        return send

    def taking(prefix):
        side, domain = (dut.o, "bus") if forth(prefix) else (dut.i, "sync")
        names = fields(bus, prefix)

        async def take(ctx):
            for _ in range(600):
                ready = draw.random() < 0.6
                ctx.set(getattr(side, f"{prefix}ready"), ready)
                signals = [getattr(side, name) for name in (f"{prefix}valid", *names)]
                _, _, valid, *values = await ctx.tick(domain).sample(*signals)
                if valid and ready:
                    found[prefix].append(dict(zip(names, values, strict=True)))

        return take

    simulator = Simulator(dut)
    simulator.add_clock(periods[0] * 1e-9)
    simulator.add_clock(periods[1] * 1e-9, domain="bus")
    for prefix in CHANNELS:
        simulator.add_testbench(sending(prefix), background=True)
        simulator.add_testbench(taking(prefix))
    simulator.run()
    assert found == sent


@pytest.mark.synth
@pytest.mark.parametrize("bus", BUSES.values(), ids=BUSES)
def test_verilog_is_clean(bus):
    assert not complaints(Crossing(bus))
