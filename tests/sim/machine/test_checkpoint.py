import dataclasses

import numpy as np
import pytest

from golden.machine.command import Stop
from golden.parameters import preset
from rtl_gen.program.file import Program
from rtl_gen.program.memory import TABLES, Memory
from sim.machine.checkpoint import Checkpoint, digest
from sim.machine.whole import StepRow

pytestmark = pytest.mark.golden

ROWS = (StepRow(0, 90, 100, 0.5, {"clocks": 100}, {3: 60, 0xFFFF: 40}),)


def program(value=1):
    parameters = dataclasses.replace(
        preset("tiny"), state_format="fixed", exponent_policy="group", weight_form="aligned"
    )
    memory = Memory(parameters)
    memory.place(TABLES, np.full(64, value, np.uint8))
    return Program.of(memory, [Stop()], {}, {})


def checkpoint(of):
    return Checkpoint(digest(of), "label 3", ROWS, of.image.copy())


def test_it_is_read_back(tmp_path):
    path = tmp_path / "sample.npz"
    kept = checkpoint(program())
    for _ in range(2):  # also over the one before
        kept.save(path)
        found = Checkpoint.load(path)
        assert (found.program, found.about, found.rows) == (kept.program, "label 3", ROWS)
        np.testing.assert_array_equal(found.memory, kept.memory)
    assert list(tmp_path.iterdir()) == [path]
    found.check(program(), "label 3")


def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "sample.npz"
    checkpoint(program()).save(path)
    before = path.read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint(program(2)).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_is_refused(tmp_path):
    kept = checkpoint(program(1))
    with pytest.raises(
        ValueError, match=r"^Checkpoint must be of this program \(label 8\), not of another \(label 3\)$"
    ):
        kept.check(program(2), "label 8")
    with pytest.raises(ValueError, match="^Checkpoint must be of this program"):
        kept.check(dataclasses.replace(program(1), parameters=preset("edge")), "label 3")
    path = tmp_path / "sample.npz"
    for content in (b"", b"PK\x03\x04 broken", b"noise"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^Checkpoint must be one that `sim` wrote, not "):
            Checkpoint.load(path)
    np.savez(path, memory=np.zeros(3))
    with pytest.raises(ValueError, match="^Checkpoint must be one that `sim` wrote, not "):
        Checkpoint.load(path)
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(tmp_path / "missing.npz")
