"""Mutants of a whole machine's Verilog: whose file they are, that they are chosen by a port, and that trials tell."""

import json
import re

import pytest

from golden.parameters import preset
from hw.stream.records import RecordReader
from rtl_gen.verilog import emission
from sim.__main__ import main
from sim.machine import mutants


@pytest.mark.formal
def test_each_module_has_a_file_and_its_mutants_are_numbered():
    component = RecordReader(32, 24, 3)
    text = emission.emit(component, name="unit", ports="flat").text
    sources = mutants.files(component, "unit")
    found = {module: sources[module] for module in re.findall(r"^module (\w+)", text, re.MULTILINE)}
    assert found["unit"] == "hw/stream/records.py" and found["unit_spans"] == "hw/stream/fifo.py"
    drawn = mutants.mutate(text, sources, 4, seed=3)
    assert drawn.mutants.keys() == set(found.values())
    numbers = [mutant.number for each in drawn.mutants.values() for mutant in each]
    assert len(set(numbers)) == len(numbers) > 4 and min(numbers) == 1
    for file, each in drawn.mutants.items():
        assert {found[mutant.module] for mutant in each} == {file}
    assert drawn.text.count("input [31:0] mutant") > 1
    assert mutants.mutate(text, sources, 4, seed=3) == drawn


@pytest.mark.cocotb
@pytest.mark.slow
def test_trials_tell_mutants_from_the_machine():
    """All of them sit where every command and every beat comes by."""
    (report,) = mutants.run(preset("tiny"), count=10, seed=1, among="control/fetch")
    assert report.unit == "hw/control/fetch.py" and len(report.findings) == 10 and report.caught > 5


@pytest.mark.formal
def test_the_command_lists_each_file_and_what_survives(monkeypatch, capsys):
    monkeypatch.setattr(mutants, "Accelerator", lambda parameters: RecordReader(32, 24, 3))
    monkeypatch.setattr(mutants, "MachineModel", lambda component, **options: options["mutated"])
    monkeypatch.setattr(mutants, "Programs", lambda sections: None)
    monkeypatch.setattr(mutants, "Judge", lambda *given: lambda number: None if number in (2, 3) else "differs")
    monkeypatch.setattr(mutants, "is_equivalent", lambda netlist, mutant, seconds: seconds == 7 and mutant.number == 3)
    few = ["--count", "3", "--among", "stream/f", "--patience", "7"]
    with pytest.raises(SystemExit) as ended:
        main(["mutate", "machine", *few, "--json"], prog_name="sim")
    told = capsys.readouterr()
    (row,) = json.loads(told.out)
    counted = [row[name] for name in ("unit", "mutants", "caught", "equivalent", "survived")]
    assert counted == ["hw/stream/fifo.py", 3, 1, 1, 1]
    assert ended.value.code == 1 and told.err.startswith("survived: unit hw/stream/fifo.py, mutant 2: ")


@pytest.mark.unit
@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["machine", "--among", "hw/none"], "Files must have 'hw/none' in their names, but none of this machine has"),
        (["float_add", "--among", "hw"], "Among must be given with the unit machine, not with 'float_add'"),
        (["float_add", "--patience", "5"], "Patience must be given with the unit machine, not with 'float_add'"),
    ],
)
def test_what_names_no_file_is_refused(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["mutate", *arguments], prog_name="sim")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
