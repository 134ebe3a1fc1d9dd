"""Whole samplings of text, label and video networks: against diffusers' pipelines, and in the closed loop."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run
from golden.diffusion.networks import stored
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.stdit import STDiTConfig, stdit
from golden.diffusion.sampling import Cache, RectifiedFlow, Sampler, Sampling, Schedule, deepcache, noise
from golden.diffusion.zoo import scheduler
from golden.diffusion.zoo.quality import psnr
from tests.golden.diffusion.sampling import diffusers_samplings as cases
from tests.golden.diffusion.sampling.diffusers_samplings import CASES, SEED, STEPS

pytestmark = pytest.mark.golden

BOUND = 1e-4  # max|a - b| / max|b|; 1.3e-5 is the largest found


def recorded(title):
    with np.load(cases.RECORDED / f"{title.replace(' ', '_')}.npz") as file:
        return file["middle"], file["last"]


def sampling_of(title, **more):
    case = CASES[title]
    how = {"seed": SEED, "process": case.sampler, "guidance": case.guidance, **more}
    return Sampling(cases.network(case), cases.given(case), STEPS, **how)


def execute(title, name, **options):
    return run(sampling_of(title), Method.named(name), **options)


def near(found, expected):
    assert found.shape == expected.shape
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= BOUND, error


@pytest.mark.parametrize("title", CASES)
def test_recorded_samplings_of_diffusers(title):
    middle, last = recorded(title)
    found = execute(title, "dense").trajectory
    near(found[STEPS // 2], middle)
    near(found[-1], last)


@pytest.mark.filterwarnings("default")  # of the library itself
@pytest.mark.parametrize("title", CASES)
def test_samplings_of_diffusers_live(title):
    pytest.importorskip("torch", reason="needs the extra 'import'").set_num_threads(1)
    pytest.importorskip("diffusers", reason="needs the extra 'import'")
    samples = cases.diffused(CASES[title])
    for found, expected in zip(samples[[STEPS // 2, -1]], recorded(title), strict=True):
        near(found, expected)


@pytest.mark.parametrize("title", CASES)
def test_their_schedulers_are_read_as_these_samplers(title):
    name, arguments = CASES[title].scheduler
    assert scheduler.read({"_class_name": name, **arguments}) == CASES[title].sampler


@pytest.mark.parametrize("title, key", [("text", "null.text"), ("text", "text"), ("dit", "label"), ("latte", "text")])
def test_every_part_of_the_conditioning_counts(title, key):
    case = CASES[title]
    given = cases.given(case)
    given[key] = given[key] + 1 if key == "label" else given[key] * 1.01
    with pytest.raises(AssertionError):
        near(sampling_of(title).of(given).images(), recorded(title)[1])


@pytest.mark.parametrize("title", CASES)
@pytest.mark.parametrize("name", ["closed-int4", "paper"])
def test_whole_samplings_under_methods(title, name):
    """Of random networks: what these lose says nothing of trained ones, only that nothing else is lost."""
    dense, found = execute(title, "dense").images, execute(title, name, measured=True)
    assert np.isfinite(found.images).all()
    if name == "closed-int4":
        assert psnr(found.images, dense, np.ptp(dense)).min() > 28
    rows = found.measure.inputs | found.measure.outputs
    assert {step for step, _ in rows} == set(range(STEPS))
    kept = execute(title, name)
    np.testing.assert_array_equal(kept.images, found.images)


@pytest.mark.parametrize("title, branch", [("text", 0), ("text", 1), ("latte", "transformer_blocks.0")])
def test_deep_values_are_reused(title, branch):
    """A sampling of cache steps alone is the plain one; others are near it, and cost less."""
    plain = sampling_of(title).images()
    every, some = (Cache(deepcache.uniform(STEPS, interval), branch) for interval in (1, 2))
    np.testing.assert_array_equal(sampling_of(title, cache=every).images(), plain)
    cached = sampling_of(title, cache=some).images()
    assert cached.shape == plain.shape and np.abs(cached - plain).max() > 1e-3 * np.abs(plain).max()
    assert some.share(cases.network(CASES[title]), STEPS) < 0.95


def test_a_transformer_has_no_branches_by_number():
    network = cases.network(CASES["latte"])
    assert deepcache.branches(network) == ()
    message = "^Branch must be the name of a layer, as 'LatteTransformer3DModel' joins no values, not 0$"
    with pytest.raises(ValueError, match=message):
        deepcache.value(network, 0)


# STDiT ---------------------------------------------------------------------------------------------------------------

TINY = STDiTConfig(frames=3, height=4, width=6, channels=16, heads=2, depth=1, text_width=5, tokens=4)
IDDPM = Sampler(Schedule(betas="linear", spacing="linspace"), eta=1.0, clip=False, variance="learned")


def video_network(form):
    config = dataclasses.replace(TINY, form=form)
    rng, parameters = np.random.default_rng(5), {}
    for name, value in stdit(config, unallocated).parameters().items():
        spread = 0.3 if value.ndim == 1 else value.shape[1] ** -0.5
        parameters[name] = (rng.standard_normal(value.shape) * spread + ("norm" in name)).astype(np.float32)
    return stdit(config, stored(parameters))


def text_and_rate(network):
    rng = np.random.default_rng(7)
    found = {"text": rng.standard_normal((2, 4, 5)).astype(np.float32), "null.text": np.zeros(())}
    return found | ({"fps": np.array([8.0, 24.0])} if "fps" in network.inputs else {})


def parts(network, given, item, x, timestep, guidance):
    """Guided prediction and conditioned variance of one video, by two calls."""
    rest = [given["fps"][item : item + 1]] if "fps" in given else []
    text, t = given["text"][item : item + 1], np.array([timestep])
    conditioned, without = (network(x[None], t, one, *rest)[0] for one in (text, np.zeros_like(text)))
    return without[:4] + guidance * (conditioned[:4] - without[:4]), conditioned[4:]


def test_rectified_flow_of_a_video():
    """Open-Sora 1.2: z += v dt from timestep 1000 down, with shifted timesteps; the variance is left out."""
    network = video_network("alternating")
    given, guidance, shift = text_and_rate(network), 7.0, 2.5
    start, expected = noise(network, SEED, 2), []
    for item in range(2):
        x = start[item].astype(np.float64)
        times = [1000 * (1 - step / STEPS) for step in range(STEPS)]
        times = [1000 * shift * (t / 1000) / (1 + (shift - 1) * (t / 1000)) for t in times]
        for step, t in enumerate(times):
            dt = (t - times[step + 1] if step + 1 < STEPS else t) / 1000
            x = x + parts(network, given, item, x.astype(np.float32), t, guidance)[0] * dt
        expected.append(x)
    sampling = Sampling(network, given, STEPS, seed=SEED, process=RectifiedFlow(shift=shift), guidance=guidance)
    dense = run(sampling, Method.named("dense")).images
    near(dense, np.stack(expected))
    closed, opened = (run(sampling, Method.named(name)).images for name in ("closed-int4", "paper"))
    assert psnr(closed, dense, np.ptp(dense)).min() > 28 and np.isfinite(opened).all()


def test_iddpm_of_a_video():
    """Open-Sora 1.0: ancestral sampling of a respaced process, by its textbook form."""
    network = video_network("joint")
    given, guidance = text_and_rate(network), 4.0
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.round(np.linspace(0, 999, STEPS)).astype(int)]
    before = np.append(1.0, kept[:-1])
    beta = 1 - kept / before
    start, expected = noise(network, SEED, 2), []
    for item in range(2):
        x = start[item].astype(np.float64)
        for step in range(STEPS):
            i = STEPS - 1 - step
            t = round(999 * i / (STEPS - 1))
            predicted, share = parts(network, given, item, x.astype(np.float32), t, guidance)
            clean = (x - np.sqrt(1 - kept[i]) * predicted) / np.sqrt(kept[i])
            x = np.sqrt(before[i]) * beta[i] * clean + np.sqrt(1 - beta[i]) * (1 - before[i]) * x
            x = x / (1 - kept[i])
            if i:
                small = beta[i] * (1 - before[i]) / (1 - kept[i])
                deviation = small ** ((1 - share) / 4) * beta[i] ** ((1 + share) / 4)
                x = x + deviation * cases.unit_noise(x.shape, item, 1 + step)
        expected.append(x)
    sampling = Sampling(network, given, STEPS, seed=SEED, process=IDDPM, guidance=guidance)
    dense = run(sampling, Method.named("dense")).images
    near(dense, np.stack(expected))
    closed = run(sampling, Method.named("closed-int4")).images
    assert psnr(closed, dense, np.ptp(dense)).min() > 28
    with pytest.raises(ValueError, match=r"^Values of 'blocks.* must be within 6e-08..65504 \(FP16\) in the flow"):
        run(sampling, Method.named("paper"))  # the random network has scores that FP16 does not hold


def test_rectified_flow_against_diffusers():
    pytest.importorskip("torch", reason="needs the extra 'import'")
    diffusers = pytest.importorskip("diffusers", reason="needs the extra 'import'")
    import torch

    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 0, STEPS + 1)[:-1].tolist())
    x = torch.tensor(cases.unit_noise((1, 4, 2, 2)))
    start, samples = x.numpy().copy(), []

    def predicted(image, timestep):
        return np.sin(3 * image + np.float32(timestep / 100)).astype(np.float32)

    for timestep in theirs.timesteps:
        x = theirs.step(torch.tensor(predicted(x.numpy(), float(timestep))), timestep, x).prev_sample
        samples.append(x.numpy())
    ours = RectifiedFlow(shift=3.0, prediction="noise")
    found = [step.image for step in ours.run(lambda image, t, *_: predicted(image, t), start, STEPS)]
    np.testing.assert_allclose(found, samples, atol=1e-5)
