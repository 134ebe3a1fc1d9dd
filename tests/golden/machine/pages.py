"""Pages of the documents."""

from pathlib import Path


def page(name):
    """Text of a page."""
    return (Path(__file__).resolve().parents[3] / f"docs/{name}.md").read_text()
