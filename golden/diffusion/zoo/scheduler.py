"""Samplers of checkpoints: what a ``scheduler_config.json`` of diffusers says, or what the class of a model is used to.

The noise levels, their spacing and the kind of prediction are the network's; the steps between them are always those of
`golden.diffusion.sampling.Sampler`: DDPM where the scheduler is one, DDIM in place of every other.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from golden.common import names
from golden.common.checked import Checked, Range, check, read_json
from golden.diffusion.sampling import STABLE_DIFFUSION, Sampler, Schedule
from golden.diffusion.sampling.schedule import Offset, Timesteps

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

_BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "image"}
_VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "learned_range": "learned"}

_Beta = Annotated[float, Range(above=0, below=1)]
_Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, kw_only=True)
class _Options(Checked):
    """Options that count, with diffusers' defaults; the others are about the steps."""

    num_train_timesteps: Timesteps = 1000
    beta_start: _Beta = 0.0001
    beta_end: _Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    timestep_spacing: _Spacing = "leading"
    steps_offset: Offset = 0
    trained_betas: Literal[None] = None
    thresholding: Literal[False] = False
    rescale_betas_zero_snr: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _Clipping(_Options):
    clip_sample: bool = True
    clip_sample_range: float = 1.0

    def check_together(self) -> None:
        """Only the range of our own clip is known; without a clip it changes nothing."""
        if self.clip_sample and self.clip_sample_range != 1:
            raise ValueError(f"{self.called('clip_sample_range')} must be 1, not {self.clip_sample_range!r}")


@dataclass(frozen=True, kw_only=True)
class _DDIM(_Clipping, label="DDIMScheduler option {}"):
    set_alpha_to_one: bool = True


@dataclass(frozen=True, kw_only=True)
class _DDPM(_Clipping, label="DDPMScheduler option {}"):
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] = "fixed_small"


@dataclass(frozen=True, kw_only=True)
class _PNDM(_Options, label="PNDMScheduler option {}"):
    set_alpha_to_one: bool = False


@dataclass(frozen=True, kw_only=True)
class _Even(_Options):
    timestep_spacing: _Spacing = "linspace"


class _EulerAncestral(_Even, label="EulerAncestralDiscreteScheduler option {}"):
    pass


class _LMS(_Even, label="LMSDiscreteScheduler option {}"):
    pass


@dataclass(frozen=True, kw_only=True)
class _Euler(_Even, label="EulerDiscreteScheduler option {}"):
    # continuous: the network is told the logarithm of a noise level, not its number
    timestep_type: Literal["discrete"] = "discrete"


@dataclass(frozen=True, kw_only=True)
class _Solver(_Even, label="DPMSolverMultistepScheduler option {}"):
    use_flow_sigmas: Literal[False] = False


class _UniPC(_Solver, label="UniPCMultistepScheduler option {}"):
    pass


SCHEDULERS: dict[str, type[_Options]] = {
    "DDIMScheduler": _DDIM,
    "DDPMScheduler": _DDPM,
    "PNDMScheduler": _PNDM,
    "DPMSolverMultistepScheduler": _Solver,
    "UniPCMultistepScheduler": _UniPC,
    "EulerDiscreteScheduler": _Euler,
    "EulerAncestralDiscreteScheduler": _EulerAncestral,
    "LMSDiscreteScheduler": _LMS,
}
"""Classes that are read. Files also keep options of the schedulers they were made from, which are passed over."""


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
    TypeError, ValueError
        Naming the class or the option that is not supported.
    OSError
        If the file cannot be read.
    """
    given = source if isinstance(source, Mapping) else read_json("A scheduler's configuration", source)
    given = check("Configuration of a scheduler", given, Mapping[str, Any])
    kind = names.lookup("Scheduler", str(given.get("_class_name")), SCHEDULERS)
    known = {field.name for field in dataclasses.fields(kind)}
    options = kind(**{option: value for option, value in given.items() if option in known})
    betas = _BETAS[options.beta_schedule]
    ends = {} if betas == "cosine" else {"first_beta": options.beta_start, "last_beta": options.beta_end}
    schedule = Schedule(
        timesteps=options.num_train_timesteps,
        betas=betas,
        spacing=options.timestep_spacing,
        offset=options.steps_offset if options.timestep_spacing == "leading" else 0,
        ends_clean=getattr(options, "set_alpha_to_one", True),
        **ends,
    )
    ancestral = {"eta": 1.0, "variance": _VARIANCES[options.variance_type]} if isinstance(options, _DDPM) else {}
    return Sampler(
        schedule,
        clip=getattr(options, "clip_sample", False),
        prediction=_PREDICTIONS[options.prediction_type],
        **ancestral,
    )
