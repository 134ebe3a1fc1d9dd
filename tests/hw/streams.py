"""The test verbs of every Amaranth test: put, get and assert on streams, and whole exchanges under back-pressure.

Values are plain Python everywhere: a struct is a dict, an array a list, anything else an integer.
"""

import dataclasses
import gc
import random
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Shape, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

PATTERNS = ("none", "idle", "back_pressure", "both")
"""Which side of an exchange hesitates: no one, the producer, the consumer, both."""


def pack(shape: Any, value: Any) -> int:
    """Bits of a plain value of this shape; fields left out of a dict are 0."""
    if isinstance(shape, data.StructLayout):
        unknown = set(value) - set(shape.members)
        if unknown:
            raise KeyError(f"no field {', '.join(sorted(unknown))} in {shape!r}")
        return sum(pack(shape[name].shape, item) << shape[name].offset for name, item in value.items())
    if isinstance(shape, data.ArrayLayout):
        if len(value) != shape.length:
            raise ValueError(f"an array of {shape.length} takes as many values, not {len(value)}")
        width = Shape.cast(shape.elem_shape).width
        return sum(pack(shape.elem_shape, item) << (index * width) for index, item in enumerate(value))
    value = int(value)
    bits = Shape.cast(shape)
    if Const(value, bits).value != value:
        raise ValueError(f"{value} does not fit {bits!r}")
    return value & ((1 << bits.width) - 1)


def unpack(shape: Any, bits: int) -> Any:
    """The plain value of some bits; inverse of `pack`."""
    if isinstance(shape, data.StructLayout):
        return {name: unpack(field.shape, bits >> field.offset & (1 << field.width) - 1) for name, field in shape}
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        return [unpack(shape.elem_shape, bits >> (index * width) & (1 << width) - 1) for index in range(shape.length)]
    return Const(bits, Shape.cast(shape)).value


def inspect(elaboratable: Any) -> Any:
    """Mark as used what a test only looks at; Amaranth warns of components that were made and never elaborated."""
    elaboratable._MustUse__used = True
    return elaboratable


def refusal(kind: Callable[..., Any], *arguments: Any) -> Exception:
    """What a constructor raises, free of the half-made component (which Amaranth would warn of, whenever it goes)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Exception = AssertionError(f"{kind.__name__} took {arguments}")
        try:
            inspect(kind(*arguments))
        except (TypeError, ValueError) as error:
            result = type(error)(*error.args)
        gc.collect()
    return result


def shape_of(stream: Any) -> Any:
    """Shape of a stream's payload."""
    return stream.payload.shape()


def _bits(stream: Any) -> Any:
    payload = stream.payload
    return payload.as_value() if isinstance(payload, data.View) else payload.as_unsigned()


async def stream_put(ctx: Any, stream: Any, value: Any) -> None:
    """Offer one payload until it is taken."""
    ctx.set(stream.valid, 1)
    ctx.set(_bits(stream), pack(shape_of(stream), value))
    await ctx.tick().until(stream.ready)
    ctx.set(stream.valid, 0)


async def stream_get(ctx: Any, stream: Any) -> Any:
    """Take one payload, as a plain value."""
    ctx.set(stream.ready, 1)
    (bits,) = await ctx.tick().sample(_bits(stream)).until(stream.valid)
    ctx.set(stream.ready, 0)
    return unpack(shape_of(stream), bits)


async def stream_assert(ctx: Any, stream: Any, expected: Any) -> None:
    """Take one payload and compare it; fields left out of a dict are expected to be 0."""
    shape = shape_of(stream)
    got = await stream_get(ctx, stream)
    expected = unpack(shape, pack(shape, expected))
    assert got == expected, f"got {got}, expected {expected}"


@dataclasses.dataclass
class Exchange:
    """What came of an exchange: outputs, when inputs were taken and outputs left (clock numbers), ports at the end."""

    outputs: list
    taken: list[int]
    left: list[int]
    ports: dict[str, int]


