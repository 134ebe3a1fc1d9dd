import pytest

from rtl_gen.verilog.naming import is_legal, plain_name, unique

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "name, plain",
    [
        ("\\o__valid", "o_valid"),
        ("\\a.b[3].c", "a_b_3_c"),
        ("\\a$12", "a"),
        ("\\U$0", "U"),
        ("\\_signature__data", "signature_data"),
        ("\\3rd", "n3rd"),
        ("\\table", "table_value"),
        ("\\signal", "signal_value"),
        ("\\Delete", "Delete_value"),
        ("\\x-y_", "x_y"),
    ],
)
def test_plain_name(name, plain):
    assert plain_name(name) == plain
    assert is_legal(plain)


@pytest.mark.parametrize("name", ["", "a__b", "a_", "_a", "1a", "entity", "Entity", "module", "new", "a b", "é"])
def test_illegal_names(name):
    assert not is_legal(name)


def test_names_differ_in_more_than_the_case_of_letters():
    taken = set()
    assert [unique(name, taken) for name in ("sum", "Sum", "sum", "sum_2")] == ["sum", "Sum_2", "sum_3", "sum_2_2"]
