"""A memory behind AXI4 for Amaranth's simulator: it draws when it answers, checks the master, and can refuse a beat."""

import random
from collections import deque

from hw.bus.axi import BOUNDARY


class AxiMemory:
    """Processes that serve an AXI4 interface from a bytearray.

    Parameters
    ----------
    bus : interface
        Of the master, as seen from outside.
    memory : bytearray
        What it holds.
    hesitates : float
        How likely a channel is not ready, or has nothing, in a clock.
    latency : int
        Clocks from an address to its first beat, or from the last beat to the answer.
    faults : mapping of (str, int) to int
        Response to a beat that is read, ``("read", number)``, or to a burst that is written, ``("write", number)``.
    """

    def __init__(self, bus, memory, *, seed=1, hesitates=0.0, latency=2, faults=None):
        self.bus, self.memory, self.latency = bus, memory, latency
        self.draw, self.hesitates, self.faults = random.Random(seed), hesitates, faults or {}
        self.width = len(bus.rdata) // 8
        self.clock = self.beats_read = self.bursts_written = self.words_written = 0
        self.asked, self.to_write, self.words, self.to_answer = deque(), deque(), deque(), deque()
        self.addresses = []
        """Kind, address and beats of each burst, in the order of their addresses."""

    def _goes(self):
        return self.draw.random() >= self.hesitates

    def _check(self, kind, address, length, size, burst):
        assert burst == 1, "only INCR"
        assert 8 << size == len(self.bus.rdata), "whole words"
        assert address % self.width == 0
        assert address // BOUNDARY == (address + length * self.width) // BOUNDARY, "a burst crosses 4 KiB"
        assert length < 16
        self.addresses.append((kind, address, length + 1))

    async def run(self, ctx):
        """Serve all channels, a clock after the other."""
        bus, held = self.bus, {}
        while True:
            self.clock += 1
            # What is offered stays until it is taken.
            reading = bool(self.asked and self.asked[0][0] <= self.clock)
            if not ctx.get(bus.rvalid) or held.get("r_taken", True):
                offered = reading and self._goes()
                ctx.set(bus.rvalid, offered)
                if offered:
                    _, address, left = self.asked[0]
                    ctx.set(bus.rdata, int.from_bytes(self.memory[address : address + self.width], "little"))
                    ctx.set(bus.rlast, left == 0)
                    ctx.set(bus.rresp, self.faults.get(("read", self.beats_read), 0))
            if not ctx.get(bus.bvalid) or held.get("b_taken", True):
                answering = bool(self.to_answer and self.to_answer[0] <= self.clock) and self._goes()
                ctx.set(bus.bvalid, answering)
                ctx.set(bus.bresp, self.faults.get(("write", self.bursts_written), 0))
            for ready in (bus.arready, bus.awready, bus.wready):
                ctx.set(ready, self._goes())
            sampled = await ctx.tick().sample(
                *(bus.arvalid, bus.arready, bus.araddr, bus.arlen, bus.arsize, bus.arburst),
                *(bus.awvalid, bus.awready, bus.awaddr, bus.awlen, bus.awsize, bus.awburst),
                *(bus.wvalid, bus.wready, bus.wdata, bus.wstrb, bus.wlast),
                *(bus.rvalid, bus.rready, bus.bvalid, bus.bready),
            )
            ar, aw, w, (rvalid, rready, bvalid, bready) = sampled[2:8], sampled[8:14], sampled[14:19], sampled[19:]
            for name, (valid, ready, *payload) in (("ar", ar), ("aw", aw), ("w", w)):
                before = held.get(name)
                assert before is None or (valid and payload == before), f"{name} changed while it waited"
                held[name] = payload if valid and not ready else None
            held["r_taken"], held["b_taken"] = bool(rvalid and rready), bool(bvalid and bready)
            if rvalid and rready:
                self.beats_read += 1
                at, address, left = self.asked.popleft()
                if left:
                    self.asked.appendleft((at, address + self.width, left - 1))
            if bvalid and bready:
                self.bursts_written += 1
                self.to_answer.popleft()
            if ar[0] and ar[1]:
                self._check("read", *ar[2:])
                self.asked.append((self.clock + self.latency, ar[2], ar[3]))
            if aw[0] and aw[1]:
                self._check("write", *aw[2:])
                self.to_write.append([aw[2], aw[3]])
            if w[0] and w[1]:
                self.words_written += 1
                self.words.append(w[2:])
            self._write()

    def _write(self):
        """Words of bursts whose address has come; a word may come before."""
        while self.to_write and self.words:
            (address, left), (word, strobe, last) = self.to_write[0], self.words.popleft()
            for byte in range(self.width):
                if strobe >> byte & 1:
                    self.memory[address + byte] = word >> 8 * byte & 255
            assert last == (left == 0), "wlast must mark the last beat, and no other"
            if last:
                self.to_write.popleft()
                self.to_answer.append(self.clock + self.latency)
            else:
                self.to_write[0] = [address + self.width, left - 1]

    @property
    def quiet(self):
        """Whether nothing is outstanding."""
        return not (self.asked or self.to_write or self.words or self.to_answer)