def exchange(
    dut: Any,
    inputs: Iterable[Any],
    *,
    pattern: str = "none",
    seed: int = 1,
    outputs: int | None = None,
    ports: Mapping[str, Any] | None = None,
    watch: Iterable[str] = (),
    idle: int = 40,
    limit: int = 20_000,
    wrap: Callable[[Any], Any] | None = None,
) -> Exchange:
    """Send `inputs` into ``dut.i`` and collect ``dut.o`` until `outputs` payloads came and `idle` quiet clocks passed.

    Fails when a payload changes or disappears while it waits, when more payloads come, or when `limit` clocks pass.

    Parameters
    ----------
    dut : component
        With streams ``i`` and ``o``.
    inputs : iterable
        Plain payloads.
    pattern : str
        One of `PATTERNS`.
    outputs : int, optional
        Payloads expected (default: as many as inputs).
    ports : mapping, optional
        Plain input ports to set before the first clock.
    watch : iterable of str
        Plain output ports to read at the end.
    wrap : function, optional
        Elaboratable to simulate instead of `dut` (a module around it).
    """
    assert pattern in PATTERNS, pattern
    inputs = list(inputs)
    expected = len(inputs) if outputs is None else outputs
    shape_i, shape_o = shape_of(dut.i), shape_of(dut.o)
    hesitates = random.Random(seed)
    result = Exchange([], [], [], {})
    clock = 0

    async def run(ctx: Any) -> None:
        nonlocal clock
        for name, value in (ports or {}).items():
            port = getattr(dut, name)
            if isinstance(port, data.View):
                ctx.set(port.as_value(), pack(port.shape(), value))
            else:
                ctx.set(port, value)
        waiting, offered, held, quiet = list(inputs), False, None, 0
        ready = 0
        while len(result.outputs) < expected or quiet < idle or waiting or offered:
            if waiting and not offered and not (pattern in ("idle", "both") and hesitates.random() < 0.5):
                ctx.set(_bits(dut.i), pack(shape_i, waiting.pop(0)))
                offered = True
            ctx.set(dut.i.valid, offered)
            ready = int(not (pattern in ("back_pressure", "both") and hesitates.random() < 0.5))
            ctx.set(dut.o.ready, ready)
            _, _, valid, bits, taken = await ctx.tick().sample(dut.o.valid, _bits(dut.o), dut.i.ready)
            if held is not None:
                assert valid, f"clock {clock}: a waiting payload disappeared"
                assert bits == held, f"clock {clock}: a waiting payload changed"
            held = bits if valid and not ready else None
            if offered and taken:
                result.taken.append(clock)
                offered = False
            if valid and ready:
                result.outputs.append(unpack(shape_o, bits))
                result.left.append(clock)
                assert len(result.outputs) <= expected, f"clock {clock}: more than {expected} payloads came"
            done = not waiting and not offered and not valid and len(result.outputs) >= expected
            quiet = quiet + 1 if done else 0
            clock += 1
            assert clock < limit, f"{len(result.outputs)} of {expected} payloads after {clock} clocks"
        for name in watch:
            result.ports[name] = ctx.get(getattr(dut, name))

    simulator = Simulator(wrap(dut) if wrap else dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
    return result


def counted(dut: Any, *events: str) -> Callable[[Any], Any]:
    """A `wrap` of `exchange`: the port ``seen_EVENT`` has the clocks in which that output of `dut` was high."""
    for event in events:
        setattr(dut, f"seen_{event}", Signal(16))

    def wrap(_: Any) -> Module:
        m = Module()
        m.submodules.dut = dut
        for event in events:
            count = getattr(dut, f"seen_{event}")
            m.d.sync += count.eq(count + getattr(dut, event))
        return m

    return wrap


def fed(dut: Any, seed: int, **feeds: list[Any]) -> Callable[[Any], Any]:
    """A `wrap` of `exchange`: payloads go into further streams of `dut` with pauses, each stream after the one before.

    Parameters
    ----------
    dut : component
        With those streams as inputs.
    seed : int
        Of the pauses.
    feeds : lists of plain payloads
        By the name of their stream.
    """

    def wrap(_: Any) -> Module:
        m = Module()
        m.submodules.dut = dut
        pauses, begins = Signal(16, init=seed % 0xFFFF + 1), Const(1, 1)
        m.d.sync += pauses.eq((pauses >> 1) ^ Mux(pauses[0], 0xB400, 0))
        for name, payloads in feeds.items():
            port, taken, shown = getattr(dut, name), Signal(range(len(payloads) + 1)), Signal()
            words = Array(
                Const(pack(shape_of(port), payload), len(_bits(port))) for payload in [*payloads, payloads[0]]
            )
            m.d.comb += [port.valid.eq(shown & (taken != len(payloads))), _bits(port).eq(words[taken])]
            m.d.sync += shown.eq((shown & ~port.ready) | (pauses[0] & begins))
            with m.If(port.valid & port.ready):
                m.d.sync += taken.eq(taken + 1)
            begins = taken == len(payloads)
        return m

    return wrap
