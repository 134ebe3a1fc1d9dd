import pytest

from sim import native
from sim.simulator import SimulationError

pytestmark = pytest.mark.cocotb


def test_what_verilator_refuses_is_one_sentence(tmp_path):
    with pytest.raises(SimulationError, match=r"^Verilator failed: %Error: unit.v:1:1: syntax error"):
        native.build("unit", {"unit.v": "nonsense\n"}, "engine.cpp", folder=tmp_path)


def test_a_path_with_a_space_is_refused(tmp_path):
    with pytest.raises(SimulationError.__base__, match="^Folder of simulations must have no space in its path"):
        native.build("unit", {}, "engine.cpp", folder=tmp_path / "my models")


@pytest.mark.parametrize(
    "port, name",
    [("clk", "clk"), ("read__request_valid", "read___05Frequest_valid"), ("interrupt", "__SYM__interrupt")],
)
def test_names_of_ports_in_cpp(port, name):
    assert native.identifier(port) == name
