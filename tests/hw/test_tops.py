"""What can be built as a design of its own."""

import pytest

from hw.tops import COMPONENTS, TOPS
from hw.units import UNITS

pytestmark = pytest.mark.golden


def test_every_component_has_a_name_of_its_own_and_a_summary():
    assert list(TOPS) == ["accelerator", "core", "near_memory"]
    assert list(COMPONENTS) == [*UNITS, *TOPS]
    for name, component in COMPONENTS.items():
        assert component.name == name and component.summary and "\n" not in component.summary
