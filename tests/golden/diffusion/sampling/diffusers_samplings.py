"""Whole samplings by diffusers: ``python -m tests.golden.diffusion.sampling.diffusers_samplings`` records them.

The models are the recorded ones of ``tests/golden/diffusion/zoo``. Stable Diffusion and Latte are sampled by the
pipelines of diffusers, from text states and latents on; the others by loops of their form, because those decode in the
end. Starting noise and fresh noise are golden's, so that samples can be compared.
"""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np

from golden.diffusion.sampling import STABLE_DIFFUSION, Process, Sampler, Schedule
from golden.diffusion.zoo import importer
from tests.golden.diffusion.zoo import diffusers_cases

RECORDED = Path(__file__).parent / "recorded"
STEPS = 5
SEED = 11
LINEAR = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
LEADING = Schedule(betas="linear", spacing="leading")


@dataclasses.dataclass(frozen=True)
class Case:
    """One sampling.

    Members
    -------
    model : str
        Name of a recorded model.
    sampler : Process
        Ours.
    scheduler : tuple
        Class and arguments of diffusers'.
    guidance : float or None
        Scale.
    """

    model: str
    sampler: Process
    scheduler: tuple[str, dict]
    guidance: float | None = None


CASES = {
    "text": Case(
        "text",
        Sampler(STABLE_DIFFUSION, clip=False),
        ("DDIMScheduler", {**STABLE, "steps_offset": 1, "set_alpha_to_one": False}),
        7.5,
    ),
    "text by velocity": Case(
        "text",
        Sampler(Schedule(betas="scaled_linear", spacing="trailing"), clip=False, prediction="velocity"),
        (
            "DDIMScheduler",
            {**STABLE, "timestep_spacing": "trailing", "steps_offset": 1, "prediction_type": "v_prediction"},
        ),
        2.0,
    ),
    "dit": Case("dit", Sampler(LEADING, clip=False), ("DDIMScheduler", {**LINEAR, "clip_sample": False}), 4.0),
    "latte": Case("latte", Sampler(LEADING, clip=False), ("DDIMScheduler", {**LINEAR, "clip_sample": False}), 7.5),
    "latte with learned variance": Case(
        "latte",
        Sampler(LEADING, eta=1.0, clip=False, variance="learned"),
        ("DDPMScheduler", {**LINEAR, "clip_sample": False, "variance_type": "learned_range"}),
    ),
    "guided diffusion": Case(
        "unet_of_guided_diffusion",
        Sampler(LEADING, eta=1.0, variance="learned"),
        ("DDPMScheduler", {**LINEAR, "variance_type": "learned_range"}),
    ),
    "ddpm": Case(
        "unet_of_ddpm",
        Sampler(LEADING, eta=1.0, variance="large"),
        ("DDPMScheduler", {**LINEAR, "variance_type": "fixed_large"}),
    ),
}


def network(case: Case):
    """Golden's network of a case."""
    kind, _ = diffusers_cases.CASES[case.model]
    return importer.load(diffusers_cases.RECORDED / case.model, tokens=diffusers_cases.tokens(kind))


def given(case: Case, count: int = 2):
    """Conditioning of a case as golden takes it: as many images as `count`."""
    rng, found = np.random.default_rng(3), {}
    for name, shape in list(network(case).inputs.items())[2:]:
        if name == "label":
            found[name] = np.array([3, 1])[:count]
        else:
            found[name] = rng.standard_normal((2, *shape)).astype(np.float32)[:count]
            found[f"null.{name}"] = rng.standard_normal(shape).astype(np.float32)
    return found or count


def unit_noise(shape, *seed):
    """Golden's noise: of an image by its number, of a step by the image and one more than the step."""
    return np.random.default_rng((SEED, *seed)).standard_normal(shape, np.float32)


def diffused(case: Case) -> np.ndarray:
    """Samples after every step, (steps, images, ...), by diffusers."""
    import diffusers
    import torch

    kind, _ = diffusers_cases.CASES[case.model]
    model = getattr(diffusers, kind).from_pretrained(diffusers_cases.RECORDED / case.model).eval()
    name, arguments = case.scheduler
    scheduler = getattr(diffusers, name)(**arguments)
    chosen = {"num_inference_steps": STEPS, "guidance_scale": case.guidance or 1.0, "output_type": "latent"}
    conditioning = given(case)
    shape = next(iter(network(case).inputs.values()))
    start = torch.tensor(np.stack([unit_noise(shape, item) for item in range(2)]))
    seen = []
    step = scheduler.step

    def kept(*positional, **options):
        """Remember every sample; noise is golden's, a clipped image is followed by the noise that it leaves."""
        noise = torch.tensor(np.stack([unit_noise(shape, item, 1 + len(seen)) for item in range(2)]))
        fresh = nullcontext()
        if name == "DDPMScheduler":
            fresh = mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise)
        with fresh:
            result = step(*positional, **options)
        seen.append((result[0] if isinstance(result, tuple) else result.prev_sample).numpy().copy())
        return result

    scheduler.step = kept
    with torch.no_grad():
        if kind == "UNet2DConditionModel":
            parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
            pipeline = diffusers.StableDiffusionPipeline(
                **parts, unet=model, scheduler=scheduler, requires_safety_checker=False
            )
            pipeline(**chosen, latents=start, **_texts(conditioning))
        elif kind == "LatteTransformer3DModel":
            pipeline = diffusers.LattePipeline(
                vae=None, text_encoder=None, tokenizer=None, transformer=model, scheduler=scheduler
            )
            chosen |= {
                "video_length": shape[1],
                "height": 8 * shape[-2],
                "width": 8 * shape[-1],
                "mask_feature": False,
                "negative_prompt": None,
            }
            pipeline(**chosen, latents=start, **_texts(conditioning))
        else:
            _loop(model, scheduler, start, conditioning, case.guidance)
    return np.stack(seen)


def _texts(conditioning):
    import torch

    null = np.broadcast_to(conditioning["null.text"], conditioning["text"].shape).copy()
    return {"prompt_embeds": torch.tensor(conditioning["text"]), "negative_prompt_embeds": torch.tensor(null)}


def _loop(model, scheduler, x, conditioning, guidance):
    """As ``DiTPipeline`` and ``DDPMPipeline`` do it."""
    import torch

    labels = {}
    if isinstance(conditioning, dict):
        labels = {"class_labels": torch.tensor(conditioning["label"])}
    if guidance is not None:
        null = torch.full((2,), model.config.num_embeds_ada_norm)
        labels = {"class_labels": torch.cat([labels["class_labels"], null])}
    scheduler.set_timesteps(STEPS)
    for timestep in scheduler.timesteps:
        called = x if guidance is None else torch.cat([x, x])
        predicted = model(called, timestep.expand(len(called)), **labels).sample
        if guidance is not None:
            conditioned, without = predicted.chunk(2)
            predicted = without + guidance * (conditioned - without)
        x = scheduler.step(predicted, timestep, x).prev_sample


if __name__ == "__main__":
    RECORDED.mkdir(exist_ok=True)
    for title, one in CASES.items():
        path = RECORDED / f"{title.replace(' ', '_')}.npz"
        samples = diffused(one)
        np.savez_compressed(path, middle=samples[STEPS // 2], last=samples[-1])
        print(title, path.stat().st_size, np.abs(samples[-1]).max())
