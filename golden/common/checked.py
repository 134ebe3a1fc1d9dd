"""Frozen objects whose annotations are their rules: checked when they are made, and when they are read from JSON.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Filter(Checked, label="Filter {}"):
...     taps: Annotated[int, Range(1, 64)] = 8
...     window: Literal["hann", "flat"] = "hann"
>>> Filter(taps=65)
Traceback (most recent call last):
    ...
ValueError: Filter taps must be in 1..64, not 65

An annotation is one of `int`, `float` (any finite number), `bool`, `str`, None, `Any`, a class, a ``Literal``, a
``tuple[X, ...]`` (a list becomes one), a ``Mapping[K, V]``, a union of these, or an ``Annotated`` one with rules.
"""

import dataclasses
import functools
import json
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from golden.common import names


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value of the right type must be besides, for ``Annotated``.

    Parameters
    ----------
    text : str
        Completes "... must be".
    holds : callable
        Whether a value keeps the rule.
    """

    text: str
    holds: Callable[[Any], bool]


class Range(Rule):
    """Bounds of a number, both included; `above` and `below` are not.

    Members
    -------
    low, high : int, float or None
        The included bounds.
    """

    low: float | None
    high: float | None

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        above: float = -math.inf,
        below: float = math.inf,
    ):
        texts = [f"in {low}..{high}"] if low is not None and high is not None else []
        if not texts:
            texts += [f"at least {low}"] if low is not None else []
            texts += [f"at most {high}"] if high is not None else []
        texts += [f"above {above}"] if above > -math.inf else []
        texts += [f"below {below}"] if below < math.inf else []
        least, most = (-math.inf if low is None else low), (math.inf if high is None else high)
        super().__init__(" and ".join(texts), lambda value: least <= value <= most and above < value < below)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


Count = Annotated[int, Range(1)]
"""A positive integer."""

Whole = Annotated[int, Range(0)]
"""An integer from 0."""

Positive = Annotated[float, Range(above=0)]
"""A number above 0."""

Share = Annotated[float, Range(0, 1)]
"""A number from 0 to 1."""

_origin = functools.cache(typing.get_origin)  # it would take a third of the time of a check

_LONGEST = 100
"""Characters of a value that a sentence shows."""

_ATOMS = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "None"}


def check(name: str, value: Any, kind: Any) -> Any:
    """`value`, if it is of a kind; lists become tuples where the kind is a tuple.

    Parameters
    ----------
    name : str
        What the sentence begins with.
    value : object
        What is checked.
    kind : type or annotation
        See the module.

    Raises
    ------
    TypeError
        If the type is another one: ``<name> must be <kind>, not <value>``.
    ValueError
        If a number is not finite, a choice is not offered, or a rule is broken, in the same form.
    """
    if kind is Any:
        return value
    if _origin(kind) is Annotated:
        value = check(name, value, kind.__origin__)
        for rule in kind.__metadata__:
            if not rule.holds(value):
                raise ValueError(f"{name} must be {rule.text}, not {_shown(value)}")
        return value
    if not _fits(value, kind):
        # a choice may offer values of any type, so none is wrong by its type
        error = ValueError if any(_origin(one) is Literal for one in _members(kind)) else TypeError
        shown = type(value).__name__ if isinstance(kind, type) and kind not in _ATOMS else _shown(value)
        raise error(f"{name} must be {_text(kind)}, not {shown}")
    origin = _origin(kind)
    if origin in _UNIONS:
        return check(name, value, next(one for one in _members(kind) if _fits(value, one)))
    if origin is tuple:
        return tuple(check(f"{name}[{index}]", one, typing.get_args(kind)[0]) for index, one in enumerate(value))
    if origin is Mapping:
        key_kind, value_kind = typing.get_args(kind)
        return {
            check(f"Key of {name}", key, key_kind): check(f"{name}[{key!r}]", one, value_kind)
            for key, one in value.items()
        }
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return int(value) if kind is int else value


_UNIONS = (typing.Union, types.UnionType)
_NUMBERS = {int: numbers.Integral, float: numbers.Real}
"""What fits a number: numpy's, too."""


