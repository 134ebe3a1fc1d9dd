"""Networks of one's own as command lines name them: ``package.module:function``, or ``folder/file.py:function``."""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from golden.common import names
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Process

_OTHERS = (Path(__file__).parents[1], sys.prefix, sys.base_prefix)
"""Where no code of the user's is."""

_NAME = re.compile(r"(?P<where>[\w.]+|.+\.py):(?P<function>[^\W\d]\w*)")


def own(text: str) -> tuple[Network, Process | None] | None:
    """Network that a function builds, and its process if the function returns one beside it.

    Parameters
    ----------
    text : str
        ``module:function`` or ``file.py:function``; modules are looked for in the current folder too.

    Returns
    -------
    pair of Network and Process, or None
        None if the text names no function.

    Raises
    ------
    ValueError
        If there is no such module, file or function, it needs arguments, or it fails, with the line in which it does.
    TypeError
        If it returns something else.
    """
    match = _NAME.fullmatch(text)
    if match is None or Path(text).is_dir():
        return None
    where, name = match.groups()
    module = _run(text, lambda: _from_file(where) if where.endswith(".py") else _from_name(where))
    functions = {key: value for key, value in vars(module).items() if callable(value)}
    function = names.lookup(f"Function of {where}", name, functions)
    if needed := _needed(function):
        raise ValueError(f"Function {text!r} must need no arguments, not {', '.join(needed)}")
    found = _run(text, function)
    network, process = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(network, Network) or not isinstance(process, Process | None):
        raise TypeError(f"Network {text!r} must return a Network, or one and its Process, not {found!r}")
    return network, process


def _needed(function: Callable[..., Any]) -> list[str]:
    """Parameters of a function that have no default; none where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in many]


def _from_name(name: str) -> ModuleType:
    _findable("")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"Module {name!r} must exist, but there is no {error.name!r}") from None


def _from_file(text: str) -> ModuleType:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"File {text!r} must exist")
    _findable(str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _findable(folder: str) -> None:
    """Let modules of a folder be imported: the current one (a script does not look there), or that of a file."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _run(text: str, made: Callable[[], Any]) -> Any:
    """What a call gives; what it raises as one sentence with the line of the user's that led to it."""
    try:
        return made()
    except Exception as error:
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            frames.append((Path(error.filename or ""), error.lineno))
        theirs = [frame for frame in frames if frame[0].is_file() and not any(map(frame[0].is_relative_to, _OTHERS))]
        if not theirs:
            raise
        path, line = theirs[-1]
        what = f"{path.name}, line {line}: {type(error).__name__}: {error}"
        raise ValueError(f"Network {text!r} must be built without error, not fail in {what}") from None
