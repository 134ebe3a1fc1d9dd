"""Whether the fields of a `Multiply` keep its rules, found with one multiplier."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.machine.command import Multiply
from golden.parameters import Parameters
from hw.arith.bits import looked_up, named, or_tree
from hw.control.engine import CAUSE_WIDTH, Fields, cause, operation
from hw.part import Part


def tile_key(parameters: Parameters) -> data.StructLayout:
    """What all parts of a tile have in common: `rows` minus 1, `positions`, `collected`."""
    positions = range(parameters.tile_words + 1)
    return data.StructLayout({"rows": 8, "positions": positions, "collected": range(parameters.lanes + 1)})


class MultiplyCheck(Part):
    """Checks the fields of an operation, a product per clock.

    Latency: `latency` clocks from `start` to the verdict, 4 to `positions`.

    Parameters
    ----------
    parameters : Parameters
        Uses ``rows``, ``columns``, ``lanes``, ``digit_width``, ``tile_positions`` and the sizes of the buffers.

    Members
    -------
    operation : In
        A `Multiply`, from `start` on until the next.
    start : In(1)
        First clock of the operation.
    open : In(1)
        It is a further part of a tile,
    key : In(`tile_key`)
        whose parts have this in common.
    counted, positions : Out
        Whether `positions` is there: lines times columns.
    passed : Out(1)
        The operation keeps all rules.
    cause : Out(4)
        Cause of the error, if it does not.
    """

    latency = 14

    def _members(self, parameters: Parameters) -> dict[str, Any]:
        return {
            "operation": In(operation("multiply", parameters.dataflows)),
            "start": In(1),
            "open": In(1),
            "key": In(tile_key(parameters)),
            "counted": Out(1),
            "positions": Out(tile_key(parameters)["positions"].shape),
            "passed": Out(1),
            "cause": Out(CAUSE_WIDTH),
        }

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        p, m, c = self._parameters, Module(), Fields(self.operation, Multiply)
        n, columns = p.lanes, p.columns
        clock, runs = Signal(range(self.latency + 1), name="clock"), Signal(name="runs")
        # It rests at 0, so that nothing but its first step waits for a start.
        last = named(m, "last_clock", clock == self.latency - 1)
        with m.If(self.start | runs):
            m.d.sync += [clock.eq(Mux(last, 0, clock + 1)), runs.eq(~last)]

        a, b, product = Signal(16, name="a"), Signal(16, name="b"), Signal(32, name="product")
        positions, taps, records = Signal(16, name="positions"), Signal(8, name="taps"), Signal(16, name="records")
        end, records_end, fits = Signal(28, name="end"), Signal(25, name="records_end"), Signal(name="fits")
        places = looked_up(m, "places", c.collected, [-(-channels // columns) for channels in range(n + 1)])
        more = end.eq(end + product)
        # A count of records that no buffer holds stays one.
        capped = product[:16] | product[16:].any().replicate(16)
        # Clock, factors, and what is done with the product two clocks later.
        steps = (
            (0, c.lines, c.columns, positions.eq(product)),
            (1, c.lines - 1, c.line_pitch, more),
            (2, c.columns - 1, c.column_pitch, more),
            (3, c.kernel_lines, c.kernel_columns, taps.eq(product)),
            (4, c.kernel_lines - 1, c.kernel_pitch, more),
            (5, c.kernel_columns - 1, c.tap_pitch, more),
            (6, c.groups, c.passes + 1, more),
            (7, c.groups, taps, records.eq(capped)),
            (8, positions, places, fits.eq(product <= p.tile_words)),
            (10, records, c.channels, records_end.eq(c.weights_at + product)),
        )
        if p.masks:
            scales_last = Signal(24, name="scales_last")
            steps = (*steps, (9, c.rows, c.scales_step, scales_last.eq(c.scales + product)))
            chained = named(m, "chained", c.leaves & c.leave)
            no_chain = chained & ((c.collected != n) | self._breaks_policy(c))
            beyond_scales = chained & (scales_last >= p.scale_buffer)
        m.d.sync += product.eq(a * b)
        with m.Switch(clock):
            for at, first, second, _ in steps:
                with m.Case(at):
                    m.d.sync += [a.eq(first), b.eq(second)]
        with m.Switch(clock):
            for at, _, _, use in steps:
                with m.Case(at + 2):
                    m.d.sync += use
        with m.If(self.start):
            m.d.sync += end.eq(c.at)

        none = [c.channels, c.lines, c.columns, c.kernel_lines, c.kernel_columns, c.groups]
        rules = [
            c.rows >= p.rows,
            *(value == 0 for value in none),
            c.first + c.channels > c.collected,
            c.collected > n,
            ~fits,
            c.floor > 42 - p.digit_width,
        ]
        beyond = (end > p.group_buffer) | (records_end > p.weight_buffer)
        other = (c.rows != self.key.rows) | (positions != self.key.positions) | (c.collected != self.key.collected)
        with m.If(self.start):
            m.d.sync += [self.counted.eq(0), self.passed.eq(0)]
        with m.Elif(clock == 3):
            m.d.sync += self.counted.eq(1)
        with m.Elif(last):
            field = or_tree(rules) | (~beyond & self.open & other)
            if p.masks:
                field = or_tree(rules) | (~beyond & (no_chain | (~beyond_scales & self.open & other)))
            with m.If(field):
                m.d.sync += self.cause.eq(cause("field"))
            with m.Elif(beyond | beyond_scales if p.masks else beyond):
                m.d.sync += self.cause.eq(cause("buffer"))
            with m.Else():
                m.d.sync += self.passed.eq(1)
        m.d.comb += self.positions.eq(positions)
        return m

    def _breaks_policy(self, c: Fields) -> Value:
        """Whether groups of a tile have exponents that the machine's policy does not know."""
        p = self._parameters
        if p.exponent_policy == "group":
            return c.static
        # A saturated lane leaves no residual that a further pass could send.
        return Const(0, 1) if p.replays else c.static & c.sent.any()
