"""Samplers of checkpoints: what a ``scheduler_config.json`` of diffusers says, or what the class of a model is used to.

The noise levels, their spacing and the kind of prediction are the network's; the steps between them are always those of
`golden.diffusion.sampling.Sampler`: DDPM where the scheduler is one, DDIM in place of every other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from golden.common import names
from golden.common.checked import read_json
from golden.diffusion.sampling import STABLE_DIFFUSION, Sampler, Schedule

__all__ = ["DEFAULTS", "FILE", "SCHEDULERS", "find", "read"]

FILE = "scheduler_config.json"
"""File of a scheduler's configuration, in the folder of the model or in ``scheduler`` beside it."""

_LINEAR = Schedule(betas="linear", spacing="leading")

DEFAULTS: dict[str, Sampler] = {
    "UNet2DModel": Sampler(_LINEAR),
    "UNet2DConditionModel": Sampler(STABLE_DIFFUSION, clip=False),
    "DiTTransformer2DModel": Sampler(_LINEAR, clip=False),
    "Transformer2DModel": Sampler(_LINEAR, clip=False),
    "LatteTransformer3DModel": Sampler(_LINEAR, clip=False),
}
"""DDIM as the published models of each class were trained for it: DDPM, Stable Diffusion 1.x, DiT and Latte."""

_COMMON = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
_COMMON |= {"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 0}
_CLIPS = {"clip_sample": True, "clip_sample_range": 1.0, "thresholding": False, "rescale_betas_zero_snr": False}
_EVEN = {"timestep_spacing": "linspace"}

SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {**_COMMON, **_CLIPS, "set_alpha_to_one": True},
    "DDPMScheduler": {**_COMMON, **_CLIPS, "variance_type": "fixed_small"},
    "PNDMScheduler": {**_COMMON, "set_alpha_to_one": False},
    "DPMSolverMultistepScheduler": {**_COMMON, **_EVEN},
    "UniPCMultistepScheduler": {**_COMMON, **_EVEN},
    "EulerDiscreteScheduler": {**_COMMON, **_EVEN},
    "EulerAncestralDiscreteScheduler": {**_COMMON, **_EVEN},
    "LMSDiscreteScheduler": {**_COMMON, **_EVEN},
}
"""Classes that are read, with diffusers' defaults of the options that count; the others are about the steps."""

_BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "image"}
_SPACINGS = {name: name for name in ("leading", "trailing", "linspace")}
_VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "learned_range": "learned"}
_FIXED = {
    "trained_betas": None,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
}


def find(folder: Path) -> Path | None:
    """Configuration of the scheduler that belongs to a folder of a model, if there is one."""
    folder = Path(folder)
    return next((path for path in (folder / FILE, folder.parent / "scheduler" / FILE) if path.is_file()), None)


def read(source: Path | Mapping[str, Any]) -> Sampler:
    """Sampler of a scheduler's configuration.

    Parameters
    ----------
    source : Path or mapping
        ``scheduler_config.json``, or what it holds.

    Returns
    -------
    Sampler
        DDPM (``eta=1``, with its variance) for a ``DDPMScheduler``, otherwise DDIM.

    Raises
    ------
    ValueError
        Naming the class or the option that is not supported.
    OSError
        If the file cannot be read.
    """
    given = source if isinstance(source, Mapping) else read_json("A scheduler's configuration", source)
    if not isinstance(given, Mapping):
        raise ValueError(f"Configuration of a scheduler must be a mapping, not {type(given).__name__}")
    kind = str(given.get("_class_name"))
    options = {**names.lookup("Scheduler", kind, SCHEDULERS), **given}
    for option, value in _FIXED.items():
        if options.get(option, value) != value:
            raise ValueError(f"Option {option!r} of {kind} must be {value!r}, not {options[option]!r}")

    def own(option: str, otherwise: bool) -> bool:
        """An option, of a scheduler that has it: files also keep those of the schedulers they were made from."""
        return options[option] if option in SCHEDULERS[kind] else otherwise

    betas = _choice(kind, options, "beta_schedule", _BETAS)
    spacing = _choice(kind, options, "timestep_spacing", _SPACINGS)
    ends = {} if betas == "cosine" else {"first_beta": options["beta_start"], "last_beta": options["beta_end"]}
    schedule = Schedule(
        timesteps=options["num_train_timesteps"],
        betas=betas,
        spacing=spacing,
        offset=options["steps_offset"] if spacing == "leading" else 0,
        ends_clean=own("set_alpha_to_one", True),
        **ends,
    )
    ancestral = {}
    if kind == "DDPMScheduler":
        ancestral = {"eta": 1.0, "variance": _choice(kind, options, "variance_type", _VARIANCES)}
    return Sampler(
        schedule,
        clip=own("clip_sample", False),
        prediction=_choice(kind, options, "prediction_type", _PREDICTIONS),
        **ancestral,
    )


def _choice(kind: str, options: Mapping[str, Any], option: str, choices: Mapping[str, str]) -> str:
    value = options[option]
    if value not in choices:
        raise ValueError(f"Option {option!r} of {kind} must be {' or '.join(map(repr, choices))}, not {value!r}")
    return choices[value]
