"""The command unit runs programs: engines are told what the interpreter's are, in an order that tokens allow."""

import collections
import dataclasses
import random

import pytest
from amaranth.sim import Simulator

from golden.machine.command import (
    CLOSED_LOOP,
    DATAFLOWS,
    ENGINES,
    Accumulate,
    Emit,
    End,
    Interrupt,
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
)
from golden.machine.registers import CAUSES
from hw.control.command_unit import CommandUnit
from tests.hw.control.programs import LIMIT, expected, image, random_program

pytestmark = pytest.mark.unit

AT = 5
"""Unit of memory that programs lie at, from the base of region 0."""

BASE = 2
"""Unit of memory that region 0 begins at."""


@dataclasses.dataclass
class Served:
    """An operation as an engine saw it: when it was offered first, and when it was taken."""

    opcode: int
    words: tuple[int, ...]
    begin: int
    end: int = -1


@dataclasses.dataclass
class Run:
    """What came of running a program."""

    served: dict[str, list[Served]]
    clocks: int = 0
    status: dict[str, int] = dataclasses.field(default_factory=dict)
    failure: dict[str, int] = dataclasses.field(default_factory=dict)
    events: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    tags: list[int] = dataclasses.field(default_factory=list)
    deepest: int = 0


def bench(
    memory,
    *,
    size=1 << 20,
    limit=1 << 20,
    width=128,
    seed=0,
    runs=1,
    busy=12,
    watchdog=0,
    act=None,
    ends=4000,
    dataflows=CLOSED_LOOP,
):
    """Run a program `runs` times one after the other.

    `act` is called in every clock of a run, (clock, setter of inputs, run), and may set inputs for this clock.
    """
    draw = random.Random(seed)
    dut = CommandUnit(width, dataflows)
    size_of_word = width // 8
    results = []

    async def one(ctx):
        run = Run({engine: [] for engine in ENGINES})
        under_way = dict.fromkeys(ENGINES)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        spans, words, drained = collections.deque(), collections.deque(), 0
        while ctx.get(dut.busy):
            run.clocks += 1
            assert run.clocks < ends, "the program must end"
            for name in ("halt", "reset"):
                ctx.set(getattr(dut, name), 0)
            for number in range(4):
                ctx.set(dut.causes[number], 0)
            if act is not None:
                act(run.clocks, lambda name, value: ctx.set(_member(dut, name), value), run)
            # Memory: words come after a while, in order, with gaps.
            ctx.set(dut.read.request.ready, draw.random() < 0.8)
            shows = bool(words) and words[0][0] <= run.clocks and draw.random() < 0.9
            ctx.set(dut.read.data.valid, shows)
            ctx.set(dut.read.data.payload, words[0][1] if shows else draw.getrandbits(width))
            ctx.set(dut.drained, ctx.get(dut.drain) and drained > 3)
            drained = drained + 1 if ctx.get(dut.drain) else 0
            # Engines: an operation takes a while, and must stay as it is.
            for engine in ENGINES:
                port = getattr(dut, engine)
                found = under_way[engine]
                if ctx.get(port.valid):
                    seen = (ctx.get(port.p.opcode), tuple(ctx.get(word) for word in port.p.words))
                    if found is None:
                        found = under_way[engine] = Served(*seen, run.clocks), run.clocks + draw.randrange(1, busy)
                        run.served[engine].append(found[0])
                    assert seen == (found[0].opcode, found[0].words), "an offered operation must stay as it is"
                    ctx.set(port.ready, run.clocks >= found[1])
                    if run.clocks >= found[1]:
                        found[0].end = run.clocks
                        under_way[engine] = None
                else:
                    assert found is None or ctx.get(dut.clear), "an offered operation must not disappear"
                    ctx.set(port.ready, draw.random() < 0.5)
            run.deepest = max(run.deepest, *(ctx.get(level) for level in dut.levels))
            for name in ("ends", "fails", "reached", "stamps", "commands", "clocks"):
                run.events[name] += ctx.get(getattr(dut, name))
            for engine in ENGINES:
                run.events[f"{engine}_operations"] += ctx.get(getattr(dut, f"{engine}_operations"))
            if ctx.get(dut.reached) or ctx.get(dut.stamps):
                run.tags.append(ctx.get(dut.tag))
            if ctx.get(dut.clear):
                under_way = dict.fromkeys(ENGINES)
                spans.clear()
                words.clear()
            asked = ctx.get(dut.read.request.valid) and ctx.get(dut.read.request.ready)
            span = dut.read.request.p
            asked = (ctx.get(span.region), ctx.get(span.address), ctx.get(span.bytes)) if asked else None
            took = shows and ctx.get(dut.read.data.ready)
            await ctx.tick()
            if took and words:
                words.popleft()
            if asked:
                region, address, length = asked
                assert region == 0
                if address + length > 32 * limit:
                    # As the bus does. Programs that begin in their region never come here.
                    assert limit <= AT
                    for name, value in (("cause", CAUSES.index("region")), ("engine", 15)):
                        ctx.set(getattr(dut.bus, name), value)
                    continue
                first = (32 * BASE + address) // size_of_word
                last = (32 * BASE + address + length - 1) // size_of_word
                for number in range(first, last + 1):
                    bits = int.from_bytes(
                        memory[number * size_of_word : (number + 1) * size_of_word].tobytes(), "little"
                    )
                    words.append((run.clocks + draw.randrange(3, 30), bits))
        for name in ("halted", "done", "failed", "resetting"):
            run.status[name] = ctx.get(getattr(dut, name))
        failure = dut.failure
        run.failure = {
            name: ctx.get(getattr(failure, name)) for name in ("cause", "engine", "response", "tag", "position", "unit")
        }
        return run

    async def main(ctx):
        ctx.set(dut.program.offset, AT)
        ctx.set(dut.size, size)
        ctx.set(dut.limit, limit)
        ctx.set(dut.watchdog, watchdog)
        for _ in range(runs):
            results.append(await one(ctx))
            for _ in range(draw.randrange(200)):
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(main)
    simulator.run()
    return results if runs > 1 else results[0]


