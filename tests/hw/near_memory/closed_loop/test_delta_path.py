"""Differences become groups and Xhat: against the law, walked lane by lane on fractions, and against golden."""

import dataclasses
import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.parameters import preset
from golden.units.closed_loop import emit
from hw.near_memory.closed_loop.delta_path import DeltaPath
from tests.hw.streams import pack, shape_of, unpack

pytestmark = pytest.mark.unit

TINY = preset("tiny").with_settings(["state_width=18"])
MACHINES = {
    "tiny": [],
    "one row": ["near_lanes=4"],
    "one lane": ["near_lanes=1", "lanes=6", "outliers=3", "digit_width=4"],
    "no outliers": ["outliers=0", "digit_width=2", "state_width=16"],
    "widest": ["lanes=8", "outliers=8", "digit_width=8", "state_width=24"],
    "edge": ["lanes=16", "digit_width=3"],
    "wide rows": ["lanes=24", "near_lanes=8", "outliers=0", "digit_width=5"],
}


def half(value):
    """FP16 number nearest to ``value 2^-24``, in multiples of ``2^-24``; numpy rounds."""
    return int(Fraction(float(np.float16(value * 2.0**-24))) * 2**24)


def walk(x, held, p, passes, exact):
    """Groups ``(code, digits, {lane: FP16 pattern})`` of a vector and its new Xhat, as the law (12.10) says it."""
    k, m, poison = p.digit_width, p.outliers, -(1 << (p.state_width - 1))
    if poison in x or poison in held:
        return [(63, [0] * p.lanes, {})] * passes, [poison] * p.lanes
    largest = 2 ** (k - 1) - 1
    left = [a - b for a, b in zip(x, held, strict=True)]

    def overflows(code):
        return [lane for lane, d in enumerate(left) if abs(round(Fraction(d, 2**code))) > largest]

    code = next(code for code in range(43 - k) if len(overflows(code)) <= m)
    outliers = {lane: int(np.float16(left[lane] * 2.0**-24).view(np.uint16)) for lane in overflows(code)}
    new = list(held)
    for lane in outliers:
        new[lane] += half(left[lane])
        left[lane] = 0
    groups = []
    for _ in range(passes):
        digits = [round(Fraction(d, 2**code)) for d in left]
        left = [d - q * 2**code for d, q in zip(left, digits, strict=True)]
        new = [a + q * 2**code for a, q in zip(new, digits, strict=True)]
        groups.append((code if any(digits) or outliers else 62, digits, outliers))
        code, outliers = max(code - (k - 1), 0), {}
    return groups, list(x) if exact else new


def vectors(r, p, count):
    """x and Xhat of every kind: near each other, borders between exponents, extremes, single large lanes, poison."""
    w, k, n = p.state_width, p.digit_width, p.lanes
    top, bound = 2 ** (w - 2) - 1, 2 ** (w - 1) - 1
    for _ in range(count):
        kind = r.choice(("near", "border", "extreme", "spikes", "equal", "any"))
        held = [r.randint(-bound, bound) for _ in range(n)]
        if kind == "any":
            x = [r.randint(-top, top) for _ in range(n)]
        elif kind == "extreme":
            x, held = ([r.choice((-1, 1)) * limit for _ in range(n)] for limit in (top, bound))
        else:
            held = [r.randint(-top, top) for _ in range(n)]
            scale = 1 << r.randrange(w - 2)
            x = [value + r.randint(-scale, scale) for value in held]
            if kind == "border":
                edge = ((2**k - 1) << r.randrange(w - k)) // 2
                x = [value + r.choice((-1, 1)) * (edge + r.randint(-1, 1)) for value in held]
            if kind == "equal":
                x = list(held)
            if kind in ("spikes", "equal"):
                for _ in range(r.randrange(p.outliers + 3)):
                    x[r.randrange(n)] = r.randint(-top, top)
            x = [max(-top, min(top, value)) for value in x]
        if r.random() < 0.1:
            r.choice((x, held))[r.randrange(n)] = -bound - 1
        yield x, held


@dataclasses.dataclass
class Emission:
    """Vectors of one emission, its settings, and what came of it: groups with their clocks, rows of the new Xhat."""

    vectors: list
    start: bool
    exact: bool
    passes: int
    line: int
    groups: list = dataclasses.field(default_factory=list)
    clocks: list = dataclasses.field(default_factory=list)
    updated: list = dataclasses.field(default_factory=list)


