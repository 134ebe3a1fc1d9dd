"""The group of a dense machine: n FP16 values times n FP16 weights, the smallest form the same parts make.

The *anchor* is the largest product exponent of a group; every product is aligned to it and cut at the end of a fixed
number of bits, the *kept* bits.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.accumulate import ACCUMULATE_CUTS, round_and_accumulate
from hw.arith.bits import named
from hw.arith.float import FLOAT16
from hw.arith.path import Path, parallel, run, wait
from hw.arith.shift import saturate_amount
from hw.arith.sums import Term, add_terms, levels
from hw.stream import Pipeline

__all__ = ["DenseGroup"]

_PRODUCT_WIDTH = 22
_SCALE_WIDTH = 9


class DenseGroup(wiring.Component):
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
    def latency(self) -> int:
        """Clocks from an accepted group to the sum it causes."""
        return min(self._cuts, self._depth)

    @property
    def _cuts(self) -> int:
        return 4 + 2 * levels(self._lanes) + ACCUMULATE_CUTS

    @property
    def _sum_width(self) -> int:
        return (((1 << self._kept) - 1) * self._lanes).bit_length() + 1

    def elaborate(self, platform: object) -> Module:
        """Multiply, align, sum and accumulate."""
        m = Module()
        pipe = Pipeline(m, self.i, self.o, cuts=self._cuts, depth=self._depth)
        payload = self.i.p
        offset, amount_width = self._amount
        state = run(
            pipe,
            parallel(
                flags=wait(0, first=payload.first, last=payload.last, poison=Const(0, 1)),
                sum=self._sum(m, platform, payload, offset, amount_width),
            ),
        )
        events = round_and_accumulate(
            m, platform, pipe, **state["sum"], offset=offset, width=self._accumulator_width, **state["flags"]
        )
        with m.If(self.clear):
            m.d.sync += self.overflow.eq(0)
        with m.If(events.clamped):
            m.d.sync += self.overflow.eq(1)
        return m

    @property
    def _amount(self) -> tuple[int, int]:
        """Offset and width of the final shift: the sum's LSB is ``2^(anchor - 50 - (kept - 22) + scale)``."""
        offset = max(self._sum_width, 50 + self._kept - _PRODUCT_WIDTH)
        return offset, (offset + self._accumulator_width).bit_length()

    def _sum(self, m: Module, platform: object, payload, offset: int, amount_width: int) -> Path:
        n = self._lanes
        pairs = [(payload.values[lane], payload.weights[lane]) for lane in range(n)]
        signs = [a[-1] ^ b[-1] for a, b in pairs]
        request = {"scale": payload.scale}
        for lane, (a, b) in enumerate(pairs):
            request |= {
                f"x{lane}": FLOAT16.significand(a),
                f"w{lane}": FLOAT16.significand(b),
                f"exponent{lane}": FLOAT16.field(a) + FLOAT16.field(b),
                f"flip{lane}": signs[lane],
            }
        s = yield request
        exponents = [s[f"exponent{lane}"] for lane in range(n)]
        found = yield from parallel(
            anchor=_largest(m, exponents),
            rest=wait(
                0,
                scale=s["scale"],
                **{f"exponent{lane}": exponents[lane] for lane in range(n)},
                **{f"flip{lane}": s[f"flip{lane}"] for lane in range(n)},
            ),
            **{f"lane{lane}": _multiply(s[f"x{lane}"], s[f"w{lane}"]) for lane in range(n)},
        )
        anchor, rest = found["anchor"]["largest"], found["rest"]
        # Distances beyond the kept bits all lose the whole product; 32 and more are told from their upper bits.
        request = {"raw": named(m, "raw_amount", anchor + rest["scale"])}
        for lane in range(n):
            distance = named(m, f"distance{lane}", (anchor - rest[f"exponent{lane}"])[:6])
            request |= {
                f"distance{lane}": distance,
                f"product{lane}": found[f"lane{lane}"]["product"],
                f"flip{lane}": rest[f"flip{lane}"],
            }
        s = yield request
        bias = offset - (50 + self._kept - _PRODUCT_WIDTH)
        raw = named(m, "biased_amount", s["raw"] + bias) if bias else s["raw"]
        aligned = {}
        for lane in range(n):
            product = Cat(Const(0, self._kept - _PRODUCT_WIDTH), s[f"product{lane}"])
            aligned[f"lane{lane}"] = _align(m, f"lane{lane}", product, s[f"distance{lane}"], s[f"flip{lane}"])
        found = yield from parallel(
            amount=_saturate(m, raw, amount_width),
            **aligned,
        )
        limit = (1 << self._kept) - 1
        terms = [Term(found[f"lane{lane}"]["value"], limit, found[f"lane{lane}"]["flip"]) for lane in range(n)]
        total = yield from parallel(amount=wait(0, **found["amount"]), total=add_terms(m, platform, "tree", terms))
        return {**total["amount"], **total["total"]}


def _multiply(x: Value, w: Value) -> Path:
    return (yield {"product": x * w})


def _largest(m: Module, values: list[Value]) -> Path:
    level = 0
    while len(values) > 1:
        level += 1
        request = {}
        for index in range(0, len(values), 2):
            pair = values[index : index + 2]
            larger = Mux(pair[0] > pair[-1], pair[0], pair[-1]) if len(pair) == 2 else pair[0]
            request[f"level{level}_{index // 2}"] = larger
        values = list((yield request).values())
    return {"largest": values[0]}


def _saturate(m: Module, raw: Value, width: int) -> Path:
    return (yield {"amount": saturate_amount(m, "amount", raw, width)})


def _align(m: Module, name: str, product: Value, distance: Value, flip: Value) -> Path:
    """Shift right by the distance, zero from the product's width on."""
    width = len(product)
    for position in range(3):
        product = named(m, f"{name}_by{1 << position}", Mux(distance[position], product >> (1 << position), product))
    s = yield {"product": product, "distance": distance[3:], "flip": flip}
    product, distance = s["product"], s["distance"]
    for position in range(3):
        step = 8 << position
        shifted = product[step:] if step < width else Const(0, 1)
        product = named(m, f"{name}_by{step}", Mux(distance[position], shifted, product)[:width])
    return (yield {"value": Cat(product, Const(0, 1)).as_signed(), "flip": s["flip"]})
