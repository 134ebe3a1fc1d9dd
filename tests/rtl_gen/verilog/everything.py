"""A unit of whatever the emitter must cope with."""

from amaranth.hdl import Array, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.parameters import Parameters
from hw import payloads
from hw.units.unit import Unit


class Leaf(wiring.Component):
    """y = 3a + a / 4: equal in every instance."""

    def __init__(self):
        super().__init__({"a": In(signed(5)), "y": Out(signed(11))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.y.eq(self.a * 3 + (self.a >> 2))
        return m


class Tile(wiring.Component):
    """Adds what it holds to what comes in."""

    def __init__(self):
        super().__init__({"a": In(8), "y": Out(8)})

    def elaborate(self, platform):
        m = Module()
        held = Signal(8)
        m.d.sync += held.eq(held + self.a)
        m.d.comb += self.y.eq(held ^ self.a)
        return m


class Tiles(wiring.Component):
    """A row of equal tiles."""

    def __init__(self, count):
        self.count = count
        super().__init__({"a": In(8), "y": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = self.a
        for number in range(self.count):
            m.submodules[f"tile{number}"] = tile = Tile()
            m.d.comb += tile.a.eq(value)
            value = tile.y
        m.d.comb += self.y.eq(value)
        return m


class Everything(Unit):
    """Payloads, submodules, a memory, a state machine, an array, keywords as names, unnamed registers, dead logic."""

    name = "everything"
    summary = "whatever the emitter must cope with"
    latency = 3
    throughput = "one group per clock"

    def _members(self, parameters: Parameters) -> dict:
        group = payloads.delta_group(parameters)
        return {
            "i": In(stream.Signature(group)),
            "o": Out(stream.Signature(group)),
            "status": Out(data.StructLayout({"busy": 1, "overflow": 1})),
            "level": Out(signed(4)),
            "clear": In(1),
        }

    def elaborate(self, platform):
        m = Module()
        group = payloads.delta_group(self.parameters)
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=group.size, depth=8)
        total = 0
        for lane in range(self.parameters.lanes):
            m.submodules[f"leaf{lane}"] = leaf = Leaf()
            m.d.comb += leaf.a.eq(self.i.p.digits[lane])
            total = total + leaf.y
        case = Signal(signed(16))
        never_read = Signal(8)
        m.d.sync += [case.eq(total), never_read.eq(never_read + case)]
        view = Signal(group)
        out = Signal(group)
        m.d.comb += [
            view.eq(queue.r_data),
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            queue.r_en.eq(~self.o.valid | self.o.ready),
        ]
        exponent = view.exponent
        m.d.comb += [
            out.eq(view),
            out.digits[0].eq(Mux(case > 3, view.digits[1], -view.digits[2])),
            out.digits[exponent[:2]].eq(view.digits[exponent[:2]]),
        ]
        with m.If(queue.r_en):
            m.d.sync += [self.o.valid.eq(queue.r_rdy), self.o.payload.eq(out)]
        with m.FSM(name="control"):
            with m.State("Idle"):
                with m.If(self.i.valid):
                    m.next = "Busy"
            with m.State("Busy"):
                m.d.comb += self.status.busy.eq(view.exponent[0:0].all())
                with m.Switch(self.i.p.exponent):
                    with m.Case("00--01", 3):
                        m.d.sync += self.status.overflow.eq(1)
                    with m.Default():
                        m.next = "Idle"
        with m.If(self.clear):
            m.d.sync += self.status.overflow.eq(0)
        m.submodules.store = store = memory.Memory(shape=unsigned(8), depth=16, init=[1, 2, 3])
        read = store.read_port()
        write = store.write_port(granularity=4)
        m.d.comb += [
            read.addr.eq(case[:4]),
            read.en.eq(1),
            write.addr.eq(case[1:5]),
            write.data.eq(read.data + 1),
            write.en.eq(self.clear.replicate(2)),
        ]
        rows = Array([Signal(4, name=f"row{number}") for number in range(3)])
        m.d.sync += rows[case[0:2]].eq(read.data[4:])
        with m.If(case[2:4].bit_select(case[0], 1)):
            m.d.sync += rows[0].eq(rows[1].rotate_left(1) + rows[2])
        with m.If(self.clear):
            m.d.comb += self.level.eq(7)
        # An assignment after a decision, and one that overrides a part of it.
        m.d.comb += self.level[:3].eq(rows[0] - 1)
        m.d.comb += self.level[0].eq(rows[1].any() & ~rows[2][0:0].any())
        return m