def _members(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if _origin(kind) in _UNIONS else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value has the type of a kind, whatever it holds."""
    origin = _origin(kind)
    if kind is Any:
        return True
    if kind is None:
        return value is None
    if origin is Annotated:
        return _fits(value, kind.__origin__)
    if origin in _UNIONS:
        return any(_fits(value, one) for one in _members(kind))
    if origin is Literal:
        # True is no 1, but 1.0 is one
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in typing.get_args(kind))
    if origin is tuple:
        return isinstance(value, list | tuple)
    if kind in _NUMBERS and isinstance(value, bool):
        return False
    return isinstance(value, _NUMBERS.get(kind) or origin or kind)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _text(kind: Any) -> str:
    origin, arguments = _origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return " ".join([_text(arguments[0]), *(rule.text for rule in arguments[1:])])
    if origin in _UNIONS:
        return " or ".join(map(_text, arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return "a list"
    if origin is Mapping:
        return "a mapping"
    return _ATOMS.get(type(None) if kind is None else kind) or kind.__name__


def described(default: Any, help: str) -> Any:
    """Field of a dataclass with a default (a dictionary is copied for each object) and ``metadata["help"]``."""
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


class Checked:
    """Base of frozen dataclasses whose fields are checked against their annotations.

    Parameters of a subclass
    ------------------------
    label : str
        What a sentence calls a field: a format of the field's name, ``"U-Net {}"`` for one.

    Raises
    ------
    TypeError, ValueError
        See `check`; the sentence begins with the label.
    """

    _label: ClassVar[str] = "{}"

    def __init_subclass__(cls, label: str | None = None, **rest: Any):
        """Keep what the sentences of the class say."""
        super().__init_subclass__(**rest)
        if label is not None:
            cls._label = label

    def __post_init__(self) -> None:
        """Check every field, then all of them together."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, check(self.called(field.name), value, field.type))
        self.check_together()

    @classmethod
    def called(cls, field: str) -> str:
        """What a sentence calls a field."""
        return cls._label.format(field)

    def check_together(self) -> None:
        """Check the rules between fields; each has the right type by then."""

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Self:
        """Object of a mapping without unknown keys.

        Raises
        ------
        TypeError, ValueError
            Also if a field without a default is left out.
        """
        for field in dataclasses.fields(cls):
            given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if not given and field.name not in mapping:
                raise ValueError(f"{cls.called(field.name)} must be {_text(field.type)}, not left out")
        return cls(**mapping)


class Stored(Checked):
    """A checked object that JSON files hold, with the version of their form under ``schema``.

    Parameters of a subclass
    ------------------------
    noun : str
        What a sentence calls the object, with its article.
    schema : int
        Version of the files.
    """

    _noun: ClassVar[str]
    _schema: ClassVar[int]

    def __init_subclass__(cls, noun: str, schema: int, **rest: Any):
        """Keep what the sentences of the class say."""
        super().__init_subclass__(**rest)
        cls._noun, cls._schema = noun, schema

    def to_dict(self) -> dict[str, Any]:
        """The object as a mapping with ``schema``, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"schema": self._schema, **{name: _plain(value) for name, value in values.items()}}

    @classmethod
    def from_dict(cls, mapping: Any, *, base: Self | None = None) -> Self:
        """Read a mapping; keys left out keep the value of `base` (default: the class's defaults).

        Raises
        ------
        TypeError
            If `mapping` is no mapping or a value has the wrong type.
        ValueError
            If ``schema`` is missing or another one, a key is unknown, or a rule is broken.
        """
        if not isinstance(mapping, dict):
            noun = cls._noun[0].upper() + cls._noun[1:]
            raise TypeError(f"{noun} must be a JSON object, not {type(mapping).__name__}")
        values = dict(mapping)
        schema = values.pop("schema", None)
        if type(schema) is not int or schema != cls._schema:  # True is 1, too
            raise ValueError(f"schema of {cls._noun} must be {cls._schema}, not {schema!r}")
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        for key in values:
            if key not in kinds:
                raise ValueError(names.unknown(f"Key of {cls._noun}", key, kinds))
        values = {name: _revived(value, kinds[name]) for name, value in values.items()}
        return cls.of(values) if base is None else dataclasses.replace(base, **values)

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        """Read a JSON file written from `to_dict`.

        Raises
        ------
        OSError
            If the file cannot be read.
        TypeError, ValueError
            If it is not JSON or breaks a rule.
        """
        return cls.from_dict(read_json(f"{cls._noun[0].upper()}{cls._noun[1:]} file", path))


def _plain(value: Any) -> Any:
    if isinstance(value, Stored):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return {str(key): one for key, one in value.items()} if isinstance(value, Mapping) else value


def _revived(value: Any, kind: Any) -> Any:
    """What JSON cannot say: a stored object in another one, and integers as keys."""
    if not isinstance(value, dict):
        return value
    if isinstance(kind, type) and issubclass(kind, Stored):
        return kind.from_dict(value)
    if _origin(kind) is Mapping and _fits(0, typing.get_args(kind)[0]):
        return {int(key) if key.isdecimal() else key: one for key, one in value.items()}
    return value


def read_json(what: str, path: Path | str) -> Any:
    """Content of a JSON file.

    Raises
    ------
    OSError
        If it does not exist or cannot be read.
    ValueError
        If it is not JSON, nested too deeply, or has a key twice.
        Every sentence begins with `what`, but for files that exist and cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_object)
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} must be a file, not {str(path)!r}, which does not exist") from None
    except RecursionError:
        raise ValueError(f"{what} must be JSON, not {str(path)!r}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} must be JSON, not {str(path)!r}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice")
        found[key] = value
    return found
