import re
from pathlib import Path

import pytest

from golden.common import files

pytestmark = pytest.mark.golden


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.complete(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.complete(path) as partial:
        partial.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("new", "newer"):  # a link that leads nowhere yet, then one to a file
        files.check_writable(link)
        with files.complete(link) as partial:
            partial.write_text(text)
        assert link.is_symlink() and target.read_text() == text
        assert sorted(tmp_path.rglob("*.*")) == sorted([target, link])
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(ValueError, match="^Folder of the output must exist, not '.*nowhere'$"):
        files.check_writable(tmp_path / "dangling")


@pytest.mark.parametrize("append", [False, True])
def test_nothing_is_left_of_a_trial(tmp_path, append):
    path = tmp_path / "a.txt"
    files.check_writable(path, append=append)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    files.check_writable(path, append=append)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name, message",
    [
        ("", "Output must be a file, not the folder"),
        ("nowhere/a.txt", "Folder of the output must exist, not"),
        ("taken.txt", "Output must be writable, not"),
        ("/dev/null", "Output must be a file, not '/dev/null'"),
        ("a" * 255, "Output must be writable, not"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "taken.txt.part").mkdir()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        files.check_writable(Path(tmp_path / name))
