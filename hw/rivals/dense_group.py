"""The group of a dense machine: n FP16 values times n FP16 weights, the smallest form the same parts make.

The *anchor* is the largest product exponent of a group; every product is aligned to it and cut at the end of a fixed
number of bits, the *kept* bits.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.arith.accumulate import round_and_accumulate
from hw.arith.bits import named
from hw.arith.float import FLOAT16
from hw.arith.shift import saturate_amount
from hw.arith.sums import Term, add_terms
from hw.stream import Pipelined, Stage

_PRODUCT_WIDTH = 22
_SCALE_WIDTH = 9


class DenseGroup(Pipelined):
    """Sums n products of FP16 numbers and accumulates the sums: the rival of `MultiplierGroup`.

    ::

        significands --> multiply --> align to the anchor --> tree --> shift by anchor and scale --> accumulate
        exponents ----> add -----> anchor, distances --^

    Not exact: a product loses the bits that fall out of the `kept` bits below the anchor. One multiplier (a DSP block)
    for each lane. Non-finite operands are outside its contract.

    Latency: see `latency`. Throughput: one group per clock.

    Parameters
    ----------
    lanes : int
        n, 2..64.
    kept : int
        Bits that a product is aligned in, 22..48.
    accumulator_width : int
        Bits of the accumulator, 16..128.
    depth : int
        At most this many register stages.

    Members
    -------
    i : In(stream)
        ``{first, last, scale, values, weights}``: the accumulator's LSB is ``2^-scale``.
    o : Out(stream)
        The accumulator after each group marked ``last``.
    clear : In(1)
        Clears `overflow`.
    overflow : Out(1)
        Sticky: the accumulator was clamped.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(self, *, lanes: int, kept: int = 32, accumulator_width: int = 32, depth: int = 16):
        for name, value, low, high in (
            ("lanes", lanes, 2, 64),
            ("kept", kept, _PRODUCT_WIDTH, 48),
            ("accumulator_width", accumulator_width, 16, 128),
            ("depth", depth, 1, 64),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must be in {low}..{high}, not {value}")
        self._lanes, self._kept, self._accumulator_width, self._depth = lanes, kept, accumulator_width, depth
        operands = data.ArrayLayout(16, lanes)
        super().__init__(
            {
                "i": In(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "first": 1,
                                "last": 1,
                                "scale": signed(_SCALE_WIDTH),
                                "values": operands,
                                "weights": operands,
                            }
                        )
                    )
                ),
                "o": Out(stream.Signature(signed(accumulator_width))),
                "clear": In(1),
                "overflow": Out(1),
            }
        )

    @property
    def _sum_width(self) -> int:
        return (((1 << self._kept) - 1) * self._lanes).bit_length() + 1

    @property
    def _amount(self) -> tuple[int, int]:
        """Offset and width of the final shift: the sum's LSB is ``2^(anchor - 50 - (kept - 22) + scale)``."""
        offset = max(self._sum_width, 50 + self._kept - _PRODUCT_WIDTH)
        return offset, (offset + self._accumulator_width).bit_length()

    def _describe(self, m: Module, platform: object) -> int:
        p, (offset, _) = self.i.p, self._amount
        s = Stage.begin(m, self.i)
        s.first, s.last, s.poison, s.scale = p.first, p.last, Const(0, 1), p.scale
        s = self._sum(s, platform)
        value, flip = s.total.value, s.total.flip
        result = round_and_accumulate(
            s, platform, value=value, flip=flip, amount=s.amount, offset=offset, width=self._accumulator_width
        )
        with m.If(self.clear):
            m.d.sync += self.overflow.eq(0)
        with m.If(result.clamped):
            m.d.sync += self.overflow.eq(1)
        return result.stage.finish(self.o, result.stage.sum, depth=self._depth)

    def _sum(self, s: Stage, platform: object) -> Stage:
        """The sum of the aligned products, `total`, and the `amount` to shift it by."""
        pairs = list(zip(self.i.p.values, self.i.p.weights, strict=True))
        s.flips = Cat(a[-1] ^ b[-1] for a, b in pairs)
        s.x, s.w = [FLOAT16.significand(a) for a, _ in pairs], [FLOAT16.significand(b) for _, b in pairs]
        s.exponents = [FLOAT16.field(a) + FLOAT16.field(b) for a, b in pairs]

        s = s.cut()
        s.products = [x * w for x, w in zip(s.x, s.w, strict=True)]
        s.largest = s.exponents
        while len(s.largest) > 1:
            pairs = [s.largest[index : index + 2] for index in range(0, len(s.largest), 2)]
            s.largest = [Mux(pair[0] > pair[-1], pair[0], pair[-1]) for pair in pairs]
            s = s.cut()
        anchor = s.largest[0]
        s.raw = anchor + s.scale
        # Distances beyond the kept bits all lose the whole product; 32 and more are told from their upper bits.
        s.distances = [(anchor - exponent)[:6] for exponent in s.exponents]

        s = s.cut()
        offset, amount_width = self._amount
        bias = offset - (50 + self._kept - _PRODUCT_WIDTH)
        raw = named(s.m, "biased_amount", s.raw + bias) if bias else s.raw
        s.amount = saturate_amount(s.m, "amount", raw, amount_width)
        s.aligned = [Cat(Const(0, self._kept - _PRODUCT_WIDTH), product) for product in s.products]
        for low in (0, 3):
            s.aligned = [
                _shift_right(s.m, f"lane{lane}", product, distance[low : low + 3], 1 << low)
                for lane, (product, distance) in enumerate(zip(s.aligned, s.distances, strict=True))
            ]
            s = s.cut()
        terms, limit = zip(s.aligned, s.flips, strict=True), (1 << self._kept) - 1
        return add_terms(
            s, platform, [Term(Cat(product, Const(0, 1)).as_signed(), limit, flip) for product, flip in terms]
        )


def _shift_right(m: Module, name: str, value: Value, amount: Value, unit: int) -> Value:
    """``value >> amount * unit``."""
    width = len(value)
    for position in range(len(amount)):
        step = unit << position
        shifted = value[step:] if step < width else Const(0, 1)
        value = named(m, f"{name}_by{step}", Mux(amount[position], shifted, value)[:width])
    return value
