"""Computations written as *paths*: generators that yield wherever a register may stand.

A path yields a dict of values and receives the same dict back, registered or not; what it returns is again a dict of
values. So where the registers stand is decided in one place, by whoever runs the path.
"""

from collections.abc import Generator

from amaranth.hdl import Value

from hw.stream import Pipeline

__all__ = ["Path", "carry", "parallel", "run", "settle", "wait"]

Path = Generator[dict[str, Value], dict[str, Value], dict[str, Value]]


def wait(steps: int, **values: Value) -> Path:
    """Carry values through `steps` cuts unchanged."""
    for _ in range(steps):
        values = yield values
    return values


def carry(path: Path, **values: Value) -> Path:
    """Run a path; `values` travel beside it and join its result."""
    received = None
    while True:
        try:
            request = next(path) if received is None else path.send(received)
        except StopIteration as stop:
            return stop.value | values
        registered = yield request | values
        values = {name: registered[name] for name in values}
        received = {name: registered[name] for name in request}


def parallel(**paths: Path) -> Generator[dict[str, Value], dict[str, Value], dict[str, dict[str, Value]]]:
    """Run paths side by side; the results of those that end first are carried along.

    Returns
    -------
    dict of dict
        Result of each path, by its name.
    """
    state: dict[str, dict[str, Value]] = {}
    ended: set[str] = set()

    def step(name, values):
        try:
            state[name] = next(paths[name]) if values is None else paths[name].send(values)
        except StopIteration as stop:
            state[name] = stop.value
            ended.add(name)

    for name in paths:
        step(name, None)
    while len(ended) < len(paths):
        flat = {f"{name}_{key}": value for name, values in state.items() for key, value in values.items()}
        registered = yield flat
        for name, values in state.items():
            state[name] = {key: registered[f"{name}_{key}"] for key in values}
            if name not in ended:
                step(name, state[name])
    return state


def run(pipe: Pipeline, path: Path) -> dict[str, Value]:
    """Put a path into a pipeline, one cut for each time it yields; returns its result."""
    values = None
    while True:
        try:
            request = next(path) if values is None else path.send(values)
        except StopIteration as stop:
            return stop.value
        values = vars(pipe.cut(**request))


def settle(path: Path) -> dict[str, Value]:
    """The result of a path without any register."""
    values = None
    while True:
        try:
            values = next(path) if values is None else path.send(values)
        except StopIteration as stop:
            return stop.value
