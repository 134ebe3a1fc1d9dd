"""Files that appear only when they are complete, and outputs that are tried before long work begins."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _target(path: Path | str) -> Path:
    """File that is written: where a link leads, which stays a link."""
    return Path(os.path.realpath(path))


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@contextmanager
def complete(path: Path | str) -> Iterator[Path]:
    """Give a path beside `path` to write to, which takes its place when the block ends.

    If the block raises, `path` is as it was before, and nothing is left beside it. Its folder is made if need be. A
    link stays one: the file that it leads to is written.
    """
    path = _target(path)
    partial = _partial(path)
    path.parent.mkdir(exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, *, append: bool = False) -> None:
    """Refuse an output that cannot be written, by trying; nothing is left of the trial.

    Parameters
    ----------
    path : Path
        File that `complete` is to write.
    append : bool
        Whether lines are to be added to the file itself.

    Raises
    ------
    ValueError
        If it is something else than a file, its folder is missing, or it cannot be written.
    """
    target = _target(path)
    path = target if path.is_symlink() else path  # what is named in a refusal
    if target.is_dir():
        raise ValueError(f"Output must be a file, not the folder {str(path)!r}")
    if not target.parent.is_dir():
        raise ValueError(f"Folder of the output must exist, not {str(path.parent)!r}")
    try:
        if target.exists() and not target.is_file():
            raise ValueError(f"Output must be a file, not {str(path)!r}")
        if append and target.exists():
            target.open("ab").close()
            return
        partial = _partial(target)
        partial.open("wb").close()
        partial.unlink()
    except OSError as error:
        raise ValueError(f"Output must be writable, not {str(path)!r}: {error.strerror}") from error