def _member(dut, name):
    for part in name.split("."):
        dut = dut[int(part)] if part.isdigit() else getattr(dut, part)
    return dut


def place(words):
    """Memory with a program at `AT` of region 0."""
    return image(words, at=BASE + AT)


def check(run, told, *, whole=True):
    """The engines were told what the interpreter's were, and no token was popped before it was pushed."""
    pushed, popped = collections.defaultdict(list), collections.defaultdict(list)
    for engine in ENGINES:
        served = run.served[engine]
        assert len(served) == len(told[engine]) if whole else len(served) <= len(told[engine])
        for got, wanted in zip(served, told[engine], strict=whole):
            assert got.opcode == wanted.opcode
            assert got.words[: len(wanted.words)] == wanted.words
            for other in wanted.push:
                pushed[engine, other].append(got.end)
            for other in wanted.pop:
                popped[other, engine].append(got.begin)
    for pair, times in popped.items():
        for push, pop in zip(pushed[pair], times, strict=False):
            assert pop > push >= 0


def run_and_check(program, *, seed=0, dataflows=CLOSED_LOOP, **options):
    words = assemble(program)
    memory = place(words)
    regions = [(BASE, 1 << 20)] + [(0, LIMIT)] * 7
    told, fault, commands = expected(memory, regions, Operand(0, AT), 1 << 20, dataflows)
    assert fault is None
    run = bench(memory, seed=seed, dataflows=dataflows, **options)
    assert run.status == {"halted": 0, "done": 1, "failed": 0, "resetting": 0}, run.failure
    check(run, told)
    assert run.events["commands"] == commands and run.events["ends"] == 1 and run.events["fails"] == 0
    for engine in ENGINES:
        assert run.events[f"{engine}_operations"] == len(told[engine])
    return run


@pytest.mark.parametrize("width", [32, 64, 128, 256])
@pytest.mark.parametrize(("seed", "dataflows"), [(0, CLOSED_LOOP), (1, DATAFLOWS)])
def test_random_programs_tell_the_engines_what_the_interpreter_tells_them(width, seed, dataflows):
    program = random_program(random.Random(100 * width + seed), 12, dataflows)
    run_and_check(program, seed=seed, width=width, ends=20_000, dataflows=dataflows)


def test_what_only_a_machine_with_masks_has_is_refused_without():
    words = assemble([LoadScales(records=1), Stop()])
    run = bench(place(words))
    assert run.failure["cause"] == CAUSES.index("command")


