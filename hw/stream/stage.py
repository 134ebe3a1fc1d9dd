# amaranth: UnusedElaboratable=no
"""A straight pipeline between two streams, described stage by stage: what is read later is registered, nothing else."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueCastable, ValueLike
from amaranth.lib import data, stream, wiring


def enabled_cuts(cuts: int, depth: int) -> tuple[bool, ...]:
    """Which of a unit's `cuts` hold registers when at most `depth` may.

    The last cut (the output register) always does; the others are spread evenly.

    Parameters
    ----------
    cuts : int
        Places where the unit can be cut, the output register included.
    depth : int
        Register stages wanted; at least 1.

    Raises
    ------
    ValueError
        If either is below 1.
    """
    if cuts < 1:
        raise ValueError(f"cuts must be at least 1, not {cuts}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, not {depth}")
    stages = min(cuts, depth)
    chosen = {cuts - 1 - (position * cuts) // stages for position in range(stages)}
    return tuple(cut in chosen for cut in range(cuts))


def count_stages(describe: Callable[[Module], int]) -> int:
    """Register stages of a pipeline: what `describe`, called with a module that is thrown away, returns.

    Parameters
    ----------
    describe : function
        Describes a pipeline into a module and returns what `Stage.finish` does.
    """
    return describe(Module())


def count_cuts(describe: "Callable[[Stage], Stage]") -> int:
    """Cuts between the first stage and the one that `describe` returns, tried in a module that is thrown away."""
    return describe(Stage.begin(Module(), stream.Signature(0).create(path=("trial",)))).cuts - 1


@dataclasses.dataclass
class _Carried:
    """A value on its way through a cut: the signal stands for it in the stage after the cut."""

    cut: int
    m: Module
    signal: Signal | ValueCastable
    value: Value | ValueCastable
    held_by: Value | None


class _Pipeline:
    """What the stages of a pipeline share."""

    def __init__(self, name: str):
        self.name = name
        self.advance = Signal(name=f"{name}advance")
        self.carried: list[_Carried] = []
        self.last = 0
        self.finished = False


class _Scope:
    """Where the values of a part are described, and the names they take."""

    def __init__(self, pipeline: _Pipeline, m: Module, prefix: str):
        self.pipeline, self.m, self.prefix = pipeline, m, prefix
        self.wires: set[str] = set()

    def wire(self, number: int, name: str, value: Any, *, always: bool = False) -> Any:
        """`value` under its name, where it is more than a name: an expression is written out for each of its uses."""
        plain = Value.cast(value)
        if not len(plain) or (isinstance(plain, Signal | Const) and not always):
            return value
        full_name = self.prefix + name + (f"_stage{number}" if name in self.wires else "")
        self.wires.add(name)
        signal = Signal(value.shape(), name=full_name)
        self.m.d.comb += signal.eq(value)
        return signal

    def carry(self, number: int, name: str, value: Any, made: "_Made") -> Any:
        """`value` as stage `number` sees it, one cut on."""
        if self.pipeline.finished:
            raise ValueError(f"value {name!r} must not be read after its pipeline is finished")
        if isinstance(value, Const) or not len(Value.cast(value)):
            return value
        full_name = f"{self.pipeline.name}stage{number}_{self.prefix.removeprefix(self.pipeline.name)}{name}"
        # Data need no reset as long as nobody takes them for valid.
        signal = Signal(value.shape(), name=full_name, init=made.init, reset_less=name != "valid")
        self.pipeline.carried.append(_Carried(number - 1, self.m, signal, value, made.held_by))
        return signal


@dataclasses.dataclass(frozen=True)
class _Made:
    """What a value's registers hold at first, and a register that there is already."""

    init: Any = None
    held_by: Value | None = None


@dataclasses.dataclass(frozen=True)
class _Array:
    """A list of values of one shape, which share a signal."""

    view: data.View
    kind: type


def _each(function: Callable[[str, Any], Any], item: Any) -> Any:
    """`item`, a list, tuple or dataclass, with ``function(its name, part)`` for each part; all else as it is."""
    if isinstance(item, list | tuple):
        return type(item)(function(str(index), part) for index, part in enumerate(item))
    if dataclasses.is_dataclass(item):
        names = [field.name for field in dataclasses.fields(item)]
        return dataclasses.replace(item, **{name: function(name, getattr(item, name)) for name in names})
    return item


def _pack(item: Any) -> Any:
    """`item` with each list of values of one shape as an `_Array`."""
    if isinstance(item, list | tuple) and len(item) > 1 and not any(isinstance(part, Const) for part in item):
        shapes = [part.shape() if isinstance(part, Value | ValueCastable) else None for part in item]
        if None not in shapes and all(shape == shapes[0] for shape in shapes):
            return _Array(data.ArrayLayout(shapes[0], len(item))(Cat(*item)), type(item))
    return _each(lambda _, part: _pack(part), item)


