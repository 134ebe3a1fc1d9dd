"""The published shape, 128 x 128 groups of 60 + 4 lanes, as Verilog: in time and room, by the command of users."""

import json
import re
import resource
import subprocess
import sys

import pytest

from rtl_gen import tools

pytestmark = [pytest.mark.synth, pytest.mark.slow]

SETTINGS = ("weight_form=aligned", 'dataflows=["closed_loop", "sign_mask"]')


def built(folder, *settings):
    """The modules of a build of the preset, by name."""
    given = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "rtl_gen", "build", "--preset", "paper", "--unit", "accelerator"]
    subprocess.run([*command, *given, "--out", str(folder)], check=True, capture_output=True)
    texts = re.findall(r"^module .*?^endmodule", (folder / "accelerator.v").read_text(), re.DOTALL | re.MULTILINE)
    return {text.split()[1]: text for text in texts}


def test_all_of_it_in_five_minutes_of_a_processor_and_two_gibibytes(tmp_path):
    whole = built(tmp_path / "whole")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sliced = built(tmp_path / "slice", "rows=2", "columns=2")
    print(json.dumps({"seconds": used.ru_utime, "bytes": used.ru_maxrss * 1024, "modules": len(whole)}))
    assert used.ru_utime <= 300 and used.ru_maxrss <= 2 << 20
    # Of 16,384 elements one is described, that of the slice.
    elements = [
        [text for name, text in found.items() if name.endswith("array_row0_column")] for found in (whole, sliced)
    ]
    assert elements[0] == elements[1] and len(elements[0]) == 1
    assert len(whole) <= len(sliced) + 2
    assert len("".join(whole.values())) < 3 * len("".join(sliced.values()))
    for name in ("whole", "slice"):
        script = "read_verilog accelerator.v\nhierarchy -check -top accelerator"
        tools.run_yosys(script, cwd=tmp_path / name)
