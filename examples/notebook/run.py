"""The notebook with its pictures: ``python examples/notebook/run.py``.

`tour.py` is the notebook as text, a cell behind each ``# %%``; Jupyter opens it with jupytext, and editors as it is.
Here it is run, and written with its pictures as ``tour.ipynb``. With ``--page docs/tour.md`` it is a page of the site,
too.
"""

import argparse
import base64
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).resolve().parent


def write_page(notebook, page):
    """Write the notebook as Markdown, and its pictures to the folder ``images`` beside it."""
    parts, number = [], 0
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for picture in pictures(cell):
            number += 1
            name = f"images/{page.stem}-{number}.png"
            (page.parent / "images").mkdir(exist_ok=True)
            (page.parent / name).write_bytes(base64.b64decode(picture))
            parts.append(f"![What the lines above draw]({name})")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def pictures(cell):
    """Pictures that a cell has drawn, in base 64."""
    found = (output.get("data", {}) for output in cell.get("outputs", []))
    return [data["image/png"] for data in found if "image/png" in data]


def main():
    """Run the example; an error in a cell ends it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the sampling")
    parser.add_argument("--out", type=Path, default=Path("build/examples/tour.ipynb"))
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="write it as a page, too")
    given = parser.parse_args()
    notebook = jupytext.read(HERE / "tour.py")
    for cell in notebook.cells:
        cell.source = cell.source.replace("seed=1)", f"seed={given.seed})")
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, given.out)
    if given.page:
        write_page(notebook, given.page)
    print(f"{given.out}: {sum(len(pictures(cell)) for cell in notebook.cells)} pictures")


if __name__ == "__main__":
    main()
