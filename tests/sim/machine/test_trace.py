import json

import pytest

from golden.machine.command import Emit, LoadGroups, LoadWeights, Multiply, Operand
from sim.machine.run import Row
from sim.machine.trace import chrome

pytestmark = pytest.mark.golden


def row(commands, spans, **others):
    figures = {"predicted": 90, "clocks": 80, "use": 0.75, "busy": 0.5, "link_bits": None, "psnr": None}
    return Row(
        step=2,
        name="conv",
        ran=True,
        stalls={},
        flows={},
        commands=commands,
        spans=spans,
        odd={},
        counters={},
        **figures | others,
    )


def test_a_trace_has_a_line_for_each_engine():
    commands = (LoadWeights(tag=1, source=Operand(1, 16), records=4), LoadGroups(tag=1), Multiply(tag=1), Emit(tag=9))
    spans = {"load": [(10, 30), (30, 45)], "multiply": [(46, 100)], "emit": []}
    found = json.loads(chrome([row(commands, spans)], {1: "down.conv"}))["traceEvents"]
    names = {one["tid"]: one["args"]["name"] for one in found if one["ph"] == "M"}
    assert names == {0: "load", 1: "multiply", 2: "accumulate", 3: "emit", 4: "sections"}
    drawn = [(one["name"], names[one["tid"]], one["ts"], one["dur"]) for one in found if one["ph"] == "X"]
    assert drawn == [
        ("LoadWeights down.conv", "load", 10, 20),
        ("LoadGroups down.conv", "load", 30, 15),
        ("Multiply down.conv", "multiply", 46, 54),
        ("conv", "sections", 10, 90),
    ]
    assert next(one["args"] for one in found if one["ph"] == "X") == {"source": "1:0x10", "records": 4}
