"""Networks of one's own by ``file.py:function`` and ``module:function``."""

import json

import pytest
from click.testing import CliRunner

from golden.__main__ import main
from golden.cli.own import own
from golden.cli.subject import outline, subject
from golden.diffusion.sampling import RectifiedFlow, Sampler

pytestmark = pytest.mark.golden

FILE = """
import numpy as np

from golden.diffusion import layers
from golden.diffusion.networks import Builder, Network
from golden.diffusion.sampling import RectifiedFlow

rng = np.random.default_rng(0)


def numbers(name, shape):
    return rng.standard_normal(shape).astype(np.float32) * 0.3


def network(size=3, padding=None):
    b = Builder(numbers)
    time = b.linear("time", b.add(layers.TimeEncoding, "encoding", "timestep", channels=8), 8, 4)
    label = b.add(layers.Embedding, "row", "label", weight=numbers("row", (3, 4)))
    h = b.convolution("stem", "image", 1, 4, size, padding=padding)
    h = b.add(layers.AddChannel, "shift", h, b.add(layers.Add, "both", time, label))
    b.convolution("head", b.activation("silu", h, "silu"), 4, 1)
    return Network("mine", {"image": (1, 8, 8), "timestep": (), "label": ()}, b.layers)


def flow():
    return network(), RectifiedFlow()


def even():
    return network(4)


def unlike():
    return network(3, 0)


class Cube(layers.Layer):
    def __call__(self, x):
        return x * x * x


def cubed():
    b = Builder(numbers)
    b.convolution("head", b.add(Cube, "cube", b.convolution("stem", "image", 1, 4)), 4, 1)
    return Network("mine", {"image": (1, 8, 8), "timestep": ()}, b.layers)


def number():
    return 3


def broken():
    return undefined
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file in a folder of its own, and a module beside the current folder's name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    for name in ("mine.py", "nets/mine.py"):
        (tmp_path / name).write_text(FILE)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize("text", ["mine.py:network", "nets/mine.py:network", "mine:network"])
def test_a_function_is_a_network(mine, text):
    one = subject(text)
    assert one.network.name == text and one.sampler == Sampler() and not one.digits
    assert one.conditioning(5).values["label"].tolist() == [0, 1, 2, 0, 1]
    assert outline(text).shapes() == one.network.shapes()


def test_it_may_come_with_its_process(mine):
    assert subject("mine.py:flow").sampler == RectifiedFlow()


@pytest.mark.parametrize("text", ["unet", "models/unet", "a b:c d", "mine.py", "mine.py:3"])
def test_other_names_are_no_functions(text):
    assert own(text) is None


def test_a_folder_is_no_function(mine):
    (mine / "mine:network").mkdir()
    assert own("mine:network") is None


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("mine.py:netwrk", "Function of mine.py must be one of the known names, not 'netwrk'; did you mean network"),
        ("other.py:network", "File 'other.py' must exist"),
        ("other:network", "Module 'other' must exist, but there is no 'other'"),
        ("mine.py:numbers", "Function 'mine.py:numbers' must need no arguments, not name, shape"),
        ("mine.py:number", "Network 'mine.py:number' must return a Network, or one and its Process, not 3"),
        ("mine.py:broken", "must be built without error, not fail in mine.py, line 53: NameError: name 'undefined' is"),
        ("mine.py:even", "mine.py, line 19: ValueError: Padding of layer 'stem' must be given for the even kernel 4"),
        ("syntax.py:network", "must be built without error, not fail in syntax.py, line 1: SyntaxError: "),
        (
            "needs.py:network",
            "not fail in needs.py, line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
    ],
)
def test_what_cannot_be_built_is_one_sentence(mine, text, sentence):
    (mine / "syntax.py").write_text("def network(:\n")
    (mine / "needs.py").write_text("import nothing_of_this_name\n")
    result = run("layers", "--network", text)
    assert result.exit_code == 2 and sentence in result.stderr.replace("\n", " "), result.stderr
    assert "Traceback" not in result.output


def test_what_cannot_be_sampled_is_one_sentence(mine):
    result = run("sample", "--network", "mine.py:unlike", "--steps", 2, "--count", 1, "--out", "x.png")
    assert result.exit_code == 2 and "Traceback" not in result.output and not (mine / "x.png").exists()


def test_commands_take_it(mine):
    result = run("layers", "--network", "mine.py:network", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)[-1]["layer"] == "head"
    options = ("--network", "mine.py:network", "--steps", 4)
    result = run("compare", *options, "--count", 2, "--method", "closed-int4", "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)[0]
    assert row["network"] == "mine.py:network" and row["psnr_mean"] > 35 and row["agreement"] is None
    for command in (
        ("sample", "--count", 3, "--labels", "2", "--out", "drawn.png"),
        ("stats", "--json"),
        ("traffic", "--json"),
        ("gains", "--count", 1, "--json"),
        ("capture", "--layer", "head", "--out", "head.npz", "--total", 4, "--steps", "1:3"),
    ):
        result = run(command[0], *options, *command[1:])
        assert result.exit_code == 0, (command, result.output, result.exception)


def test_a_layer_class_of_ones_own_runs_but_for_its_bits(mine):
    options = ("--network", "mine.py:cubed", "--steps", 3)
    for command in (("layers",), ("traffic",), ("stats",), ("compare", "--count", 1, "--method", "closed-int4,paper")):
        result = run(command[0], *options[: 2 if command[0] == "layers" else 4], *command[1:], "--json")
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert [row["psnr_mean"] > 30 for row in json.loads(result.stdout)] == [True, False]
    result = run("sample", *options, "--count", 1, "--method", "closed-int4", "--exact", "--out", "x.png")
    assert result.exit_code == 2 and "Layer 'cube' must " in result.stderr and not (mine / "x.png").exists()
