import dataclasses
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
    if kind == "LMSDiscreteScheduler":
        pytest.importorskip("scipy", reason="which the scheduler needs")
    theirs = getattr(diffusers, kind)()
    config = {"_class_name": kind, **dict(theirs.config)}
    ours = {field.name: field.default for field in dataclasses.fields(scheduler.SCHEDULERS[kind])}
    # three options are refused in files of every scheduler, also of those that have none of the name
    assert set(ours) - set(theirs.config) <= {"thresholding", "rescale_betas_zero_snr", "trained_betas"}
    assert {option: config[option] for option in ours if option in config} == {
        option: value for option, value in ours.items() if option in config
    }
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
        ({"beta_schedule": "sigmoid"}, "beta_schedule must be linear or scaled_linear or squaredcos_cap_v2, not 'sig"),
        ({"trained_betas": [0.1]}, "trained_betas must be None, not [0.1]"),
        ({"prediction_type": "flow"}, "prediction_type must be epsilon or v_prediction or sample, not 'flow'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr must be False, not True"),
        ({"beta_start": "0.1"}, "beta_start must be a number, not '0.1'"),
        ({"beta_end": 1}, "beta_end must be above 0 and below 1, not 1"),
        ({"num_train_timesteps": 1000.5}, "num_train_timesteps must be an integer, not 1000.5"),
        ({"num_train_timesteps": 10**30}, f"num_train_timesteps must be in 2..100000, not {10**30}"),
        ({"steps_offset": -1}, "steps_offset must be in 0..99999, not -1"),
        ({"steps_offset": 2**63}, f"steps_offset must be in 0..99999, not {2**63}"),
        ({"set_alpha_to_one": "false"}, "set_alpha_to_one must be true or false, not 'false'"),
        ({"_class_name": "DDIMScheduler", "clip_sample": "false"}, "clip_sample must be true or false, not 'false'"),
        (
            {"_class_name": "DDIMScheduler", "clip_sample": True, "clip_sample_range": 2.0},
            "clip_sample_range must be 1, not 2.0",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
            "timestep_type must be discrete",
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas must be False"),
    ],
)
def test_refusals(options, message):
    if not message.startswith("Scheduler"):
        message = f"{options.get('_class_name', 'PNDMScheduler')} option {message}"
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        scheduler.read(PNDM | options)


def test_a_range_without_a_clip_changes_nothing():
    config = {"_class_name": "DDIMScheduler", "clip_sample": False}
    assert scheduler.read(config | {"clip_sample_range": 2.0}) == scheduler.read(config)


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
    with pytest.raises(TypeError, match=r"^Configuration of a scheduler must be a mapping, not \[\]$"):
        scheduler.read(scheduler.find(model))


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], "\u00e9", float("nan")])
@pytest.mark.parametrize("name", scheduler.SCHEDULERS)
def test_no_option_takes_another_type(name, value):
    for field in dataclasses.fields(scheduler.SCHEDULERS[name]):
        with pytest.raises((TypeError, ValueError), match=f"^{name} option {field.name} must "):
            scheduler.read({"_class_name": name, field.name: value})
