import json

import pytest

from sim.__main__ import main

pytestmark = pytest.mark.golden


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["machine", *arguments], prog_name="sim")
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_a_block_is_run_and_drawn(capsys, tmp_path):
    picture = tmp_path / "machine.png"
    code, output, error = run(capsys, "--steps", "0:1", "--plot", str(picture), "--json", "--executor", "golden")
    found = json.loads(output)
    assert code == 0, error
    ran = [row["name"] for row in found["sections"] if row["ran"]]
    assert ran == ["down0.block.conv1", "down0.block.conv2", "down0.block.add", "sampler"]
    assert found["failure"] == "" and found["total"]["predicted"] > 10_000
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.cocotb
def test_a_block_runs_on_the_published_shape(capsys):
    """60 + 4 lanes under exponents of layers that saturate, in Verilog: all of memory and all counters, two steps."""
    settings = ["weight_form=aligned", "rows=2", "columns=2", "near_lanes=4", "tile_positions=240"]
    given = ["--network", "unet", "--block", "down1.block", "--steps", "0:2", "--method", "paper", "--preset", "paper"]
    code, output, error = run(capsys, *given, *(word for one in settings for word in ("--set", one)), "--json")
    found = json.loads(output)
    assert code == 0, error
    ran = [row for row in found["sections"] if row["ran"]]
    assert len(ran) == 9 and all(row["clocks"] > 0 and row["odd"] == {} for row in ran) and found["failure"] == ""


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--steps", "3:3"], "Steps must be a half-open range A:B, not '3:3'"),
        (["--steps", "40:60"], "Steps must be among the 50 of a sampling, not '40:60'"),
        (["--block", "down1.block", "--all"], "Layers must come from --block or --all, not both (down1.block)"),
        (
            ["--block", "down1.blok"],
            "Block must be one of the known names, not 'down1.blok'; did you mean down1.block",
        ),
        (["--method", "dense"], "Method of a program must send digits, not be of flow dense"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(capsys, arguments, sentence):
    code, output, error = run(capsys, *arguments)
    assert (code, output) == (2, "") and error.startswith(f"Error: {sentence}") and error.count("\n") == 1
