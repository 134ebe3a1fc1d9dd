"""A master that reads and writes at random, all channels at their own pace, against a plain list of registers."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from hw.bus.lite_slave import LiteSlave
from tests.hw.lint import complaints
from tests.hw.streams import refusal

pytestmark = pytest.mark.unit

REFUSED = 5
"""A register that answers with an error."""


class Master:
    """Channels of a master, each with a queue of its own; `hesitates` is how likely it pauses."""

    def __init__(self, seed, hesitates):
        self.dut, self.draw, self.hesitates = LiteSlave(6), random.Random(seed), hesitates
        self.registers = [self.draw.getrandbits(32) for _ in range(16)]
        self.log = []

    def pauses(self):
        return self.draw.random() < self.hesitates

    async def serve(self, ctx):
        """The registers: each access at some later clock, in the order in which they come."""
        port = self.dut.registers
        while True:
            _, _, valid, write, address, data, strobe = await ctx.tick().sample(
                port.valid, port.write, port.address, port.data, port.strobe
            )
            if not valid or ctx.get(port.ready) or self.pauses():
                ctx.set(port.ready, 0)
                continue
            ctx.set(port.ready, 1)
            ctx.set(port.error, address == REFUSED)
            ctx.set(port.read_data, 0 if write else self.registers[address])
            mask = sum(255 << 8 * byte for byte in range(4) if strobe >> byte & 1)
            if write and address != REFUSED:
                self.registers[address] = self.registers[address] & ~mask | data & mask
            self.log.append((write, address, data & mask if write else self.registers[address]))

    def sending(self, prefix, payloads):
        """A process that offers payloads on a channel."""
        bus = self.dut.bus

        async def send(ctx):
            for payload in payloads:
                while self.pauses():
                    await ctx.tick()
                for name, value in payload.items():
                    ctx.set(getattr(bus, prefix + name), value)
                ctx.set(getattr(bus, f"{prefix}valid"), 1)
                while True:
                    _, _, ready = await ctx.tick().sample(getattr(bus, f"{prefix}ready"))
                    if ready:
                        break
                ctx.set(getattr(bus, f"{prefix}valid"), 0)

        return send

    def taking(self, prefix, names, found):
        """A process that takes responses; what waits must stay."""
        bus = self.dut.bus

        async def take(ctx):
            held = None
            while True:
                ready = not self.pauses()
                ctx.set(getattr(bus, f"{prefix}ready"), ready)
                signals = [getattr(bus, prefix + name) for name in ("valid", *names)]
                _, _, valid, *payload = await ctx.tick().sample(*signals)
                assert held is None or (valid and payload == held)
                held = payload if valid and not ready else None
                if valid and ready:
                    found.append(payload)

        return take


@pytest.mark.parametrize("hesitates", [0, 0.3, 0.7])
def test_every_access_happens_once_and_is_answered(hesitates):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    bench = Master(seed, hesitates)
    draw = bench.draw
    before = list(bench.registers)
    writes = [(draw.randrange(16), draw.getrandbits(32), draw.getrandbits(4)) for _ in range(60)]
    reads = [draw.randrange(16) for _ in range(60)]
    answers, words = [], []

    async def main(ctx):
        for _ in range(6000):
            await ctx.tick()
            if len(answers) == len(writes) and len(words) == len(reads):
                break
        for _ in range(20):
            await ctx.tick()

    simulator = Simulator(bench.dut)
    simulator.add_clock(1e-6)
    for process in (
        bench.serve,
        bench.sending("aw", [{"addr": 4 * address + draw.randrange(4)} for address, *_ in writes]),
        bench.sending("w", [{"data": data, "strb": strobe} for _, data, strobe in writes]),
        bench.sending("ar", [{"addr": 4 * address} for address in reads]),
        bench.taking("b", ["resp"], answers),
        bench.taking("r", ["data", "resp"], words),
    ):
        simulator.add_testbench(process, background=True)
    simulator.add_testbench(main)
    simulator.run()

    assert answers == [[2 if address == REFUSED else 0] for address, *_ in writes]
    # Replay the accesses in the order in which they reached the registers.
    to_write, to_read, replayed = deque(writes), deque(zip(reads, words, strict=True)), list(before)
    for write, address, _ in bench.log:
        if write:
            wanted, data, strobe = to_write.popleft()
            if address != REFUSED:
                for byte in range(4):
                    if strobe >> byte & 1:
                        replayed[address] = replayed[address] & ~(255 << 8 * byte) | data & 255 << 8 * byte
        else:
            wanted, (word, response) = to_read.popleft()
            assert response == (2 if address == REFUSED else 0)
            assert word == replayed[address]
        assert wanted == address
    assert not to_write and not to_read
    assert replayed == bench.registers


def test_neither_direction_starves_the_other():
    bench = Master(1, 0)
    answers, words = [], []

    async def main(ctx):
        for _ in range(400):
            await ctx.tick()

    simulator = Simulator(bench.dut)
    simulator.add_clock(1e-6)
    for process in (
        bench.serve,
        bench.sending("aw", [{"addr": 0}] * 1000),
        bench.sending("w", [{"data": 1, "strb": 15}] * 1000),
        bench.sending("ar", [{"addr": 4}] * 1000),
        bench.taking("b", ["resp"], answers),
        bench.taking("r", ["data"], words),
    ):
        simulator.add_testbench(process, background=True)
    simulator.add_testbench(main)
    simulator.run()
    assert abs(len(answers) - len(words)) <= 1
    assert len(answers) > 30


@pytest.mark.parametrize(
    ("width", "error", "message"),
    [
        (2, ValueError, "address_width must be in 3..64, not 2"),
        ("6", TypeError, "address_width must be an integer, not '6'"),
    ],
)
def test_rejects(width, error, message):
    found = refusal(LiteSlave, width)
    assert (type(found), str(found)) == (error, message)


@pytest.mark.synth
def test_verilog_is_clean():
    assert not complaints(LiteSlave(12))
