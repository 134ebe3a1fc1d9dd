"""Commands: words and back, by rules written here again from docs/machine.md, and every refusal."""

import dataclasses
import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.machine import command as commands
from golden.machine.command import (
    DATAFLOWS,
    ENGINES,
    OPERATIONS,
    CommandError,
    Emit,
    End,
    Interrupt,
    LoadGroups,
    LoadScales,
    LoadWeights,
    Loop,
    Multiply,
    Operand,
    Stamp,
    Step,
    Stop,
    Wait,
    assemble,
    decode,
    disassemble,
    layout,
    table,
)

PAGE = Path(__file__).resolve().parents[3] / "docs/machine.md"
EVERY = commands.operations(DATAFLOWS)
CONTROLS = (Stop, Wait, Stamp, Interrupt, Loop, End)

pytestmark = pytest.mark.golden

OPERANDS = st.builds(Operand, st.integers(0, 7), st.integers(0, 2**29 - 1))


def fields(slot):
    if slot.kind is Operand:
        return OPERANDS
    if slot.kind is bool:
        return st.booleans()
    if isinstance(slot.kind, tuple):
        return st.sampled_from(slot.kind)
    low, high = (-(2 ** (slot.width - 1)), 2 ** (slot.width - 1) - 1) if slot.signed else (0, 2**slot.width - 1)
    return st.integers(low, high)


def engines(kind):
    others = [engine for engine in ENGINES if engine != kind.engine]
    return st.sets(st.sampled_from(others)).map(lambda chosen: tuple(one for one in others if one in chosen))


def drawn(kind):
    own = {slot.name: fields(slot) for slot in layout(kind, DATAFLOWS)}
    return st.builds(kind, tag=st.integers(0, 65535), pop=engines(kind), push=engines(kind), **own)


STEPS = st.builds(Step, st.integers(0, 7), st.integers(-(2**28), 2**28 - 1).filter(bool))
FLAT = st.one_of(
    *(drawn(kind) for kind in EVERY),
    st.builds(Stamp, tag=st.integers(0, 65535)),
    st.builds(Interrupt, tag=st.integers(0, 65535)),
    st.builds(Wait, load=st.booleans(), emit=st.booleans()),
)
BODIES = st.recursive(
    st.lists(FLAT, max_size=6),
    lambda inner: st.tuples(
        st.lists(FLAT, max_size=3),
        st.integers(1, 65535),
        st.lists(STEPS, max_size=5, unique_by=lambda step: step.region),
        inner,
        st.lists(FLAT, max_size=3),
    ).map(lambda parts: [*parts[0], Loop(turns=parts[1], steps=tuple(parts[2])), *parts[3], End(), *parts[4]]),
    max_leaves=4,
)


def depth(program):
    level = highest = 0
    for command in program:
        level += isinstance(command, Loop) - isinstance(command, End)
        highest = max(highest, level)
    return highest


@settings(max_examples=300, deadline=None)
@given(BODIES)
def test_disassemble_is_the_inverse_of_assemble(body):
    if depth(body) > Loop.DEPTH:
        with pytest.raises(ValueError, match="Loops must nest at most 4 deep, not 5"):
            assemble([*body, Stop()])
        return
    words = assemble([*body, Stop()])
    assert words.dtype == np.uint32 and words.shape[1:] == (8,)
    assert disassemble(words) == [*body, Stop()]


def test_bits_of_a_multiplication_by_hand():
    tile = Multiply(at=5, weights_half=True, lines=2, columns=8, channels=16, first=3, tag=0x1234, pop=("load",))
    configure, go, stop = assemble([dataclasses.replace(tile, push=("load", "accumulate")), Stop()]).tolist()
    assert configure[:2] == [0x1234_1108, 0 | 4 << 8]
    assert configure[2] == 0 | 5 << 1 | 1 << 16 | 0 << 17
    assert configure[3] == 2 | 8 << 8 | 16 << 16
    assert configure[5] == 3 << 23 | 1 << 29  # first, leave
    assert go == [0x1234_1120, 0b0101_0001, 0, 0, 0, 0, 0, 0]
    assert stop == [0x0000_0101, 0, 0, 0, 0, 0, 0, 0]


def test_the_page_shows_every_operation_as_it_is():
    page = PAGE.read_text()
    for kind in EVERY:
        assert f"### {kind.__name__} (`{kind.opcode:02x}`, {kind.engine})\n" in page
        assert table(kind) in page
    for kind in CONTROLS:
        assert f"| `{kind.opcode:02x}` | `{kind.__name__}` |" in page


def test_example_of_the_page_prints_what_it_shows(capsys):
    page = PAGE.read_text()
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], {})
    assert capsys.readouterr().out == re.search(r"```text\n(.*?)```", page, re.S)[1]


