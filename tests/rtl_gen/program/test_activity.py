"""Zero groups and bits of streams: predicted from one image, counted by the interpreter on another."""

import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import run
from golden.diffusion.sampling import Sampling
from golden.parameters import preset
from rtl_gen import options
from rtl_gen.program.activity import activity
from rtl_gen.program.commands import on_machine
from rtl_gen.program.forecast import forecast
from rtl_gen.program.sampling import compile_sampling

pytestmark = pytest.mark.golden

STEPS = 12


@pytest.mark.parametrize(
    "name, settings",
    [("unet", ["link_form=compressed"]), pytest.param("dit", ["rows=8", "row_buffer=64"], marks=pytest.mark.slow)],
)
def test_counters_of_another_image(name, settings):
    """Within 5 %: groups exactly."""
    network, p = zoo.load(name), preset("ulx3s").with_settings(settings)
    method = on_machine(Method.named("closed-int3"), options.Machine("ulx3s", p))
    notes = run(Sampling(network, [7], STEPS, seed=11), method, measured=True).measure
    predicted = activity(forecast(network, method, steps=STEPS), notes)
    sampling = Sampling(network, [3], STEPS, seed=1)
    program = compile_sampling(sampling, method, calibrate(sampling)).program
    counted = program.load().run(program.operand, program.commands)
    assert len(predicted) == STEPS
    for counter in predicted[0]:
        total = sum(one[counter] for one in predicted)
        assert total == pytest.approx(counted[counter], rel=0 if counter == "array_groups" else 0.05), counter
