"""What is drawn as one object: how many images a line means, and which options a command keeps for itself."""

import click
import numpy as np
import pytest
from click.testing import CliRunner

from golden.cli import options
from golden.cli.drawn import Drawn, drawn, drawn_by_program, together
from golden.cli.options import Caching

pytestmark = pytest.mark.golden


def taken(decorate, line, *more):
    """What a command with these options is given for a line."""
    found = {}

    def command(**given):
        found.update(given)

    for option in (decorate, *more):
        command = option(command)
    ended = CliRunner().invoke(click.command()(command), line.split())
    assert ended.exit_code == 0, ended.output
    return found


@pytest.mark.parametrize(
    "line, images, labels",
    [
        ("", 1, None),
        ("--label 3", 1, "3"),
        ("--label 3,8", 2, "3,8"),
        ("--images 4", 4, None),
        ("--label 3,8 --images 5", 5, "3,8"),
    ],
)
def test_a_program_draws_an_image_for_each_label(line, images, labels):
    (found,) = taken(drawn_by_program(), line).values()
    assert (found.images, found.labels, found.steps, found.network) == (images, labels, 50, "unet")
    sampling = found.sampling(found.subject(), 2)
    asked = [0] if labels is None and images == 1 else list(map(int, (labels or "0,1,2,3").split(",")))
    assert sampling.count == images and sampling.given.values["label"].tolist() == np.resize(asked, images).tolist()


def test_every_option_arrives(tmp_path):
    file = tmp_path / "text.npz"
    line = "--network dit --steps 7 --label 3 --images 2 --seed 5 --guidance 1.5 --sampler ddpm --cache 3 --branch 1 "
    found = taken(drawn_by_program(), f"{line} --conditioning {file}")
    assert found == {
        "drawn": Drawn(
            network="dit",
            steps=7,
            count=2,
            labels="3",
            seed=5,
            conditioning=file,
            guidance=1.5,
            sampler="ddpm",
            cache=Caching(3, branch=1),
        )
    }


def test_a_command_keeps_options_of_its_own():
    own = click.option("--steps", default="0:3")
    found = taken(together(options.network, options.seed, own=("steps",)), "--seed 2 --steps 1:2", own)
    assert found == {"steps": "1:2", "drawn": Drawn(network="unet", seed=2)}
    assert taken(drawn(4, 9, steps=None), "--count 9", own)["steps"] == "0:3"


def test_several_networks_are_different_ones():
    found = Drawn(network="unet,dit", count=2)
    assert [one.network.name for one in found.subjects()] == ["unet", "dit"]
    with pytest.raises(ValueError, match="^Networks must be different, not 'unet' twice$"):
        Drawn(network="unet, unet").subjects()
