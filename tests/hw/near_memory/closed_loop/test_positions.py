"""Elements position by position, and back, against the layout of tensors that golden writes."""

import functools
import random

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from golden.machine import image
from golden.parameters import preset
from hw.near_memory.closed_loop.positions import Gather, Spread
from sim import engine

pytestmark = pytest.mark.cocotb


class Started(wiring.Component):
    """A part that has streams, started once after a reset."""

    def __init__(self, part):
        self.part = part
        members = dict(part.signature.members.items())
        self.given = {name: member for name, member in members.items() if name not in ("start", "i", "o")}
        super().__init__({name: member for name, member in members.items() if name != "start"})

    def elaborate(self, platform):
        m = Module()
        m.submodules.part = part = self.part
        started = Signal()
        m.d.sync += started.eq(1)
        m.d.comb += part.start.eq(~started)
        for name in ("i", "o"):
            inner, outer = getattr(part, name), getattr(self, name)
            a, b = (outer, inner) if name == "i" else (inner, outer)
            m.d.comb += [b.payload.eq(a.payload), b.valid.eq(a.valid & started), a.ready.eq(b.ready & started)]
        for name, member in self.given.items():
            inner, outer = getattr(part, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m


@functools.cache
def component(kind, lanes, u):
    settings = [f"lanes={lanes}", f"near_lanes={u}", "memory_lanes=1"]
    return Started(kind(preset("tiny").with_settings(settings)))


@pytest.mark.parametrize(("lanes", "u"), [(4, 1), (4, 2), (6, 3), (16, 2), (16, 16)])
def test_there_and_back(lanes, u):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for channels in {1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes, int(rng.integers(1, 4 * lanes))}:
        positions, wide = int(rng.integers(1, 40)), channels >= lanes
        skip = 0 if wide else int(rng.integers(0, lanes))
        x = rng.integers(-(2**17), 2**17, (positions, channels))
        vectors = image.vectors_of(x, lanes)
        if skip:
            vectors = np.concatenate([rng.integers(-(2**17), 2**17, skip), x.ravel()])
            vectors = np.pad(vectors, (0, -len(vectors) % lanes), constant_values=-7).reshape(-1, lanes)
        elif wide:
            padding = np.arange(vectors.size).reshape(positions, -1) % (-(-channels // lanes) * lanes) >= channels
            vectors = np.where(padding, 5, vectors.reshape(positions, -1)).reshape(-1, lanes)
        settings = {"wide": wide, "channels": channels, "positions": positions}
        mode = str(rng.choice(["none", "idle", "back-pressure", "both", "reset"]))
        found = engine.run(
            component(Spread, lanes, u),
            np.zeros(0, np.uint8),
            [],
            streams={"i": vectors.reshape(-1, u)},
            settings=settings | {"skip": skip},
            mode=mode,
            seed=int(rng.integers(1 << 30)),
        )
        padded = np.pad(x, ((0, 0), (0, -channels % lanes)))
        out = found.streams["o"]
        assert np.array_equal(out["values"].reshape(positions, -1), padded)
        used = np.arange(padded.shape[1]) < channels
        lanes_used = out["used"][:, None] >> np.arange(u) & 1
        assert np.array_equal(lanes_used.reshape(positions, -1), np.broadcast_to(used, padded.shape))
        ends = np.arange(padded.shape[1] // u) == padded.shape[1] // u - 1
        assert np.array_equal(out["ends"].reshape(positions, -1), np.broadcast_to(ends, (positions, ends.size)))
        assert np.array_equal(out["last"].reshape(-1, lanes // u)[:, -1], np.ones(padded.size // lanes))
        assert out["last"].sum() == padded.size // lanes
        assert found.status["done"]

        back = engine.run(
            component(Gather, lanes, u),
            np.zeros(0, np.uint8),
            [],
            streams={"i": {"values": padded.reshape(-1, u), "last": out["last"]}},
            settings=settings,
            mode=mode,
            seed=int(rng.integers(1 << 30)),
        )
        assert np.array_equal(back.streams["o"].reshape(-1, lanes), image.vectors_of(x, lanes))
        assert back.status["done"]
        if mode == "none" and wide:
            assert found.cycles["o"][-1] - found.cycles["o"][0] == padded.size // u - 1


@pytest.mark.parametrize(("lanes", "u"), [(4, 1), (4, 2), (6, 3), (16, 2)])
def test_rows_in_segments(lanes, u, fresh_seed):
    """Each row begins a vector; so does each segment, without end."""
    rng = np.random.default_rng(fresh_seed)
    for _ in range(6):
        segment, segments, rows = (int(rng.integers(1, top)) for top in (3 * lanes, 5, 6))
        x = rng.integers(-(2**17), 2**17, (rows, segments * segment))
        vectors = np.pad(x, ((0, 0), (0, -x.shape[1] % lanes)), constant_values=-7)
        found = engine.run(
            component(Spread, lanes, u),
            np.zeros(0, np.uint8),
            [],
            streams={"i": vectors.reshape(-1, u)},
            settings={"channels": segment, "row": x.shape[1]},
            mode=str(rng.choice(["none", "both", "reset"])),
            seed=int(rng.integers(1 << 30)),
        )
        padded = np.pad(x.reshape(-1, segment), ((0, 0), (0, -segment % lanes)))
        assert np.array_equal(found.streams["o"]["values"].reshape(padded.shape), padded)
        assert not found.status["done"]
