"""The notebook with its pictures: ``python examples/notebook/run.py``.

`tour.py` is the notebook as text, a cell behind each ``# %%``; Jupyter opens it with jupytext, and editors as it is.
Here it is run, and written with its pictures as ``tour.ipynb``.
"""

import argparse
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).resolve().parent


def main():
    """Run the example; an error in a cell ends it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the sampling")
    parser.add_argument("--out", type=Path, default=Path("build/examples/tour.ipynb"))
    given = parser.parse_args()
    notebook = jupytext.read(HERE / "tour.py")
    for cell in notebook.cells:
        cell.source = cell.source.replace("seed=1)", f"seed={given.seed})")
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, given.out)
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    print(f"{given.out}: {pictures} pictures")


if __name__ == "__main__":
    main()
