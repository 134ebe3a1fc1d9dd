import dataclasses
import doctest
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from golden.common import checked
from golden.common.checked import Checked, Count, Range, Rule, Share, Stored, check, described, read_json

pytestmark = pytest.mark.golden

EVEN = Rule("even", lambda value: value % 2 == 0)


def test_the_example_of_the_module():
    assert doctest.testmod(checked).failed == 0 < doctest.testmod(checked).attempted


def made(kind, value):
    """The value as a field of an object that was given it."""
    return dataclasses.make_dataclass("Made", [("it", kind)], bases=(Checked,), frozen=True)(value).it


def refused(kind, value, error, message):
    for checks in (lambda: check("it", value, kind), lambda: made(kind, value)):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            checks()


@pytest.mark.parametrize(
    ("kind", "good", "found"),
    [
        (int, 3, 3),
        (float, 3, 3),
        (float, -0.5, -0.5),
        (bool, False, False),
        (str, "", ""),
        (None, None, None),
        (Any, [float("nan")], None),
        (Count, 1, 1),
        (Annotated[float, Range(above=0, below=1)], 0.5, 0.5),
        (Literal["a", None], None, None),
        (Literal[1], 1.0, 1.0),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[tuple[int, ...], ...], [[1], []], ((1,), ())),
        (Mapping[int, float], {1: 2}, {1: 2}),
        (int | tuple[int, ...] | None, [1], (1,)),
        (tuple[Count, ...], (2, 1), (2, 1)),
        (Count | None, None, None),
        (Count | None, 2, 2),
        (Checked, Checked(), None),
    ],
)
def test_good_values(kind, good, found):
    for value in (check("it", good, kind), made(kind, good)):
        assert value == (good if found is None else found) or value is good
        assert type(value) is (tuple if isinstance(good, list) and kind is not Any else type(good))


@pytest.mark.parametrize(
    ("kind", "value", "error", "message"),
    [
        (int, 1.0, TypeError, "it must be an integer, not 1.0"),
        (int, True, TypeError, "it must be an integer, not True"),
        (float, "0.1", TypeError, "it must be a number, not '0.1'"),
        (float, True, TypeError, "it must be a number, not True"),
        (float, float("nan"), ValueError, "it must be finite, not nan"),
        (float, float("-inf"), ValueError, "it must be finite, not -inf"),
        (bool, "false", TypeError, "it must be true or false, not 'false'"),
        (bool, 1, TypeError, "it must be true or false, not 1"),
        (str, 3, TypeError, "it must be a text, not 3"),
        (None, 0, TypeError, "it must be None, not 0"),
        (Count, 0, ValueError, "it must be at least 1, not 0"),
        (Share, 1.5, ValueError, "it must be in 0..1, not 1.5"),
        (Share, float("nan"), ValueError, "it must be finite, not nan"),
        (Annotated[float, Range(above=0, below=1)], 1, ValueError, "it must be above 0 and below 1, not 1"),
        (Annotated[float, Range(high=1)], 2, ValueError, "it must be at most 1, not 2"),
        (Annotated[int, Range(0, 9), EVEN], 7, ValueError, "it must be even, not 7"),
        (Literal["a", "b"], "c", ValueError, "it must be a or b, not 'c'"),
        (Literal[1], True, ValueError, "it must be 1, not True"),
        (Literal["a"], ["a"], ValueError, "it must be a, not ['a']"),
        (Literal[False] | tuple[Literal[False], ...], True, ValueError, "it must be False or a list, not True"),
        (Literal[False] | tuple[Literal[False], ...], [False, True], ValueError, "it[1] must be False, not True"),
        (tuple[int, ...], "x" * 200, TypeError, "it must be a list, not '" + "x" * 99 + "..."),
        (tuple[int, ...], 3, TypeError, "it must be a list, not 3"),
        (tuple[int, ...], "12", TypeError, "it must be a list, not '12'"),
        (tuple[Count, ...], [1, 0], ValueError, "it[1] must be at least 1, not 0"),
        (Mapping[str, int], [1], TypeError, "it must be a mapping, not [1]"),
        (Mapping[str, int], {1: 1}, TypeError, "Key of it must be a text, not 1"),
        (Mapping[str, int], {"a": "b"}, TypeError, "it['a'] must be an integer, not 'b'"),
        (Count | None, "x", TypeError, "it must be an integer at least 1 or None, not 'x'"),
        (Count | None, 0, ValueError, "it must be at least 1, not 0"),
        (Count | int, 0, ValueError, "it must be at least 1, not 0"),
        (tuple[Count, ...], (1, 0), ValueError, "it[1] must be at least 1, not 0"),
        (int | tuple[int, ...], ["x"], TypeError, "it[0] must be an integer, not 'x'"),
        (Checked, 3, TypeError, "it must be Checked, not int"),
    ],
)
def test_bad_values(kind, value, error, message):
    refused(kind, value, error, message)


