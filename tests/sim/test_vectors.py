import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from golden.parameters import preset
from hw import payloads
from sim import stimuli, vectors

pytestmark = pytest.mark.unit

LAYOUT = data.StructLayout(
    {
        "flag": 1,
        "number": signed(5),
        "lanes": data.ArrayLayout(signed(3), 4),
        "slots": data.ArrayLayout(data.StructLayout({"valid": 1, "value": 16}), 2),
        "mask": 6,
        "wide": signed(100),
    }
)


def test_names_and_places_of_fields():
    leaves = vectors.leaves(LAYOUT)
    assert [leaf.name for leaf in leaves] == [
        *("flag", "number", "lanes[0]", "lanes[1]", "lanes[2]", "lanes[3]"),
        *("slots[0].valid", "slots[0].value", "slots[1].valid", "slots[1].value", "mask", "wide"),
    ]
    assert [leaf.offset for leaf in leaves] == [0, 1, 6, 9, 12, 15, 18, 19, 35, 36, 52, 58]
    assert vectors.width(LAYOUT) == 158


def test_packing_agrees_with_amaranth():
    random = np.random.default_rng(1)
    count = 50
    values = {
        "flag": random.integers(0, 2, count) > 0,
        "number": random.integers(-16, 16, count),
        "lanes": random.integers(-4, 4, (count, 4)),
        "slots": {
            "valid": random.integers(0, 2, (count, 2)) > 0,
            "value": random.integers(0, 1 << 16, (count, 2)).astype(np.uint16),
        },
        "mask": random.integers(0, 2, (count, 6)) > 0,
        "wide": np.array([int(x) << 70 for x in random.integers(-(1 << 29), 1 << 29, count)], object),
    }
    packed = vectors.pack(LAYOUT, values)
    assert packed.shape == (count, 20) and packed.dtype == np.uint8
    for row in range(count):
        expected = LAYOUT.const(
            {
                "flag": bool(values["flag"][row]),
                "number": int(values["number"][row]),
                "lanes": [int(x) for x in values["lanes"][row]],
                "slots": [
                    {"valid": bool(values["slots"]["valid"][row, i]), "value": int(values["slots"]["value"][row, i])}
                    for i in range(2)
                ],
                "mask": sum(int(bit) << place for place, bit in enumerate(values["mask"][row])),
                "wide": int(values["wide"][row]),
            }
        )
        number = int.from_bytes(packed[row].tobytes(), "big")
        assert number == expected.as_bits()
        fields = vectors.decode(LAYOUT, number)
        assert fields["number"] == values["number"][row] and fields["wide"] == values["wide"][row]
        assert fields["lanes[3]"] == values["lanes"][row, 3]


def test_packing_a_plain_number():
    assert vectors.pack(signed(9), np.array([-1, 5])).tolist() == [[1, 255], [0, 5]]
    assert vectors.decode(signed(9), 0x1FF) == {"payload": -1}
    assert vectors.number(data.ArrayLayout(4, 3), [1, 2, 3]) == 0x321


@pytest.mark.parametrize(
    "values, message",
    [
        ({"a": [8], "b": [0]}, r"^Values of a must be in -8..7, not 8$"),
        ({"a": [-9], "b": [0]}, r"^Values of a must be in -8..7, not -9$"),
        ({"a": [0], "b": [2]}, r"^Values of b must be in 0..1, not 2$"),
        ({"a": [0]}, r"^Values must hold the field b$"),
        ({"a": [0], "b": [0, 1]}, r"^Fields of a payload must have one length, not \[1, 2\]$"),
        ({"a": [[0]], "b": [0]}, r"^Values of a must have one number per vector, not the shape \(1, 1\)$"),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        vectors.pack(data.StructLayout({"a": signed(4), "b": 1}), values)


@pytest.mark.parametrize("name", ["tiny", "edge", "ulx3s", "paper"])
def test_made_up_groups_are_well_formed(name):
    parameters = preset(name)
    groups = stimuli.delta_groups(np.random.default_rng(3), 2_000, parameters)
    groups.check(parameters)
    assert groups.poisoned.any() and groups.zero.any()
    packed = vectors.pack(payloads.delta_group(parameters), vectors.group_values(groups, parameters))
    assert len(np.unique(packed, axis=0)) > 1_200


def test_vectors_are_finite_until_poisoned():
    random = np.random.default_rng(4)
    values = stimuli.vectors(random, 600, 16)
    assert np.isfinite(values.view(np.float16)).all()
    assert (values == 0).all(axis=1).any()
    share = (~np.isfinite(stimuli.poisoned(random, values, 0.25).view(np.float16))).any(axis=1).mean()
    assert 0.15 < share < 0.35


@pytest.mark.parametrize("count", [0, 1, 40])
def test_unpacking_is_the_inverse_of_packing(count):
    random = np.random.default_rng(count)
    values = {
        "flag": random.integers(0, 2, count),
        "number": random.integers(-16, 16, count),
        "lanes": random.integers(-4, 4, (count, 4)),
        "slots": {"valid": random.integers(0, 2, (count, 2)), "value": random.integers(0, 1 << 16, (count, 2))},
        "mask": random.integers(0, 64, count),
        "wide": np.array([int(x) << 70 for x in random.integers(-(1 << 29), 1 << 29, count)], object),
    }
    found = vectors.unpack(LAYOUT, vectors.pack(LAYOUT, values))
    assert list(found) == list(values)
    for name in ("flag", "number", "lanes", "mask", "wide"):
        assert found[name].tolist() == values[name].tolist(), name
    for name in ("valid", "value"):
        assert found["slots"][name].tolist() == values["slots"][name].tolist(), name
