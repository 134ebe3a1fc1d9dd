"""``rtl_gen program`` as a user types it."""

import dataclasses
import json
import re

import pytest
from click.testing import CliRunner

import rtl_gen.__main__
from golden.diffusion.differential.method import Method
from golden.parameters import preset
from rtl_gen.options import Machine
from rtl_gen.program.commands import on_machine, programmed

pytestmark = pytest.mark.golden


def run(group, *arguments):
    return CliRunner().invoke(group.main, list(arguments))


def test_a_program_is_written_explained_and_read_back(tmp_path):
    folder = tmp_path / "program"
    options = ("program", "--network", "unet", "--method", "closed-int4", "--steps", "2", "--label", "3")
    made = run(rtl_gen.__main__, *options, "--out", str(folder), "--json")
    assert made.exit_code == 0, made.output
    (row,) = json.loads(made.output)
    assert sorted(path.name for path in folder.iterdir()) == ["listing.txt", "memory.bin", "program.json"]
    shown = run(rtl_gen.__main__, "program", "disassemble", "--from", str(folder))
    assert shown.exit_code == 0 and shown.output == (folder / "listing.txt").read_text()
    assert len(shown.output.splitlines()) == row["commands"]
    cost = run(rtl_gen.__main__, *options, "explain", "--json")
    rows = {one["layer"]: one for one in json.loads(cost.output)}
    # 16 x 16 positions, 9 taps, 1 group, 32 channels: raw and delta passes, none filled up
    assert rows["stem.conv"]["groups"] % (256 * 9 * 32) == 0
    assert rows["all"]["groups"] == sum(one["groups"] for name, one in rows.items() if name != "all")
    assert 0.3 < rows["all"]["array"] <= 1


def test_rivals_are_closed_loops_in_a_program():
    """A raw method starts in every step; Diffy's takes deltas against the value before. Passes are their own."""
    raw, diffy = (programmed(Method.named(name)) for name in ("raw-int8", "diffy"))
    assert raw.flow == diffy.flow == "closed_loop" and (raw.against, diffy.against) == ("held", "before")
    assert [raw.refreshes(step) for step in range(3)] == [True] * 3
    assert [diffy.refreshes(step) for step in range(3)] == [True, False, False]
    assert (raw.machine.digit_width, raw.first_passes, diffy.first_passes, diffy.input_passes) == (8, 1, 3, 1)
    assert programmed(Method.named("closed-int3")) is Method.named("closed-int3")
    paper = programmed(Method.named("paper"))
    assert (paper.flow, paper.against, paper.chains, paper.machine.masks) == ("closed_loop", "before", True, True)
    assert not diffy.chains and not diffy.machine.masks
    with pytest.raises(ValueError, match="^tensor_scale must be false in a program, not true$"):
        programmed(Method.named("raw-int8-tensor"))


def test_what_a_program_takes_over_of_the_published_dataflow():
    """Repairs are a method's, static exponents a machine's; masks of two bits have no program."""
    paper = Method.named("paper")

    def variant(**machine):
        return dataclasses.replace(paper, machine=dataclasses.replace(paper.machine, **machine))

    assert programmed(variant(flip_repair=True)).machine.flip_repair
    edge = Machine("edge", preset("edge"))
    assert on_machine(variant(flip_repair=True), edge).machine.flip_repair
    assert on_machine(paper, edge).machine.exponent_policy == "group"
    static = dataclasses.replace(preset("edge"), exponent_policy="layer", output_passes=1, flip_repair=True)
    found = on_machine(paper, Machine("edge", static, frozenset({"exponent_policy"})))
    assert (found.machine.exponent_policy, found.machine.flip_repair) == ("layer", True)
    with pytest.raises(ValueError, match="^exponent_policy must be group with flow closed_loop, not layer$"):
        on_machine(Method.named("closed-int3"), Machine("edge", static))
    with pytest.raises(ValueError, match="^mask_width must be 1 in a program, not 2$"):
        programmed(variant(mask_operand="values", mask_width=2))


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--method", "dense"), "Method of a program must send digits, not be of flow dense"),
        (("--set", "digit_width=3"), "digit_width must be the method's, 4, not 3"),
        (
            ("--method", "paper", "--set", 'dataflows=["closed_loop"]'),
            "dataflows must hold sign_mask for chains, not closed_loop",
        ),
        (("--method", "paper", "--cache", "2"), "chains must run in every step, not beside a value that is kept"),
        (("--network", "unot"), "Network must be one of the known names, not 'unot'"),
        (("--preset", "paper"), "exponent_policy must be group with flow closed_loop, not layer"),
        (("--set", "flip_repair=true"), "flip_repair must be false with flow closed_loop, not true"),
        (("--set", "group_buffer=64"), "group_buffer must hold 3 lines of"),
        (("disassemble", "--from", "nowhere"), "Program must be a file, not 'nowhere/program.json'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(rtl_gen.__main__, "program", "--steps", "2", *arguments)
    assert found.exit_code == 2, found.output
    assert re.search(re.escape(sentence), found.output), found.output
    assert not list(tmp_path.iterdir())
