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
