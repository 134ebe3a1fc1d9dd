import json
import re

import numpy as np
import pytest

from golden.diffusion.sampling import STABLE_DIFFUSION, Sampler, Schedule
from golden.diffusion.zoo import importer, scheduler

pytestmark = pytest.mark.golden

# as stable-diffusion-v1-5 ships it
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def test_stable_diffusion_is_its_default():
    assert scheduler.read(PNDM) == Sampler(STABLE_DIFFUSION, clip=False) == scheduler.DEFAULTS["UNet2DConditionModel"]
    assert scheduler.DEFAULTS.keys() == importer.CLASSES.keys()


@pytest.mark.parametrize(
    "config, sampler",
    [
        ({"_class_name": "DDIMScheduler"}, Sampler(Schedule(betas="linear", spacing="leading"))),
        (
            {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"}
            | {"variance_type": "fixed_large", "set_alpha_to_one": False},
            Sampler(Schedule(spacing="leading"), eta=1.0, prediction="image", variance="large"),
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "steps_offset": 1, "prediction_type": "v_prediction"}
            | {"clip_sample": True},
            Sampler(Schedule(betas="linear", spacing="linspace"), clip=False, prediction="velocity"),
        ),
    ],
)
def test_options_and_defaults(config, sampler):
    assert scheduler.read(config) == sampler


@pytest.mark.filterwarnings("default")  # of the library itself
@pytest.mark.parametrize("kind", scheduler.SCHEDULERS)
def test_defaults_are_those_of_diffusers(kind):
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'import'")
    theirs = getattr(diffusers, kind)()
    config = {"_class_name": kind, **dict(theirs.config)}
    assert {option: config[option] for option in scheduler.SCHEDULERS[kind]} == scheduler.SCHEDULERS[kind]
    sampler = scheduler.read(config)
    assert sampler == scheduler.read({"_class_name": kind})
    np.testing.assert_allclose(sampler.schedule.signal, theirs.alphas_cumprod.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"_class_name": "DDIMSchedular"},
            "Scheduler must be one of the known names, not 'DDIMSchedular'; did you mean",
        ),
        ({"_class_name": None}, "Scheduler must be one of the known names, not 'None'"),
        (
            {"beta_schedule": "sigmoid"},
            "Option 'beta_schedule' of PNDMScheduler must be 'linear' or 'scaled_linear' or",
        ),
        ({"trained_betas": [0.1]}, "Option 'trained_betas' of PNDMScheduler must be None, not [0.1]"),
        (
            {"prediction_type": "flow"},
            "Option 'prediction_type' of PNDMScheduler must be 'epsilon' or 'v_prediction' or",
        ),
        ({"rescale_betas_zero_snr": True}, "Option 'rescale_betas_zero_snr' of PNDMScheduler must be False, not True"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        scheduler.read(PNDM | options)


def test_files(tmp_path):
    model = tmp_path / "unet"
    model.mkdir()
    assert scheduler.find(model) is None
    (tmp_path / "scheduler").mkdir()
    beside = tmp_path / "scheduler" / scheduler.FILE
    beside.write_text(json.dumps(PNDM))
    assert scheduler.find(model) == beside and scheduler.read(beside) == scheduler.read(PNDM)
    (model / scheduler.FILE).write_text("{")
    with pytest.raises(ValueError, match="^A scheduler's configuration must be JSON, not "):
        scheduler.read(scheduler.find(model))
    (model / scheduler.FILE).write_text("[]")
    with pytest.raises(ValueError, match="^Configuration of a scheduler must be a mapping, not list$"):
        scheduler.read(scheduler.find(model))