def test_a_loop_moves_operands_and_returns_them():
    program = [
        LoadWeights(source=Operand(3, 100), tag=1),
        Loop(turns=3, steps=(Step(3, 7), Step(4, -50))),
        LoadWeights(source=Operand(3, 100), tag=2),
        Emit(state=Operand(4, 80), held=Operand(3, 1), tag=3),
        Loop(turns=2, steps=(Step(3, LIMIT >> 2),)),
        LoadWeights(source=Operand(3, LIMIT - (LIMIT >> 2) - 8), tag=4),
        End(),
        End(),
        LoadWeights(source=Operand(3, 100), tag=5),
        Stop(),
    ]
    run = run_and_check(program)
    offsets = [served.words[0] & LIMIT for served in run.served["load"]]
    far = LIMIT - (LIMIT >> 2) - 8
    # The third turn's second one would be past the last unit: it is moved to where no limit reaches.
    assert offsets == [100, 100, far, LIMIT - 8, 107, far + 7, LIMIT - 1, 114, far + 14, LIMIT, 100]
    assert [served.words[0] & LIMIT for served in run.served["emit"]] == [80, 30, LIMIT]


def test_turns_that_move_a_region_too_far_lose_it_until_the_loop_is_over():
    strides = [Loop(turns=5, steps=(Step(1, 1 - (1 << 28)),)), Loop(turns=9, steps=(Step(1, (1 << 28) - 1),))]
    inside = [LoadWeights(source=Operand(1, 9)), End(), LoadWeights(source=Operand(1, 9)), End()]
    run_and_check([*strides, *inside, LoadWeights(source=Operand(1, 9)), Stop()], ends=20_000)


def test_queues_hold_eight_operations_and_no_more():
    program = [Multiply(tag=number) for number in range(20)]
    run = run_and_check([*program, Stop()], busy=400, ends=20_000)
    assert run.deepest == 8


def test_an_operation_follows_the_one_before_after_three_clocks():
    run = run_and_check([*(Emit(tag=number) for number in range(12)), Stop()], busy=200, seed=3)
    served = run.served["emit"]
    # The one after is there by then, if this one took longer than it is to read.
    gaps = [b.begin - a.end for a, b in zip(served, served[1:], strict=False) if a.end - a.begin > 60]
    assert len(gaps) > 2 and set(gaps) == {3}


def test_wait_holds_what_follows_until_engines_are_idle():
    program = [Multiply(), Accumulate(), Wait(multiply=True), LoadWeights(), Stop()]
    run = run_and_check(program, busy=300, seed=2)
    assert run.served["load"][0].begin > run.served["multiply"][0].end


def test_stamps_and_interrupts_tell_their_tags():
    run = run_and_check([Stamp(tag=0x123), Interrupt(tag=0xFEED), Stamp(tag=7), Stop()])
    assert run.tags == [0x123, 0xFEED, 7]
    assert run.events["stamps"] == 2 and run.events["reached"] == 1


@pytest.mark.slow
def test_more_than_255_tokens_wait():
    # 256 pushes: the last one finds the counter full until the first is popped.
    program = [Loop(turns=256), LoadWeights(push=("emit",)), End(), Loop(turns=256), Emit(pop=("load",)), End(), Stop()]
    run = run_and_check(program, busy=2, ends=60_000, width=256)
    assert len(run.served["emit"]) == 256


# Errors --------------------------------------------------------------------------------------------------------------


def run_to_failure(words, *, seed=0, size=1 << 20, limit=1 << 20, **options):
    """The command unit ends a program as the interpreter does."""
    memory = place(words)
    regions = [(BASE, limit)] + [(0, LIMIT)] * 7
    told, fault, _ = expected(memory, regions, Operand(0, AT), size)
    run = bench(memory, seed=seed, size=size, limit=limit, **options)
    assert run.status["failed"] == 1 and run.status["done"] == 0 and run.events["fails"] == 1
    cause, position, tag = fault
    assert (CAUSES[run.failure["cause"]], run.failure["position"], run.failure["tag"]) == (cause, position, tag)
    assert run.failure["engine"] == 15
    check(run, told)
    return cause


SMALL = [Emit(tag=1), Loop(turns=2, steps=(Step(2, 9),)), Multiply(tag=2, channels=4), End(), Wait(emit=True), Stop()]


