"""`hw.control.engine`: fields of an operation lie where the command's words have them."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

from golden.machine.command import CLOSED_LOOP, DATAFLOWS, ENGINES, OPERATIONS, Operand, layout, operations, pack
from hw.control.engine import Fields, operation, words

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "dataflows"),
    [(kind, dataflows) for dataflows in (CLOSED_LOOP, DATAFLOWS) for kind in operations(dataflows)],
    ids=lambda value: getattr(value, "__name__", "all" if value == DATAFLOWS else "closed_loop"),
)
def test_fields_lie_where_the_words_of_the_command_have_them(kind, dataflows):
    generator = np.random.default_rng(7)
    values = {}
    for slot in layout(kind, dataflows):
        if slot.kind is Operand:
            values[slot.name] = Operand(int(generator.integers(8)), int(generator.integers(1 << 29)))
        elif isinstance(slot.kind, tuple):
            values[slot.name] = slot.kind[int(generator.integers(len(slot.kind)))]
        elif slot.kind is bool:
            values[slot.name] = bool(generator.integers(2))
        else:
            low = -(1 << slot.width - 1) if slot.signed else 0
            values[slot.name] = int(generator.integers(low, low + (1 << slot.width)))
    packed = pack(kind(**values), dataflows)
    shape = operation(kind.engine, dataflows)
    bits = kind.opcode | sum(word << 8 + 32 * number for number, word in enumerate(packed))
    fields = Fields(data.View(shape, Const(bits, shape.size)), kind)
    m, found = Module(), {}
    for slot in layout(kind, dataflows):
        value = getattr(fields, slot.name)
        parts = (value.region, value.offset) if slot.kind is Operand else (value,)
        found[slot.name] = [Signal.like(part, name=slot.name) for part in parts]
        m.d.comb += [signal.eq(part) for signal, part in zip(found[slot.name], parts, strict=True)]
    chosen = Signal()
    m.d.comb += chosen.eq(fields.chosen)

    async def look(ctx):
        assert ctx.get(chosen)
        for slot in layout(kind, dataflows):
            value = values[slot.name]
            if slot.kind is Operand:
                expected = [value.region, value.offset]
            else:
                expected = [slot.kind.index(value) if isinstance(slot.kind, tuple) else int(value)]
            assert [ctx.get(signal) for signal in found[slot.name]] == expected, slot.name

    simulator = Simulator(m)
    simulator.add_testbench(look)
    simulator.run()


def test_an_engine_has_as_many_words_as_its_longest_operation():
    assert [words(engine) for engine in ENGINES] == [9, 6, 12, 14]
    assert [words(engine, DATAFLOWS) for engine in ENGINES] == [10, 7, 16, 14]


def test_a_field_that_an_operation_has_not_is_named():
    kind = OPERATIONS[0]
    shape = operation(kind.engine)
    with pytest.raises(AttributeError, match="Fields must be one of source, half"):
        _ = Fields(data.View(shape, Const(0, shape.size)), kind).floor
