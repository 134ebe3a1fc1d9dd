"""Ports of members: fields by name, whole, or under the names of AXI4-Stream."""

import pytest
from amaranth.hdl import signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl_gen.verilog.ports import Field, members, name_ports
from tests.hw.streams import inspect

pytestmark = pytest.mark.unit

INNER = data.StructLayout({"low": 3, "high": signed(2)})
PAYLOAD = data.StructLayout(
    {"exponent": 6, "last": 1, "inner": INNER, "digits": data.ArrayLayout(signed(3), 4), "none": 0}
)


@pytest.fixture(scope="module")
def found():
    component = wiring.Component(
        {
            "i": In(stream.Signature(PAYLOAD)),
            "o": Out(stream.Signature(data.ArrayLayout(INNER, 2))),
            "status": Out(data.StructLayout({"busy": 1, "level": 4})),
            "clear": In(1),
            "clk": In(1),
            "nothing": In(0),
        }
    )
    return members(inspect(component))


def test_members_in_order_of_the_signature(found):
    assert [(member.name, member.direction, member.width, member.role) for member in found] == [
        ("i__payload", "input", 24, "payload"),
        ("i__valid", "input", 1, "valid"),
        ("i__ready", "output", 1, "ready"),
        ("o__payload", "output", 10, "payload"),
        ("o__valid", "output", 1, "valid"),
        ("o__ready", "input", 1, "ready"),
        ("status", "output", 5, ""),
        ("clear", "input", 1, ""),
        ("clk", "input", 1, ""),
        ("nothing", "input", 0, ""),
    ]


def test_fields_of_payloads(found):
    payload = next(member for member in found if member.name == "i__payload")
    inner = (Field("low", 0, 3), Field("high", 3, 2, signed=True))
    assert payload.fields == (
        Field("exponent", 0, 6),
        Field("last", 6, 1),
        Field("inner", 7, 5, fields=inner),
        Field("digits", 12, 3, signed=True, count=4),
        Field("none", 24, 0),
    )
    assert payload.fields[3].total == 12
    rows = next(member for member in found if member.name == "o__payload")
    assert (rows.count, rows.fields) == (2, inner)


def test_one_port_for_each_field(found):
    """Fields of inner structures too; arrays stay whole; what has no bits is no port; names of clocks are taken."""
    ports = {port.name: (port.member, port.parts, port.count) for port in name_ports(found, "fields")}
    assert ports == {
        "clear": ("clear", ((0, 1),), None),
        "clk_2": ("clk", ((0, 1),), None),
        "i_exponent": ("i.payload", ((0, 6),), None),
        "i_last": ("i.payload", ((6, 1),), None),
        "i_inner_low": ("i.payload", ((7, 3),), None),
        "i_inner_high": ("i.payload", ((10, 2),), None),
        "i_digits": ("i.payload", ((12, 12),), 4),
        "i_ready": ("i.ready", ((0, 1),), None),
        "i_valid": ("i.valid", ((0, 1),), None),
        "o_payload": ("o.payload", ((0, 10),), 2),
        "o_ready": ("o.ready", ((0, 1),), None),
        "o_valid": ("o.valid", ((0, 1),), None),
        "status_busy": ("status", ((0, 1),), None),
        "status_level": ("status", ((1, 4),), None),
    }


def test_one_port_for_each_member(found):
    ports = name_ports(found, "flat")
    assert {port.name for port in ports} >= {"i_payload", "o_payload", "status"}
    assert next(port for port in ports if port.name == "i_payload").to_dict() == {
        "name": "i_payload",
        "direction": "input",
        "width": 24,
        "signed": False,
        "member": "i.payload",
        "offset": 0,
        "fields": [
            {"name": "exponent", "offset": 0, "width": 6, "signed": False},
            {"name": "last", "offset": 6, "width": 1, "signed": False},
            {
                "name": "inner",
                "offset": 7,
                "width": 5,
                "signed": False,
                "fields": [
                    {"name": "low", "offset": 0, "width": 3, "signed": False},
                    {"name": "high", "offset": 3, "width": 2, "signed": True},
                ],
            },
            {"name": "digits", "offset": 12, "width": 3, "signed": True, "count": 4},
            {"name": "none", "offset": 24, "width": 0, "signed": False},
        ],
    }


def test_names_of_axi4_stream(found):
    """Data in whole bytes, without the field that is ``tlast``."""
    ports = {port.name: (port.direction, port.width, port.parts) for port in name_ports(found, "axis")}
    assert {name: port for name, port in ports.items() if "axis" in name} == {
        "s_axis_i_tdata": ("input", 24, ((0, 6), (7, 17))),
        "s_axis_i_tlast": ("input", 1, ((6, 1),)),
        "s_axis_i_tready": ("output", 1, ((0, 1),)),
        "s_axis_i_tvalid": ("input", 1, ((0, 1),)),
        "m_axis_o_tdata": ("output", 16, ((0, 10),)),
        "m_axis_o_tready": ("input", 1, ((0, 1),)),
        "m_axis_o_tvalid": ("output", 1, ((0, 1),)),
    }


def test_other_forms_are_refused(found):
    with pytest.raises(ValueError, match=r"^ports must be fields, flat or axis, not 'bus'$"):
        name_ports(found, "bus")


def test_members_of_an_array_have_numbers():
    found = members(inspect(wiring.Component({"level": In(INNER).array(2), "pairs": Out(1).array(1, 2)})))
    assert [(member.name, member.direction, member.width) for member in found] == [
        ("level__0", "input", 5),
        ("level__1", "input", 5),
        ("pairs__0__0", "output", 1),
        ("pairs__0__1", "output", 1),
    ]
    ports = [port.name for port in name_ports(found, "fields")]
    assert sorted(ports) == sorted(
        ["level_0_low", "level_0_high", "level_1_low", "level_1_high", "pairs_0_0", "pairs_0_1"]
    )