@pytest.mark.parametrize("seed", range(20))
def test_mutated_words_are_refused_as_the_interpreter_refuses_them(seed):
    draw = random.Random(seed)
    words = assemble(SMALL)
    line, word, bit = draw.randrange(len(words)), draw.randrange(8), draw.randrange(32)
    words[line, word] ^= 1 << bit
    memory = place(words)
    told, fault, _ = expected(memory, [(BASE, 64)] + [(0, LIMIT)] * 7, Operand(0, AT), len(words))
    if fault is None:
        return
    if fault[0] == "token":
        run = bench(memory, seed=seed, size=len(words), limit=64, watchdog=300)
        assert CAUSES[run.failure["cause"]] == "watchdog" and run.failure["position"] == fault[1]
        return
    run_to_failure(words, seed=seed, size=len(words), limit=64)


@pytest.mark.parametrize(
    "line",
    [
        [0x07 | 0x100, 0],  # an opcode that there is not
        [0x01 | 0x200, 0],  # another version
        [0x01 | 0x1100, 0],  # an engine where there is none
        [0x01 | 0x100, 1],
        [0x06 | 0x100, 0],  # an End without a Loop
        [0x02 | 0x100, 0, 16],  # a fifth engine
        [0x08 | 0x4100, 0x100],  # registers of a fifth engine
        [0x08 | 0x100, 0x000],  # no register
        [0x08 | 0x100, 0x700],  # seven
        [0x08 | 0x100, 0x21F, 0, 0],  # register 32
        [0x08 | 0x100, 0x100, 0, 1],  # one word too many
        [0x10 | 0x1100, 0],  # an operation of another engine
        [0x10 | 0x100, 0x01],  # its own token
        [0x10 | 0x100, 0x10],
        [0x10 | 0x100, 0x100],
        [0x10 | 0x100, 0, 1],
        [0x05 | 0x100, 0, 0],  # no turn
        [0x05 | 0x100, 0, 2 | 6 << 16],  # six steps
        [0x05 | 0x100, 0, 2 | 1 << 16, 0],  # a step of 0
        [0x05 | 0x100, 0, 2 | 2 << 16, 1, 2],  # one region twice
        [0x05 | 0x100, 0, 2 | 1 << 16, 1, 2],  # one word too many
    ],
    ids=lambda line: "-".join(f"{word:x}" for word in line),
)
def test_what_is_no_command_is_refused_by_its_position(line):
    words = assemble([LoadWeights(tag=1, records=3), Wait(load=True), Stop()])
    words[2] = [*line, *[0] * (8 - len(line))]
    assert run_to_failure(words) == "command"


@pytest.mark.parametrize(
    ("engine", "opcode", "register", "value"),
    [
        (0, 0x10, 2, 1 << 24),
        (2, 0x30, 7, 3 << 16),
        (3, 0x42, 10, 6 << 21),
        (3, 0x40, 10, 7 << 27),
        (3, 0x40, 11, 3 << 7),
    ],
)
def test_reserved_bits_and_choices_of_an_operation_are_checked(engine, opcode, register, value):
    head = engine << 12 | 0x100
    words = assemble([Stamp(), Stamp(), Stop()])
    words[0] = [0x08 | head, register | 0x100, value, 0, 0, 0, 0, 0]
    words[1] = [opcode | head | 0xABCD0000, 0, 0, 0, 0, 0, 0, 0]
    assert run_to_failure(words) == "command"


def test_loops_nest_four_deep_and_no_deeper():
    run_and_check([*[Loop(turns=2)] * 4, Stamp(), *[End()] * 4, Stop()], ends=20_000)
    words = assemble([*[Loop(turns=2)] * 4, Stamp(), *[End()] * 4, Stop()])
    words[4] = words[0]
    assert run_to_failure(words) == "command"


def test_a_stop_in_a_loop_is_refused():
    words = assemble([Loop(turns=2), Stamp(), End(), Stop()])
    words[1] = words[3]
    assert run_to_failure(words) == "command"


@pytest.mark.parametrize("size", [0, 1, 5, 7])
def test_a_program_must_end_within_its_size(size):
    assert run_to_failure(assemble([*[Stamp(tag=5)] * 7, Stop()]), size=size) == "command"


