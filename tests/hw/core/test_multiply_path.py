"""Multiply with its way down: joint vectors as the interpreter sends them, in both forms of the link."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw import payloads
from hw.control.engine import CAUSE_WIDTH, operation
from hw.core.banks import Banks
from hw.core.multiply_engine import work_counts
from hw.core.multiply_path import MultiplyPath
from hw.core.weight_buffer import WeightBuffer
from sim import engine
from tests.hw.core.test_multiply_engine import drawn, drawn_tile, machine

pytestmark = pytest.mark.cocotb


class Core(wiring.Component):
    """The path and its buffers: operations begin once `writes` groups and records have come."""

    def __init__(self, parameters):
        self.parameters = parameters
        super().__init__(
            {
                "operation": In(stream.Signature(operation("multiply"))),
                "groups": In(stream.Signature(payloads.bank_write(parameters))),
                "records": In(stream.Signature(payloads.weight_write(parameters))),
                "writes": In(32),
                "down": Out(stream.Signature(payloads.joint_part(parameters))),
                "counts": Out(stream.Signature(work_counts(parameters))),
                "error": Out(CAUSE_WIDTH),
                "overflow": Out(1),
                "poisoned": Out(1),
            }
        )

    def elaborate(self, platform):
        p, m = self.parameters, Module()
        m.submodules.banks = banks = Banks(p)
        m.submodules.weights = weights = WeightBuffer(p)
        m.submodules.path = path = MultiplyPath(p)
        connect(m, path.banks, banks.read)
        connect(m, path.weights, weights.read)
        connect(m, flipped(self.groups), banks.write)
        connect(m, flipped(self.records), weights.write)
        connect(m, path.down, flipped(self.down))
        connect(m, path.counts, flipped(self.counts))
        written = Signal(32)
        m.d.sync += written.eq(written + self.groups.valid + self.records.valid)
        m.d.comb += [
            path.operation.valid.eq(self.operation.valid & (written == self.writes)),
            path.operation.payload.eq(self.operation.payload),
            self.operation.ready.eq(path.operation.ready),
            self.error.eq(path.error),
            self.overflow.eq(path.overflow),
            self.poisoned.eq(path.poisoned),
        ]
        return m


@pytest.mark.parametrize("link_form", ["direct", "compressed"])
def test_against_the_interpreter(link_form, fresh_seed):
    p = machine("tiny").with_settings([f"link_form={link_form}"])
    random = np.random.default_rng(fresh_seed)
    golden, groups, records = drawn(p, random)
    operations = [part for _ in range(6) for part in drawn_tile(p, random)]
    for c in operations:
        golden._multiply(c)
    outcome = engine.run(
        Core(p),
        np.zeros(0, np.uint8),
        [],
        operations,
        streams={"groups": groups, "records": records},
        settings={"writes": len(groups["row"]) + len(records["half"])},
        mode="both",
        seed=fresh_seed % 1000,
    )
    assert outcome.error is None
    each, found = p.lanes // p.near_lanes, outcome.streams["down"]
    floors = [c.floor for c in operations if c.leave]
    exponents = [one.exponent for one in golden._down]
    np.testing.assert_array_equal(found["exponent"], np.repeat(np.concatenate(exponents), each))
    integers = np.concatenate([one.integers for one in golden._down])
    np.testing.assert_array_equal(found["values"].reshape(-1), integers.reshape(-1))
    ends = np.cumsum([len(one) * each for one in exponents]) - 1
    np.testing.assert_array_equal(np.flatnonzero(found["end"]), ends)
    np.testing.assert_array_equal(found["floor"][ends], floors)
    assert outcome.status["overflow"] == golden.status["overflow"]
    assert outcome.status["poisoned"] == golden.status["poisoned"]