async def run(ctx, dut, p, emission, r, pace):
    """Carry out an emission; each stream hesitates at random unless `pace` is 1."""
    u = p.near_lanes
    for name, value in (("start", emission.start), ("exact", emission.exact), ("passes", emission.passes - 1)):
        ctx.set(getattr(dut, name), value)
    ctx.set(dut.vectors, emission.line)
    rows = [(vector, at) for vector in emission.vectors for at in range(0, p.lanes, u)]
    parts = [pack(shape_of(dut.x), {"values": x[at : at + u], "last": at + u == p.lanes}) for (x, _), at in rows]
    held = [pack(shape_of(dut.held), held[at : at + u]) for (_, held), at in rows if not emission.start]
    sources = [[dut.x, parts, False], [dut.held, held, False]]
    sinks = [(dut.o, emission.groups), (dut.updated, emission.updated)]
    sampled = [dut.x.ready, dut.held.ready]
    sampled += [signal for port, _ in sinks for signal in (port.valid, port.payload.as_value())]
    quiet = clock = 0
    while quiet < 12:
        for source in sources:
            port, items, offered = source
            source[2] = bool(items) and (offered or r.random() < pace)
            ctx.set(port.valid, source[2])
            if items:
                ctx.set(port.payload.as_value(), items[0])
        ready = [r.random() < pace for _ in sinks]
        for (port, _), takes in zip(sinks, ready, strict=True):
            ctx.set(port.ready, takes)
        _, _, *seen = await ctx.tick().sample(*sampled)
        clock += 1
        for source, taken in zip(sources, seen, strict=False):
            if source[2] and taken:
                source[1].pop(0)
                source[2] = False
        for (port, found), takes, valid, bits in zip(sinks, ready, seen[2::2], seen[3::2], strict=True):
            if valid and takes:
                found.append(unpack(shape_of(port), bits))
                if port is dut.o:
                    emission.clocks.append(clock)
        done = len(emission.groups) >= len(emission.vectors) * emission.passes and not parts and not held
        quiet = quiet + 1 if done and len(emission.updated) >= len(rows) else 0
        assert clock < 20_000, "it hangs"
    assert (len(emission.groups), len(emission.updated)) == (len(emission.vectors) * emission.passes, len(rows))


def simulate(p, emissions, r, pace):
    dut = DeltaPath(p)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def bench(ctx):
        for emission in emissions:
            await run(ctx, dut, p, emission, r, pace)

    simulator.add_testbench(bench)
    simulator.run()


def found_group(group):
    outliers = {slot["lane"]: slot["value"] for slot in group.get("outliers", []) if slot["valid"]}
    filled = [slot["valid"] for slot in group.get("outliers", [])]
    assert filled == sorted(filled, reverse=True), "slots fill from slot 0"
    assert list(outliers) == sorted(outliers), "in order of lane"
    assert all(slot == {"valid": 0, "lane": 0, "value": 0} for slot in group.get("outliers", []) if not slot["valid"])
    return group["exponent"], group["digits"], outliers


@pytest.mark.parametrize("machine", MACHINES)
def test_against_the_law(machine):
    """Emissions one after the other, started or not, any passes, lines of one vector or more."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    p = TINY.with_settings(MACHINES[machine])
    for pace in (1.0, 0.6):
        emissions = []
        for passes in r.sample((1, 2, 3, 8), 3):
            line = r.randint(1, 12)
            simulated = list(vectors(r, p, max(1, 16 // line) * line))
            emissions.append(Emission(simulated, r.random() < 0.3, r.random() < 0.3, passes, line))
        simulate(p, emissions, r, pace)
        for emission in emissions:
            check(p, emission)


def check(p, emission):
    """Everything that left, against the walk and against golden."""
    passes, start = emission.passes, emission.start
    groups, rows = iter(emission.groups), iter(emission.updated)
    for number, (x, held) in enumerate(emission.vectors):
        before = [0] * p.lanes if start else held
        wanted, new = walk(x, before, p, passes, emission.exact)
        for index, want in enumerate(wanted):
            got = next(groups)
            assert found_group(got["group"]) == want, (x, before, index)
            assert got["last"] == (index == passes - 1 and (number + 1) % emission.line == 0)
        assert sum((next(rows) for _ in range(p.lanes // p.near_lanes)), []) == new, (x, before)
    x, held = zip(*emission.vectors, strict=True)
    sent = emit(x, held, p, passes, start=start, exact=emission.exact)
    assert sum(emission.updated, []) == sent.xhat.ravel().tolist()
    assert [group["group"]["digits"] for group in emission.groups] == sent.groups.digits.tolist()
    assert [group["group"]["exponent"] for group in emission.groups] == sent.groups.exponent.tolist()


@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("outliers", [0, 1])
def test_a_row_of_a_pass_a_clock(passes, outliers):
    """Vector after vector, a group leaves every n/u clocks."""
    p = TINY.with_settings(["lanes=16", f"outliers={outliers}"])
    r = random.Random(passes)
    emission = Emission(list(vectors(r, p, 12)), False, False, passes, 1)
    simulate(p, [emission], r, 1.0)
    # The first vectors fill the buffer.
    steady = emission.clocks[2 * passes :]
    assert {after - before for before, after in itertools.pairwise(steady)} == {8}