@pytest.mark.parametrize("limit", [0, 4, 5, 6, 9])
def test_a_program_must_end_within_its_region(limit):
    assert run_to_failure(assemble([*[Stamp(tag=5)] * 7, Stop()]), limit=limit) == "region"


def test_an_error_of_an_operation_comes_before_that_of_a_later_command():
    words = assemble([LoadWeights(tag=9, records=3), Stamp(), Stop()])
    words[2][0] |= 1 << 12
    seen = []

    def act(clock, put, run):
        if run.served["load"] and not seen:
            seen.append(clock)
        if seen and clock > seen[0] + 100:
            put("causes.0", CAUSES.index("buffer"))

    run = bench(place(words), busy=100_000, act=act)
    assert CAUSES[run.failure["cause"]] == "buffer"
    assert (run.failure["engine"], run.failure["tag"], run.failure["position"]) == (0, 9, 1)


def test_of_two_errors_in_a_clock_that_of_the_lower_engine_is_told_and_before_it_that_of_the_bus():
    program = place(assemble([Accumulate(tag=3), Multiply(tag=4), Stop()]))

    def both(clock, put, run):
        if clock > 400:
            put("causes.1", CAUSES.index("field"))
            put("causes.2", CAUSES.index("damaged"))

    run = bench(program, busy=100_000, act=both)
    assert (run.failure["engine"], CAUSES[run.failure["cause"]], run.failure["tag"]) == (1, "field", 4)

    def bus(clock, put, run):
        both(clock, put, run)
        if clock > 400:
            for name, value in (("cause", CAUSES.index("bus")), ("engine", 2), ("response", 3), ("unit", 77)):
                put(f"bus.{name}", value)

    run = bench(program, busy=100_000, act=bus)
    assert run.failure["engine"] == 2 and CAUSES[run.failure["cause"]] == "bus"
    assert (run.failure["response"], run.failure["unit"], run.failure["tag"]) == (3, 77, 3)


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [False, True])
def test_the_watchdog_ends_what_does_not_move(alive):
    words = assemble([Emit(tag=0x77), Multiply(tag=0x66, pop=("emit",)), Stop()])

    def act(clock, put, run):
        put("progress", alive and clock < 2000 and clock % 200 == 0)

    run = bench(place(words), busy=100_000, watchdog=250, act=act)
    assert CAUSES[run.failure["cause"]] == "watchdog" and run.failure["engine"] == 1 and run.failure["tag"] == 0x66
    assert (run.clocks > 2000) == alive and run.clocks < (2400 if alive else 800)


def test_halt_ends_what_was_begun_and_nothing_else():
    program = [*[LoadWeights(tag=1)] * 3, *[Stamp()] * 200, Emit(), Stop()]

    def act(clock, put, run):
        put("halt", clock == 450)

    run = bench(place(assemble(program)), busy=500, act=act)
    assert run.status["halted"] == 1 and run.status["done"] == 0 and run.events["ends"] == 0 == run.events["fails"]
    assert [served.end > 0 for served in run.served["load"]] == [True] * 3 and not run.served["emit"]


@pytest.mark.parametrize("seed", range(6))
def test_after_a_reset_at_any_time_the_next_program_is_right(seed):
    draw = random.Random(seed)
    program = random_program(draw, 8)
    words = assemble(program)
    memory = place(words)
    told, fault, _ = expected(memory, [(BASE, 1 << 20)] + [(0, LIMIT)] * 7, Operand(0, AT), 1 << 20)
    assert fault is None
    when = draw.randrange(1, 900)
    first = []

    def act(clock, put, run):
        if not first or first[0] is run:
            first[:] = [run]
            put("reset", clock == when)

    cut, whole = bench(memory, seed=seed, act=act, runs=2, ends=20_000)
    if not cut.status["done"]:
        assert cut.status == {"halted": 0, "done": 0, "failed": 0, "resetting": 0} and not cut.events["ends"]
    check(cut, told, whole=False)
    assert whole.status["done"] == 1
    check(whole, told)


def test_programs_run_one_after_the_other():
    words = assemble([Emit(tag=4, width=3), Stop()])
    for run in bench(place(words), runs=3):
        assert run.status["done"] and len(run.served["emit"]) == 1
