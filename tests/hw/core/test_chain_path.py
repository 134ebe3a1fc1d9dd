"""`ChainPath` against the units of the golden model: tiles of several rows, records of factors, every policy."""

import random

import numpy as np
import pytest

from golden.parameters import Parameters
from golden.units.channel_scale import channel_scale
from golden.units.delta_quantizer import quantise_passes
from hw.core.chain_path import ChainPath, ScaleLoader
from tests.hw.lint import complaints
from tests.hw.masks import plain_group
from tests.hw.streams import PATTERNS, exchange, fed, pack, shape_of, unpack

pytestmark = pytest.mark.unit

MASKS = {"dataflows": ("closed_loop", "sign_mask")}
SHAPES = {
    "group": {"lanes": 8, "norm_buffer": 32, **MASKS},
    "saturate": {"lanes": 6, "near_lanes": 3, "memory_lanes": 1, "exponent_policy": "layer", "output_passes": 1},
    "replay": {"lanes": 8, "exponent_policy": "layer", "overflow_policy": "replay", "outliers": 2, "near_lanes": 4},
}
SHAPES |= {name: {"norm_buffer": 32, **MASKS, **SHAPES[name]} for name in ("saturate", "replay")}


def half(r):
    """A finite FP16 pattern near 1."""
    return r.getrandbits(1) << 15 | r.randrange(10, 18) << 10 | r.getrandbits(10)


@pytest.mark.parametrize("name", SHAPES)
def test_tiles_become_groups(name, fresh_seed):
    p, r = Parameters(**SHAPES[name]), random.Random(fresh_seed)
    n, u, layer = p.lanes, p.near_lanes, p.exponent_policy == "layer"
    table = [[half(r) for _ in range(2 * n)] for _ in range(p.scale_buffer)]  # n factors, then n shifts
    writes = [
        {"row": record * (n // u) + at // u, "shifts": kind, "values": table[record][kind * n + at : kind * n + at + u]}
        for record in range(p.scale_buffer)
        for kind in (0, 1)
        for at in range(0, n, u)
    ]
    dut = ChainPath(p)
    tiles, parts, wanted = [], [], []
    for _ in range(6):
        rows, positions = r.randint(1, 3), r.randint(1, 4)
        step = r.randrange((p.scale_buffer - 1) // max(rows - 1, 1) + 1) if rows > 1 else r.randrange(p.scale_buffer)
        record = r.randrange(p.scale_buffer - step * (rows - 1))
        tile = {"record": record, "step": step, "positions": positions, "passes": r.randrange(3)}
        static, floor, unit = r.getrandbits(1) if layer else 0, r.randrange(12), r.randint(-6, 4)
        tiles.append(tile | ({"static": static} if layer else {}))
        for number in range(rows * positions):
            sums = [r.randrange(-(1 << 20), 1 << 20) >> r.randrange(20) for _ in range(n)]
            poisoned = [int(r.random() < 0.01) for _ in range(n)]
            end = number == rows * positions - 1
            for at in range(0, n, u):
                flags = sum(bit << place for place, bit in enumerate(poisoned[at : at + u]))
                part = {"values": sums[at : at + u], "poisoned": flags, "floor": floor, "unit": unit}
                parts.append({**part, "last": int(at + u == n), "end": int(end and at + u == n)})
            factors, shifts = np.array(table[record + number // positions * step], np.uint16).reshape(2, n)
            made = channel_scale(np.array([sums]), np.array([poisoned], bool), factors, unit - 24, p, shift=shifts)
            found = quantise_passes(
                made.values, p, tile["passes"] + 1, floor=floor, by_group=not static, exponent=floor
            )
            for index, last in enumerate(found.last):
                marks = {"last": int(last), "end": int(last and end), "passes": tile["passes"]}
                wanted.append({"group": plain_group(found.groups, p, index), **marks})
    wrap = fed(dut, fresh_seed, write=writes, tile=tiles)
    result = exchange(dut, parts, pattern=r.choice(PATTERNS), outputs=len(wanted), wrap=wrap)
    assert result.outputs == [unpack(shape_of(dut.o), pack(shape_of(dut.o), item)) for item in wanted]


@pytest.mark.parametrize("width", [32, 128])
def test_records_are_loaded_row_by_row(width, fresh_seed):
    p, r = Parameters(**SHAPES["saturate"], memory_width=width), random.Random(fresh_seed)
    n, u, size = p.lanes, p.near_lanes, width // 8
    loads, words, wanted = [], [], []
    for _ in range(6):
        records = r.randint(1, p.scale_buffer)
        load = {"region": r.randrange(7), "address": 32 * r.randrange(100), "records": records}
        loads.append({**load, "at": r.randrange(p.scale_buffer - records + 1)})
        numbers = [r.getrandbits(16) for _ in range(2 * n * records)]
        text = b"".join(number.to_bytes(2, "little") for number in numbers)
        text += bytes(-len(text) % size)
        words += [int.from_bytes(text[at : at + size], "little") for at in range(0, len(text), size)]
        for at in range(0, len(numbers), u):
            record, place = divmod(at, 2 * n)
            shifts, lane = divmod(place, n)
            row = (loads[-1]["at"] + record) * (n // u) + lane // u
            wanted.append({"row": row, "shifts": shifts, "values": numbers[at : at + u]})
    dut = ScaleLoader(p)
    dut.words = dut.scales_read.data

    def wrap(component):
        m = fed(dut, fresh_seed, words=words)(component)
        m.d.comb += dut.scales_read.request.ready.eq(1)
        return m

    assert exchange(dut, loads, pattern=r.choice(PATTERNS), outputs=len(wanted), wrap=wrap).outputs == wanted


def test_the_verilog_has_no_complaint():
    for kind in (ChainPath, ScaleLoader):
        assert not complaints(kind(Parameters(**SHAPES["replay"])))
