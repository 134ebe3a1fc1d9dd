"""Schedules and samplers against Hugging Face diffusers: recorded numbers, and the library itself where it is there."""

import numpy as np
import pytest

from golden.diffusion.sampling import STABLE_DIFFUSION, Sampler, Schedule

pytestmark = pytest.mark.golden

STEPS = 10
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
NO_CLIP = {"clip_sample": False}

# ours; name and arguments of the scheduler of diffusers
CASES = {
    "ddim of stable diffusion": (
        Sampler(STABLE_DIFFUSION, clip=False),
        ("DDIMScheduler", {**STABLE, **NO_CLIP, "steps_offset": 1, "set_alpha_to_one": False}),
    ),
    "ddim with noise": (
        Sampler(STABLE_DIFFUSION, eta=0.5, clip=False),
        ("DDIMScheduler", {**STABLE, **NO_CLIP, "steps_offset": 1, "set_alpha_to_one": False}),
    ),
    "ddim clipped, trailing": (
        Sampler(Schedule(betas="linear", spacing="trailing")),
        ("DDIMScheduler", {**LINEAR, "timestep_spacing": "trailing"}),
    ),
    "ddim of a velocity": (
        Sampler(Schedule(betas="scaled_linear", spacing="trailing"), clip=False, prediction="velocity"),
        (
            "DDIMScheduler",
            {**STABLE, **NO_CLIP, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
        ),
    ),
    "ddpm": (Sampler(Schedule(betas="linear", spacing="leading"), eta=1.0), ("DDPMScheduler", LINEAR)),
    "ddpm of a cosine": (Sampler(eta=1.0), ("DDPMScheduler", COSINE)),
    "ddpm not clipped": (
        Sampler(
            Schedule(betas="scaled_linear", spacing="leading", offset=1), eta=1.0, clip=False, prediction="velocity"
        ),
        ("DDPMScheduler", {**STABLE, **NO_CLIP, "steps_offset": 1, "prediction_type": "v_prediction"}),
    ),
}

# diffusers 0.42.1 and torch 2.13.0, float32: the four pixels after step 7 and after step 10
RECORDED = {
    "ddim of stable diffusion": [4.06256, -6.59932, 5.47907, 17.3178, 4.18647, -7.58095, 6.30639, 19.7749],
    "ddim with noise": [9.85632, -7.63443, 6.70522, 16.6951, 11.206, -9.00939, 8.15859, 19.247],
    "ddim clipped, trailing": [0.49687, -1.55699, 0.927086, 2.25621, 1.0, -1.0, 1.0, 1.0],
    "ddim of a velocity": [0.446609, -1.16569, 0.688106, 2.24809, 0.654337, -0.50034, 1.20529, 1.721],
    "ddpm": [1.9346, 0.847869, 0.277199, 0.73064, 1.0, 0.700486, 0.0684551, 1.0],
    "ddpm of a cosine": [1.64022, -0.858236, 0.623308, 0.954447, 1.0, -0.734159, 1.0, 1.0],
    "ddpm not clipped": [3.12163, -0.566599, 0.43587, 0.747681, 3.61119, -0.473779, 0.483893, 0.985191],
}

SPACINGS = {
    ("leading", 0, 1): [0],
    ("leading", 0, 7): [852, 710, 568, 426, 284, 142, 0],
    ("leading", 0, 10): [900, 800, 700, 600, 500, 400, 300, 200, 100, 0],
    ("leading", 1, 1): [1],
    ("leading", 1, 7): [853, 711, 569, 427, 285, 143, 1],
    ("leading", 1, 10): [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    ("trailing", 0, 1): [999],
    ("trailing", 0, 7): [999, 856, 713, 570, 428, 285, 142],
    ("trailing", 0, 10): [999, 899, 799, 699, 599, 499, 399, 299, 199, 99],
    ("linspace", 0, 1): [0],
    ("linspace", 0, 7): [999, 832, 666, 500, 333, 166, 0],
    ("linspace", 0, 10): [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
}


def start():
    return np.array([0.3, -1.2, 0.7, 2.1], np.float32).reshape(1, 1, 2, 2)


def predicted(image, timestep):
    return np.sin(3 * image + np.float32(timestep / 100)).astype(np.float32)


def fresh(index):
    return np.cos(np.arange(4) * (index + 2)).astype(np.float32).reshape(1, 1, 2, 2)


def ours(sampler):
    x, images = start(), []
    timesteps = sampler.schedule.spaced(STEPS)
    for index, (timestep, here, there) in enumerate(zip(timesteps, *sampler.schedule.levels(STEPS), strict=True)):
        x = sampler.update(x, predicted(x, timestep), here, there, fresh(index) if sampler.eta else None)
        images.append(x)
    return np.ravel([images[6], images[-1]])


def theirs(monkeypatch, name, arguments, eta):
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    scheduler = getattr(diffusers, name)(**arguments)
    scheduler.set_timesteps(STEPS)
    x, images = torch.tensor(start()), []
    for index, timestep in enumerate(scheduler.timesteps):
        noise = torch.tensor(fresh(index))
        answer = torch.tensor(predicted(x.numpy(), int(timestep)))
        if name == "DDIMScheduler":
            options = {"eta": eta, "use_clipped_model_output": True, "variance_noise": noise if eta else None}
        else:  # draws its noise itself
            monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, n=noise, **__: n)
            options = {}
        x = scheduler.step(answer, timestep, x, **options).prev_sample
        images.append(x.numpy())
    return np.ravel([images[6], images[-1]])


@pytest.mark.parametrize("case", CASES)
def test_samplers(case):
    np.testing.assert_allclose(ours(CASES[case][0]), RECORDED[case], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_samplers_live(monkeypatch, case):
    sampler, (name, arguments) = CASES[case]
    np.testing.assert_allclose(theirs(monkeypatch, name, arguments, sampler.eta), RECORDED[case], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("spacing, offset, steps", SPACINGS)
def test_spacings(spacing, offset, steps):
    found = Schedule(spacing=spacing, offset=offset).spaced(steps)
    assert found.dtype == np.int64 and found.tolist() == SPACINGS[spacing, offset, steps]


@pytest.mark.parametrize("spacing, offset, steps", SPACINGS)
def test_spacings_live(spacing, offset, steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == SPACINGS[spacing, offset, steps]