@dataclass(frozen=True, kw_only=True)
class Inner(Stored, noun="an inner", schema=2):
    side: Count = described(4, "pixels")


@dataclass(frozen=True, kw_only=True)
class Outer(Stored, noun="an outer", schema=1, label="Outer {}"):
    name: str
    inner: Inner = dataclasses.field(default_factory=Inner)
    widths: tuple[Count, ...] = (1, 2)
    table: Mapping[int, int] = described({0: 1}, "by number")

    def check_together(self):
        if len(self.widths) > 3:
            raise ValueError(f"Outer widths must be 3 at most, not {len(self.widths)}")


def test_checked_objects():
    one = Outer(name="x", widths=[3, 4])
    assert one.widths == (3, 4) and one.table == {0: 1} and dataclasses.fields(Inner)[0].metadata["help"] == "pixels"
    assert one.table is not Outer(name="x").table
    for arguments, error, message in [
        ({"name": 3}, TypeError, "Outer name must be a text, not 3"),
        ({"widths": (1, 0)}, ValueError, "Outer widths[1] must be at least 1, not 0"),
        ({"widths": (1,) * 4}, ValueError, "Outer widths must be 3 at most, not 4"),
        ({"inner": {}}, TypeError, "Outer inner must be Inner, not dict"),
    ]:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            Outer(**{"name": "x", **arguments})


def test_round_trip_through_json():
    one = Outer(name="x", inner=Inner(side=7), widths=(3,), table={2: 5})
    assert Outer.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert one.to_dict()["inner"] == {"schema": 2, "side": 7} and one.to_dict()["table"] == {"2": 5}
    assert Outer.from_dict({"schema": 1, "widths": [9]}, base=one) == dataclasses.replace(one, widths=(9,))


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        (3, TypeError, "An outer must be a JSON object, not int"),
        ({"name": "x"}, ValueError, "schema of an outer must be 1, not None"),
        ({"schema": 1}, ValueError, "Outer name must be a text, not left out"),
        (
            {"schema": 1, "nam": ""},
            ValueError,
            "Key of an outer must be one of the known names, not 'nam'; did you mean name?",
        ),
        (
            {"schema": 1, "name": "", "inner": {"schema": 1}},
            ValueError,
            "schema of an inner must be 2, not 1",
        ),
        (
            {"schema": 1, "name": "", "table": {"one": 1}},
            TypeError,
            "Key of Outer table must be an integer, not 'one'",
        ),
    ],
)
def test_bad_mappings(mapping, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Outer.from_dict(mapping)


def test_files(tmp_path):
    path = tmp_path / "one.json"
    with pytest.raises(FileNotFoundError, match=r"^It must be a file, not '.*one\.json', which does not exist$"):
        read_json("It", path)
    path.write_text('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match=r"^It must be JSON, not '.*one\.json': key 'a' stands twice$"):
        read_json("It", path)
    path.write_text(json.dumps(Outer(name="x").to_dict()))
    assert Outer.from_file(path) == Outer(name="x")
