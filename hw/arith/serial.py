"""Products and quotients a bit or a few a clock, for what is seldom needed: counts, addresses, a product of a set."""

from amaranth.hdl import Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """``a * b`` by shifts and adds, one pair at a time.

    Latency: 1 clock, and 1 for every `step` bits of `b` up to its highest one.

    Parameters
    ----------
    a : Shape or int
        Shape of the first factor.
    b_width : int
        Bits of the second one, which is unsigned.
    step : int
        Bits of it a clock.

    Members
    -------
    i : In(stream of a and b)
        Factors.
    o : Out(stream)
        Product, of as many bits as both factors have.
    """

    def __init__(self, a: Shape | int, b_width: int, *, step: int = 1):
        a = Shape.cast(a)
        self._product = Shape(a.width + b_width, a.signed)
        self._step = step
        factors = data.StructLayout({"a": a, "b": b_width})
        super().__init__({"i": In(stream.Signature(factors)), "o": Out(stream.Signature(self._product))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        addend = Signal(self._product)
        left = Signal(len(self.i.p.b))
        busy = Signal()
        m.d.comb += [self.i.ready.eq(~busy), self.o.valid.eq(busy & (left == 0))]
        with m.If(~busy):
            m.d.sync += [busy.eq(self.i.valid), addend.eq(self.i.p.a), left.eq(self.i.p.b), self.o.payload.eq(0)]
        with m.Elif(left != 0):
            terms = sum(Mux(left[bit], addend << bit, 0) for bit in range(min(self._step, len(left))))
            m.d.sync += [
                addend.eq(addend << self._step),
                left.eq(left >> self._step),
                self.o.payload.eq(self.o.payload + terms),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)
        return m


class Divider(wiring.Component):
    """Quotient and rest by a constant, one number at a time.

    Latency: 1 clock, and 1 for each bit of the number; 1 clock for a power of two.

    Parameters
    ----------
    width : int
        Bits of a number.
    divisor : int
        At least 1.

    Members
    -------
    i : In(stream of `width` bits)
        Numbers.
    o : Out(stream of quotient and rest)
        What they come to.

    Raises
    ------
    ValueError
        If `divisor` is below 1.
    """

    def __init__(self, width: int, divisor: int):
        if divisor < 1:
            raise ValueError(f"Divisor must be at least 1, not {divisor}")
        self._divisor = divisor
        result = data.StructLayout({"quotient": width, "rest": (divisor - 1).bit_length()})
        super().__init__({"i": In(stream.Signature(unsigned(width))), "o": Out(stream.Signature(result))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        number, result = self.i.payload, self.o.p
        width, places = len(number), len(result.rest)
        power = self._divisor == 1 << places
        busy = Signal()
        # Bits of the number leave above while those of the quotient come in below.
        left = Signal(range(width + 1))
        m.d.comb += [self.i.ready.eq(~busy), self.o.valid.eq(busy & (left == 0))]
        with m.If(~busy):
            m.d.sync += busy.eq(self.i.valid)
            if power:
                m.d.sync += [result.quotient.eq(number >> places), result.rest.eq(number[:places])]
            else:
                m.d.sync += [left.eq(width), result.quotient.eq(number), result.rest.eq(0)]
        with m.Elif(left != 0):
            if not power:
                rest = Signal(places + 1)
                difference = Signal(signed(places + 2))
                fits = difference >= 0
                m.d.comb += [
                    rest.eq((result.rest << 1) | result.quotient[-1]),
                    difference.eq(rest - self._divisor),
                ]
                m.d.sync += [
                    left.eq(left - 1),
                    result.rest.eq(Mux(fits, difference, rest)),
                    result.quotient.eq((result.quotient << 1) | fits),
                ]
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)
        return m


class Quotient(wiring.Component):
    """``RNE(number / divisor)``, one pair at a time.

    Latency: 2 clocks, and 1 for each bit of the number.

    Parameters
    ----------
    width, divisor_width : int
        Bits of the number and of the divisor; both are unsigned.

    Members
    -------
    i : In(stream of number and divisor)
        The divisor is at least 1.
    o : Out(stream of `width` bits)
        The nearest integer, of two the even one.
    """

    def __init__(self, width: int, divisor_width: int):
        given = data.StructLayout({"number": width, "divisor": divisor_width})
        super().__init__({"i": In(stream.Signature(given)), "o": Out(stream.Signature(unsigned(width)))})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        width, divisor_width = len(self.i.p.number), len(self.i.p.divisor)
        # A place more than the quotient has, for the half. Its bits come in below while those of the number leave.
        number = Signal(width + 1)
        divisor = Signal(divisor_width)
        rest = Signal(divisor_width)
        left = Signal(range(width + 2))
        busy = Signal()
        doubled = Signal(divisor_width + 1)
        difference = Signal(signed(divisor_width + 2))
        fits = difference >= 0
        m.d.comb += [
            doubled.eq((rest << 1) | number[-1]),
            difference.eq(doubled - divisor),
            self.i.ready.eq(~busy),
            self.o.valid.eq(busy & (left == 0)),
            self.o.payload.eq(number[1:] + (number[0] & (rest.any() | number[1]))),
        ]
        with m.If(~busy):
            m.d.sync += [busy.eq(self.i.valid), number.eq(self.i.p.number << 1), divisor.eq(self.i.p.divisor)]
            m.d.sync += [rest.eq(0), left.eq(width + 1)]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                number.eq((number << 1) | fits),
                rest.eq(Mux(fits, difference, doubled)),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += busy.eq(0)
        return m