def _open(item: Any) -> Any:
    """What `_pack` made the item of."""
    if isinstance(item, _Array):
        return item.kind(item.view)
    return _each(lambda _, part: _open(part), item)


def _map(function: Callable[[str, Any], Any], name: str, item: Any) -> Any:
    """`item`, packed, with each value in it replaced by ``function(name, value)``."""
    if isinstance(item, Value | ValueCastable):
        return function(name, item)
    if isinstance(item, _Array):
        return _Array(function(name, item.view), item.kind)
    return _each(lambda part_name, part: _map(function, f"{name}_{part_name}", part), item)


class Stage:
    """The values between two cuts of a pipeline: an attribute set is a value made, an attribute read a value used.

    A value made in one stage and read in a later one passes a register at each cut between them, if that cut holds
    registers; which do is chosen at the end (`enabled_cuts`). So results are equal at every depth, and cuts count
    themselves. All registers move in a clock in which the output is empty or taken, else all hold: throughput is one
    payload per clock, results keep their order, and no back-pressure pattern changes them.

    Values are Amaranth values, views, or lists, tuples and dataclasses of them; constants and Python objects pass.
    The value ``valid`` tells whether the stage holds a payload; lowering it drops the payload.

    ::

        s = Stage.begin(m, self.i)
        s.a, s.b = self.i.p.a + 1, self.i.p.b
        s = s.cut()
        s.c = s.a * s.b                                # registers stage1_a, stage1_b
        s = s.cut()
        s.finish(self.o, s.c, depth=depth)             # register stage2_c, and the output

    A *part* of a stage has names of its own, for what stands there more than once::

        lanes = [product(s.part(f"lane{lane}"), s.a[lane], s.b[lane]) for lane in range(n)]
        s, lanes = s.join(lanes)                       # where the latest of them has its result
        s.total = sum(lane.product for lane in lanes)
    """

    def __init__(self, scope: _Scope, number: int, before: "Stage | None", outer: "Stage | None"):
        pipeline = scope.pipeline
        self.__dict__.update(_scope=scope, _pipeline=pipeline, _number=number, _before=before, _outer=outer)
        self.__dict__.update(_made={}, _next=None)
        pipeline.last = max(pipeline.last, number)

    @classmethod
    def begin_flow(cls, m: Module, *, name: str = "") -> "Stage":
        """First stage of a pipeline that never waits: something enters at every clock. `finish_flow` ends it.

        Parameters
        ----------
        m : Module
            Module to add to.
        name : str
            Starts the names of all signals.
        """
        pipeline = _Pipeline(name)
        return cls(_Scope(pipeline, m, name), 0, None, None)

    @classmethod
    def begin(cls, m: Module, i: Any, *, name: str = "") -> "Stage":
        """First stage of a pipeline.

        Parameters
        ----------
        m : Module
            Module to add to.
        i : stream interface
            Input, as seen inside the component; its ready is driven.
        name : str
            Starts the names of all signals; needed where a module holds several pipelines.
        """
        pipeline = _Pipeline(name)
        stage = cls(_Scope(pipeline, m, name), 0, None, None)
        m.d.comb += i.ready.eq(pipeline.advance)
        stage.valid = i.valid
        return stage

    def make(self, name: str, value: Any, *, init: Any = None, held_by: Value | None = None) -> None:
        """Set a value, as an assignment does, and say what its registers are like.

        Parameters
        ----------
        name : str
            Its name.
        value : value
            The value.
        init : optional
            What its registers hold at first; a reset leaves them alone.
        held_by : Value, optional
            A register of the caller's that takes `value` whenever this stage moves: it stands for the value after the
            next cut, instead of one more register.

        Raises
        ------
        ValueError
            If a stage has an attribute of that name already.
        """
        if hasattr(type(self), name) or name.startswith("_"):
            raise ValueError(f"value must not be called {name!r}, a stage's own name")
        wire = functools.partial(self._scope.wire, self._number)
        self._made[name] = _map(wire, name, _pack(value)), _Made(init, held_by)

    def __setattr__(self, name: str, value: Any) -> None:
        self.make(name, value)

    def __getattr__(self, name: str) -> Any:
        found = self._find(name)
        if found is None:
            raise AttributeError(f"value {name!r} must be made before stage {self._number} reads it")
        return _open(found[0])

    def _find(self, name: str) -> tuple[Any, _Made] | None:
        if name in self._made:
            return self._made[name]
        before = None if self._before is None else self._before._find(name)
        if before is None:
            return None
        value, made = before

        def carry(part: str, value: Any) -> Any:
            return self._scope.carry(self._number, part, value, made)

        self._made[name] = _map(carry, name, value), dataclasses.replace(made, held_by=None)
        return self._made[name]

    @property
    def m(self) -> Module:
        """Module that the values of this stage are described in."""
        return self._scope.m

    @property
    def outer(self) -> "Stage":
        """The stage that this part of it stands in."""
        if self._outer is None:
            raise ValueError("outer must be asked of a part, not of a whole stage")
        return self._outer

    @property
    def moves(self) -> Value:
        """Whether a payload of this stage moves on at this clock edge."""
        if self._outer is not None:
            return self._outer.moves
        return self.valid & self._pipeline.advance

    @property
    def cuts(self) -> int:
        """Cuts that a pipeline has which finishes in this stage, that of its output included."""
        return self._number + 1

    def label(self, name: str) -> str:
        """A name for a signal of this part."""
        return self._scope.prefix + name

    def cut(self, count: int = 1) -> "Stage":
        """The stage after this one, or `count` stages on."""
        if not count:
            return self
        if self._next is None:
            outer = None if self._outer is None else self._outer.cut()
            self.__dict__["_next"] = Stage(self._scope, self._number + 1, self, outer)
        return self._next.cut(count - 1)

    def part(self, name: str) -> "Stage":
        """A place in this stage with names of its own, which start with `name`."""
        scope = _Scope(self._pipeline, self.m, f"{self._scope.prefix}{name}_")
        return Stage(scope, self._number, None, self)

    def instance(self, name: str, **values: Any) -> "Stage":
        """A part in a submodule, which begins with `values`; parts that are alike become equal modules."""
        m = Module()
        self.m.submodules[self.label(name)] = m
        part = Stage(_Scope(self._pipeline, m, self._pipeline.name), self._number, None, self)
        outside = _Scope(self._pipeline, self.m, self._pipeline.name)
        wire = functools.partial(outside.wire, self._number, always=True)
        for value_name, value in values.items():
            part._made[value_name] = _map(wire, value_name, _pack(value)), _Made()
        part._scope.wires |= outside.wires
        return part

    def join(self, parts: "list[Stage]") -> "tuple[Stage, list[Stage]]":
        """The first stage from this one on that comes after none of `parts`, and the parts in it.

        Raises
        ------
        ValueError
            If a part belongs to another pipeline.
        """
        for part in parts:
            if part._pipeline is not self._pipeline:
                raise ValueError("parts must be of the pipeline they are joined in")
        number = max([self._number, *(part._number for part in parts)])
        return self.cut(number - self._number), [part.cut(number - part._number) for part in parts]

    def finish(self, o: Any, payload: ValueLike, *, depth: int) -> int:
        """End the pipeline with the output register.

        Parameters
        ----------
        o : stream interface
            Output, as seen inside the component.
        payload : value
            Its payload (same layout or width).
        depth : int
            At most this many cuts hold registers, the output included; see `enabled_cuts`. With 0 none does, and
            there is no output register.

        Returns
        -------
        int
            Latency: clocks from an accepted payload to the output it causes, without back-pressure.

        Raises
        ------
        ValueError
            If there is a later stage, or the pipeline is finished.
        """
        pipeline = self._pipeline
        if pipeline.finished:
            raise ValueError("finish must be called once")
        if self._number != pipeline.last:
            raise ValueError(f"finish must be called in the last stage, {pipeline.last}, not in stage {self._number}")
        enabled = enabled_cuts(self.cuts, depth) if depth else (False,) * self.cuts
        m, output = self.m, [o.valid.eq(self.valid), o.payload.eq(payload)]
        moves = self._registers(enabled)
        if depth:
            m.d.comb += pipeline.advance.eq(~o.valid | o.ready)
            moves.setdefault(m, []).extend(output)
        else:
            m.d.comb += [pipeline.advance.eq(o.ready), *output]
        for module, assignments in moves.items():
            with module.If(pipeline.advance):
                module.d.sync += assignments
        pipeline.finished = True
        return sum(enabled)

    def finish_flow(self) -> int:
        """End a pipeline that never waits in this stage, whose values are its outputs; every cut holds registers.

        Returns
        -------
        int
            Latency: clocks from the first stage to this one.
        """
        for module, assignments in self._registers((True,) * self._number).items():
            module.d.sync += assignments
        self._pipeline.finished = True
        return self._number

    def _registers(self, enabled: tuple[bool, ...]) -> dict[Module, list[Any]]:
        """Assignments of the registers of all cuts, by module; values pass the cuts that hold none."""
        moves: dict[Module, list[Any]] = {}
        for carried in self._pipeline.carried:
            move = carried.signal.eq(carried.value)
            if not enabled[carried.cut]:
                carried.m.d.comb += move
            elif carried.held_by is not None:
                carried.m.d.comb += carried.signal.eq(carried.held_by)
            else:
                moves.setdefault(carried.m, []).append(move)
        return moves


class Pipelined(wiring.Component):
    """A component that is nothing but pipelines: it describes them once, and its latency is what they come to."""

    def _describe(self, m: Module, platform: object) -> int:
        """Add the component to `m`; returns its latency, which is the same on every platform."""
        raise NotImplementedError(f"{type(self).__name__} must define _describe")

    @functools.cached_property
    def latency(self) -> int:
        """Clocks from an accepted payload to the output it causes, without back-pressure."""
        return count_stages(lambda m: self._describe(m, None))

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        self._describe(m, platform)
        return m
