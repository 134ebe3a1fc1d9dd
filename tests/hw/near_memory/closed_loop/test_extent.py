"""Places of positions and of groups against plain integers."""

import random

import pytest
from amaranth.sim import Simulator

from golden.parameters import preset
from hw.near_memory.closed_loop.extent import Extent

pytestmark = pytest.mark.unit

FIELDS = ("line", "lines", "width", "channels", "segment", "across", "along", "scores")


def place(address, records):
    return {"address": min(address, 2**35 - 1), "records": min(records, 2**24 - 1)}


def expected(p, line, lines, width, channels, segment, across, along, scores):
    """What holds when Y is placed, and what does in the end."""
    n, size = p.lanes, -(-p.lanes * p.state_width // 8)
    of = -(-channels // n)
    begin, positions = line * width, lines * width
    wide = int(channels >= n or scores)
    if wide:
        state, skip = place(begin * of * size, positions * of), 0
    else:
        first, end = begin * channels, (begin + positions) * channels
        state, skip = place(first // n * size, -(-end // n) - first // n), first % n
    placed = {"wide": wide, "begin": begin, "positions": positions, "skip": skip, "state": state, "of": of}
    placed["stride"] = of * size
    row, rows = (min(positions, 65535), channels) if along else (channels, positions)
    length = segment or row
    uneven = bool(row % length) or bool(along and (not across or channels % across))
    done = {"uneven": int(uneven), "row": row, "length": length}
    if not uneven:
        groups = row // length * -(-length // n)
        done["apart"] = int(length != row and length % n != 0)
        done["held"] = place(begin * groups * size, rows * groups)
        vectors = min((across if along else width) * groups, 2**24 - 1)
        done["sent"] = {"lines": channels // across if along else lines, "vectors": vectors}
    return placed, done


def random_case(r, n):
    line, lines, width = r.choice([0, r.randrange(40)]), r.randrange(1, 40), r.randrange(1, 40)
    channels, along = r.choice([r.randrange(1, 2 * n), 24, 6 * n]), r.randrange(2)
    row = lines * width if along else channels
    pick = lambda whole: r.choice([one for one in range(1, whole + 1) if whole % one == 0])  # noqa: E731
    return (
        line,
        lines,
        width,
        channels,
        r.choice([0, pick(row), r.randrange(1, row + 1)]),
        pick(channels),
        along,
        r.randrange(2),
    )


@pytest.mark.parametrize(
    "settings",
    [[], ["lanes=60", "near_lanes=4", "memory_lanes=4"], ["state_width=24"], ['functions=["tables"]', "lanes=8"]],
)
def test_against_integers(settings, fresh_seed):
    r = random.Random(fresh_seed)
    p = preset("edge").with_settings(settings)
    dut = Extent(p)
    cases = [
        (0, 8, 8, 64, 0, 0, 0, 0),
        (3, 5, 8, 3, 0, 0, 0, 0),
        (3, 5, 8, 3, 0, 0, 0, 1),
        (0, 1, 1, 1, 1, 1, 1, 0),
        (65535, 65535, 65535, 65535, 0, 0, 0, 0),
        (65535, 65535, 65535, p.lanes - 1, 0, 0, 0, 0),
        (0, 65535, 65535, 65535, 0, 65535, 1, 0),
        (0, 3, 3, 8, 3, 0, 1, 0),
        (0, 3, 3, 8, 3, 3, 1, 0),
    ]
    cases += [random_case(r, p.lanes) for _ in range(40)]
    absent = set()
    if "attention" not in p.functions:
        cases = [(*case[:4], 0, 0, 0, 0) for case in cases]
        absent = {"stride", "uneven", "row", "length", "apart"}
    clocks = []

    def read(ctx, names):
        """Plain values of outputs."""
        found = {}
        for name in names:
            port = getattr(dut, name)
            fields = port.shape().members if hasattr(port.shape(), "members") else None
            found[name] = {field: ctx.get(port[field]) for field in fields} if fields else ctx.get(port)
        return found

    async def wait(ctx, flag, limit):
        for clock in range(limit):
            if ctx.get(flag):
                return clock
            await ctx.tick()
        raise AssertionError(f"not within {limit} clocks")

    async def bench(ctx):
        for case in cases:
            for name, value in zip(FIELDS, case, strict=True):
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for want, flag in zip(expected(p, *case), (dut.placed, dut.done), strict=True):
                clocks.append(await wait(ctx, flag, 100000))
                want = {name: value for name, value in want.items() if name not in absent}
                assert read(ctx, want) == want, case

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    print(clocks[:4])
    if p.lanes == 16:
        assert clocks[0] < 50
        assert clocks[1] < 50
