"""What can be built as a design of its own."""

from pathlib import Path

import pytest

from hw.tops import COMPONENTS, TOPS
from hw.units import UNITS

pytestmark = pytest.mark.golden


def test_every_component_has_a_name_of_its_own_and_a_summary():
    assert list(TOPS) == ["accelerator", "core", "near_memory"]
    assert list(COMPONENTS) == [*UNITS, *TOPS]
    for name, component in COMPONENTS.items():
        assert component.name == name and component.summary and "\n" not in component.summary


def test_the_documents_name_the_tops():
    text = (Path(__file__).parents[2] / "docs/generator.md").read_text()
    assert all(f"`{name}`" in text for name in TOPS)