def test_a_field_that_did_not_change_is_not_written_again():
    first = LoadWeights(source=Operand(1, 100), records=4)
    words = assemble([first, dataclasses.replace(first, half=True), Stop()])
    assert [line[0] & 255 for line in words.tolist()] == [0x08, 0x10, 0x08, 0x10, 0x01]
    assert words[2, 1] == 1 | 1 << 8  # one register, number 1
    # a turn of a loop cannot know what the turn before left
    words = assemble([first, Loop(turns=2), first, End(), first, Stop()])
    assert [line[0] & 255 for line in words.tolist()] == [0x08, 0x10, 0x05, 0x08, 0x10, 0x06, 0x10, 0x01]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_no_two_fields_share_a_bit_and_none_straddles_a_register(kind):
    seen = set()
    for slot in layout(kind, DATAFLOWS):
        bits = {(slot.word, slot.low + index) for index in range(slot.width)}
        assert slot.low + slot.width <= 32 and not bits & seen
        seen |= bits
    assert max(word for word, _ in seen) < 32


@pytest.mark.parametrize(
    "program, sentence",
    [
        ([], "Stop must be the last command of a program, not left out"),
        ([Stamp()], "Stop must be the last command of a program, not Stamp at 0"),
        ([Stop(), Stop()], "Stop must be the last command of a program, not Stop at 0"),
        ([End(), Stop()], "End must close a loop, at command 0"),
        ([Loop(turns=2), Stop()], "Every loop must be closed by an End, not 1 left open"),
    ],
)
def test_what_assemble_refuses(program, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        assemble(program)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Operand(8), "Operand's region must be in 0..7, not 8"),
        (lambda: Multiply(groups=4096), "groups must be in 0..4095, not 4096"),
        (lambda: Emit(function="tanh"), "function must be identity or relu or silu or gelu"),
        (lambda: Emit(pop=("emit",)), "pop must name engines of load, multiply, accumulate in this order"),
        (lambda: Emit(push=("multiply", "load")), "push must name engines of load, multiply, accumulate in this order"),
        (lambda: Loop(turns=0), "turns must be in 1..65535, not 0"),
        (lambda: Loop(steps=(Step(1, 1), Step(1, 2))), "steps must be of different regions, not [1, 1]"),
        (lambda: Loop(steps=(Step(1, 0),)), "stride of region 1 must not be 0: leave the step out"),
    ],
)
def test_what_commands_refuse(make, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make()


def changed(word, mask, position=0):
    words = assemble([LoadWeights(source=Operand(1, 2), records=3, tag=9), Stop()])
    words[position, word] ^= np.uint32(mask)
    return words


@pytest.mark.parametrize(
    "words, sentence",
    [
        (changed(0, 0x08), "Command 0: opcode must be a known one, not 0x00"),
        (changed(0, 0x300), "Command 0: version must be 1, not 2"),
        (changed(0, 0x4000), "Command 0: engine must be in 0..3, not 4"),
        (changed(1, 0x500), "Command 0: registers must be 1 to 6 below 32, not 7 from 0"),
        (changed(7, 1), "Command 0: reserved bits must be 0"),
        (changed(0, 0x1000, 1), "Command 1: engine must be 0, not 1"),
        (changed(1, 1, 1), "Command 1: reserved bits must be 0"),
        (changed(1, 0x100, 1), "Command 1: reserved bits must be 0"),
        (changed(2, 1, 2), "Command 2: reserved bits must be 0"),
        (changed(0, 0, 0)[:2], "Command 2: the program must end with a stop"),
    ],
)
def test_what_disassemble_refuses(words, sentence):
    with pytest.raises(CommandError, match=re.escape(sentence)):
        disassemble(words)


def test_a_reserved_bit_of_a_register_is_refused():
    words = assemble([Multiply(lines=1), Stop()])
    last = layout(Multiply, DATAFLOWS)[-1]
    words = np.insert(words, 1, words[0], axis=0)
    words[1, 1:] = last.word | 1 << 8, 1 << last.low + last.width, 0, 0, 0, 0, 0
    with pytest.raises(CommandError, match="Command 2: reserved bits of register 6 must be 0, not 0x"):
        disassemble(words)


@pytest.mark.parametrize(
    "operation, name",
    [(LoadScales(records=1), "LoadScales"), (Multiply(leaves="groups"), "leaves"), (LoadGroups(masked=True), "masked")],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_machine_without_a_dataflow_refuses_its_fields(operation, name):
    registers = {engine: [0] * 32 for engine in ENGINES}
    *lines, _ = assemble([operation, Stop()]).tolist()
    for line in lines[:-1]:
        assert decode(line, registers) is None
    with pytest.raises(ValueError, match=f"^dataflows must hold sign_mask for {name}, not closed_loop$"):
        decode(lines[-1], registers)
    assert decode(lines[-1], registers, DATAFLOWS) == operation


def test_no_field_of_a_dataflow_moves_another():
    for kind in OPERATIONS:
        assert set(layout(kind)) <= set(layout(kind, DATAFLOWS))
        assert not layout(kind, DATAFLOWS)[-1].word > 15  # what the decoder of commands has rows for


@settings(max_examples=500, deadline=None)
@given(BODIES, st.data())
def test_words_that_were_damaged_are_commands_or_refused(body, data):
    if depth(body) > Loop.DEPTH:
        return
    words = assemble([*body, Stop()])
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(words) - 1))
        words[position, data.draw(st.integers(0, 7))] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    try:
        found = disassemble(words)
    except CommandError as error:
        assert 0 <= error.position <= len(words)
        return
    assert disassemble(assemble(found)) == found


def test_examples_of_the_module_run():
    assert doctest.testmod(commands).attempted and not doctest.testmod(commands).failed
