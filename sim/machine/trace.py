"""When each engine was at work, as a trace that Perfetto and Chrome open (``ui.perfetto.dev``, ``chrome://tracing``).

A microsecond of the trace is a clock. Source: Trace Event Format, Google.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from golden.machine.command import ENGINES, Command, Operand, Operation
from sim.machine.run import Row

_SECTIONS = len(ENGINES)  # number of the line that shows sections, behind those of the engines


def chrome(rows: Sequence[Row], tags: Mapping[int, str]) -> str:
    """JSON of a trace.

    Parameters
    ----------
    rows : sequence of Row
        Sections, with the spans of their operations.
    tags : mapping of int to str
        What a tag stands for.
    """
    names = [*ENGINES, "sections"]
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": name}}
        for number, name in enumerate(names)
    ]
    for row in rows:
        for number, engine in enumerate(ENGINES):
            operations = [one for one in row.commands if isinstance(one, Operation) and one.engine == engine]
            for operation, (begin, end) in zip(operations, row.spans.get(engine, ()), strict=False):
                name = f"{type(operation).__name__} {tags.get(operation.tag, '')}".rstrip()
                events.append(_event(name, number, begin, end, _fields(operation)))
        ends = [span for spans in row.spans.values() for span in spans]
        if ends:
            begin, end = min(begin for begin, _ in ends), max(end for _, end in ends)
            figures = {"step": row.step, "use": round(row.use, 3), "clocks": row.clocks, "predicted": row.predicted}
            events.append(_event(row.name, _SECTIONS, begin, end, figures))
    return json.dumps({"traceEvents": events, "otherData": {"unit": "1 us is a clock"}})


def _event(name: str, line: int, begin: int, end: int, details: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": 0, "tid": line, "ts": begin, "dur": end - begin, "args": details}


def _fields(command: Command) -> dict[str, Any]:
    """Fields that are not what they are by default."""
    found = {}
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if value != field.default and field.name not in ("tag", "pop", "push"):
            found[field.name] = f"{value.region}:{value.offset:#x}" if isinstance(value, Operand) else value
    return found
