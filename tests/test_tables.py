"""Every command's tables at four widths: no line is longer, no number is broken."""

import re

import pytest
from click.testing import CliRunner

from golden.common import console
from tests.programs import PROGRAMS
from tests.tables import numbers, printed

pytestmark = pytest.mark.golden

RUN = (
    "golden compare --steps 2 --count 1 --method paper,closed-int3 --pareto p.png",
    "golden stats --steps 2 --network unet,dit",
    "golden stats --steps 2 --by layer-step --method closed-int3",
    "golden stream --video turn --frames 6 --method closed-int3",
    "golden stream --video turn --frames 6 --method closed-int3 --by frame",
    "golden traffic --network unet,sd15 --input-bits 2.7 --output-bits 8.4 --zero-groups 0.01",
    "golden sweep --network unet --steps 2 --count 1 --variant paper;raw-int8 --rank",
    "golden sweep --network unet --steps 2 --count 1 --variant paper;raw-int8",
    "golden gains --network unet --steps 1 --count 1",
    "golden layers --network dit,sd15",
    "golden layers --network sd15,dit-xl-2 --totals",
    "rtl_gen build --preset tiny --unit float_multiplier --out build",
    "rtl_gen list",
    "rtl_gen explain --preset paper",
    "rtl_gen doctor",
    "rtl_gen lint --preset tiny --unit float_multiplier",
    "rtl_gen program --steps 2 --method closed-int3 --out program",
    "rtl_gen program --steps 2 explain",
    "rtl_gen forecast --network unet --preset ulx3s --images 1 --steps 12 --by step",
    "sim sample --steps 2 --label 3 --executor golden",
    "sim compare --steps 2 --label 3 --method closed-int3,paper",
    "sim stream --frames 3 --timesteps 600,300 --executor golden",
)

TAKE_MINUTES = {
    "sim run": [
        {
            "unit": "delta_decompressor",
            "variant": "k=8 n=64 link=256, layer",
            "vectors": 28665,
            "runs": 4,
            "cycles": 230212,
            "groups/clock": 0.9455,
            "mismatches": 0,
            "seconds": 26.5,
        }
    ],
    "sim machine": [
        {
            "step": 0,
            "layer": "down0.block.conv1",
            "predicted": 95268,
            "clocks": 98207,
            "use": 0.751,
            "not zero": 0.689,
            "load waits": 18341,
            "multiply waits": 23677,
            "accumulate waits": 0,
            "emit waits": 0,
            "weights kB": 17.3,
            "spools kB": 49.2,
            "states kB": 55.3,
            "others kB": 9.7,
            "bits/ element": 24.0,
            "PSNR dB": 89.2,
        }
    ],
    "sim mutate": [
        {
            "unit": "int_float_multiplier",
            "mutants": 150,
            "caught": 149,
            "equivalent": 1,
            "survived": 0,
            "caught %": 100.0,
            "seconds": 18.1,
        }
    ],
    "sim trust": [
        {
            "kind": "refused beat",
            "trials": 1000,
            "equal": 0,
            "error": 1000,
            "open": 0,
            "failed": 0,
            "clocks": 5_755_633,
            "seconds": 110.2,
        }
    ],
    "golden tune": [
        {
            "method": "tuned",
            "network": "digits8.py:network",
            "steps": 50,
            "images": 16,
            "psnr_mean": 51.36,
            "psnr_min": 45.32,
            "link_bits": 8.998,
            "area_cycles": 51.24,
            "array": 1.223,
        }
    ],
    "sim layer": [
        {
            "step": 1,
            "zero %": 51.2,
            "inlier %": 30.4,
            "outlier %": 18.46,
            "cycles/group": 1,
            "in bits": 7.26,
            "in list": 6.4,
            "in H0": 2.2,
            "out bits": 19,
            "out list": 17.42,
            "out H0": 9.57,
            "flips": 4096,
            "PSNR dB": 38.1,
        }
    ],
    "fpga build": [
        {"cells of": "multiplier_group", "LUT": 1675, "LUT as memory": 0, "FF": 1343, "DSP": 1, "BRAM": 0},
        {"cells of": "around it: shift registers", "LUT": 12, "LUT as memory": 0, "FF": 350, "DSP": 0, "BRAM": 0},
    ],
    "fpga area": [
        {
            "piece": "multiplier_group, k=3 n=16 m=0, aligned F=10",
            "leaves": "generic",
            "LUTs": 1217,
            "DSP": 0,
            "FF": 842,
            "MHz": 182.2,
            "of dense": 0.365,
            "a lane": 76.1,
            "goal": "0.27 of dense, 0 DSP, 180 MHz",
            "reached": "no: 0.365 of dense",
        }
    ],
}
"""Rows of commands that simulate or place for minutes, as they print them."""

WITHOUT = {"golden sample", "golden capture", "golden train", "rtl_gen shell", "rtl_gen ports", "sim latency"}
"""Commands that print lines, no table."""


def test_every_command_is_here():
    commands = {f"{name} {command}" for name, group in PROGRAMS.items() for command in group.commands}
    here = {" ".join(line.split()[:2]) for line in RUN}
    assert commands == here | set(TAKE_MINUTES) | WITHOUT


@pytest.mark.parametrize("line", [*RUN, *TAKE_MINUTES])
def test_no_number_is_broken(capsys, monkeypatch, tmp_path, line):
    tables = [(TAKE_MINUTES.get(line, []), "")]
    if line in RUN:
        monkeypatch.chdir(tmp_path)
        tables, show = [], console.show
        monkeypatch.setattr(console, "show", lambda rows, *, title="", as_json=False: tables.append((rows, title)))
        program, *arguments = line.split()
        result = CliRunner().invoke(PROGRAMS[program], arguments)
        assert result.exit_code in (0, 1), result.output
        monkeypatch.setattr(console, "show", show)
    assert tables and all(rows for rows, _ in tables)
    for width in (80, 100, 120, 160):
        for rows, title in tables:
            text = printed(capsys, monkeypatch, rows, width, title=title)
            assert max(map(len, text.splitlines())) <= width, text
            assert numbers(rows) <= set(re.split(r"[\s│┃]+", text)), text
