"""``sim compare`` as a user types it, its figures against the program's counters and the cost model's by hand."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sim.__main__
from golden.cli.drawn import Drawn
from golden.diffusion.differential.measure import Measure, Row
from golden.diffusion.differential.method import METHODS
from golden.diffusion.layers import Convolution
from golden.diffusion.networks import Network
from golden.machine.command import Multiply, disassemble
from golden.machine.work import executed, timeline
from golden.parameters import PRESETS
from rtl_gen import options
from rtl_gen.program.commands import compiled
from sim.compare import behind, of_model
from sim.machine.whole import interpreted

pytestmark = pytest.mark.golden

NETWORK = "tests.golden.diffusion.sampling.networks:random_unet"  # with attention


def run(*arguments):
    return CliRunner().invoke(sim.__main__.main, ["compare", *arguments])


def test_every_method_has_a_row(tmp_path):
    picture, paper = tmp_path / "machines.png", tmp_path / "paper.json"
    paper.write_text(json.dumps(METHODS["paper"][1].to_dict()))
    given = ("--network", NETWORK, "--preset", "tiny", "--steps", "2", "--label", "3,8", "--plot", str(picture))
    ended = run("--method", f"closed-int3,{paper},diffy,raw-int8", *given, "--json")
    assert ended.exit_code == 0, ended.output
    rows = {row["method"]: row for row in json.loads(ended.stdout)}
    assert {name: row["counted by"] for name, row in rows.items()} == {
        "closed-int3": "interpreter",
        "paper": "interpreter",
        "diffy": "interpreter, bytes by rule",
        "raw-int8": "interpreter",
    }
    assert [row["groups of"] for row in rows.values()] == ["k3 n4 m1"] * 3 + ["k8 n4 m1"]
    for row in rows.values():
        assert 0 < row["not zero"] <= row["use"] <= 1 and row["PSNR dB"] > 10
    assert rows["diffy"]["link"] == pytest.approx(2) and 0 < rows["paper"]["groups and masks"] < 1
    assert 0 < rows["paper"]["flips"] < 1 and "flips" not in rows["closed-int3"]
    assert np.asarray(Image.open(picture)).std() > 10

    machine = options.Machine("tiny", PRESETS["tiny"])
    sampled = compiled(Drawn(network=NETWORK, steps=2, labels="3,8"), "closed-int3", machine)
    *_, end = interpreted(sampled.program)
    p, row = sampled.program.parameters, rows["closed-int3"]
    assert row["groups"] == end.counters["link_groups"] > 0
    assert row["clocks"] == sum(timeline(turn, p).clocks for turn in sampled.turns)
    worked = end.counters["array_groups"] - end.counters["array_zero_groups"]
    assert row["not zero"] == pytest.approx(worked / (p.rows * p.columns * row["clocks"]))
    array = {True: 0, False: 0}  # groups of products of two activations, and of those with weights
    for command in executed(disassemble(sampled.program.words())):
        if isinstance(command, Multiply):
            of_attention = "attention.scores" in (name := sampled.program.tags[command.tag]) or "attention.mix" in name
            taps = command.kernel_lines * command.kernel_columns * command.groups * (command.passes + 1)
            array[of_attention] += (command.rows + 1) * command.lines * command.columns * taps * command.channels
    assert row["attention array"] == pytest.approx(array[True] / sum(array.values()))
    for name in ("link_group_bits", "array_groups"):
        assert sum(found[name] for found in end.by_tag.values()) == end.counters[name]
    assert all(0 < one["attention link"] < 1 for one in rows.values())
    moved = sum(size for name, size in end.counters.items() if name.split("_")[0] == "memory")
    assert row["memory MB"] == pytest.approx(moved / 1e6)


def one_product():
    weight = np.ones((8, 120, 3, 3), np.float32)
    layer = Convolution("out", ("image",), weight=weight, bias=np.zeros(8, np.float32), padding=1)
    return Network("one", {"image": (120, 4, 4), "timestep": ()}, [layer], {})


def test_figures_of_the_model_by_hand():
    """16 positions, 8 channels, 3 x 3 x 120 inputs: 18 groups of 60; half of them are zero in the second step."""
    method = behind(METHODS["paper"][1], PRESETS["edge"])
    p = method.machine
    assert (p.lanes, p.rows, p.columns, p.memory_width) == (60, 2, 4, 128)
    notes = Measure(p)
    for step, passes, zero in ((0, 3, 0), (1, 1, 16)):
        notes.outputs[step, "image"] = Row(
            elements=1920, digits=1920 * passes, vectors=32, groups=32 * passes, zero_groups=zero, outliers=96,
            bits=4800.0 * passes, joint=9e9, clocks=1920.0 * passes,
        )  # fmt: skip
    found = of_model(one_product(), 1, 2, notes, method)
    macs, weights, raw, state = 16 * 8 * 9 * 120, 8 * 18 * 60 * 2, 2 * 128, 3 * 1920
    clocks = 2 * 8 * (weights + 2 * (raw + state)) / 128  # memory binds; the array takes 864 and 216
    slots = clocks * 2 * 4 * 60
    assert found == {
        "clocks": int(clocks),
        "use": pytest.approx((3 + 1) * macs / slots),
        "not zero": pytest.approx((3 + 3 / 4) * macs / slots),  # rows of two skip what is zero in both
        "link": pytest.approx((1800 + 600 + 2 * raw) / (2 * 2 * (1920 + 128))),
        "groups and masks": pytest.approx((1800 + 600) / (2 * 4 * 1920)),
        "raw": pytest.approx(2 * raw / (2 * 2 * (1920 + 128))),
        "memory MB": pytest.approx(2 * (weights + 2 * (raw + state)) / 1e6),
        "groups": 128,
        "zero": 16 / 128,
        "outliers": 0.05,
        "replays": 0,
    }
    wide = dataclasses.replace(
        method, machine=dataclasses.replace(p, memory_width=256, link_width=512, lanes=20, memory_lanes=1)
    )
    slowest = 2592 + 8 * (weights + 2 * (raw + state)) / 256  # the array in step 0 alone: 648 in step 1
    assert of_model(one_product(), 1, 2, notes, wide)["clocks"] == int(slowest)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ("--method paper,dense", "Method must send digits to be compared, not 'dense', which is dense"),
        ("--method paper --plot", "Methods of a picture must hold one of flow diffy, not paper alone"),
        ("--set digit_width=4 --method closed-int3", "digit_width must be the method's, 3, not 4"),
        ("--method paper,clossed", "Method must be one of the known names, not 'clossed'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    ended = run("--steps", "2", *arguments.split())
    assert ended.exit_code == 2 and ended.stderr.count("\n") == 1, ended.output
    assert ended.stderr.startswith(f"Error: {sentence}") and not ended.stdout
