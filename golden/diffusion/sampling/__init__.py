"""From noise to images: schedules, samplers and guidance, and the methods that leave out work or follow a video.

`deepcache` reuses deep values of a U-Net for some steps; `streaming` denoises the frames of a video as they come.
"""

from golden.diffusion.sampling.conditioning import Conditioning, Given, condition, null_label
from golden.diffusion.sampling.guidance import guided
from golden.diffusion.sampling.samplers import Denoiser, Process, RectifiedFlow, Sampler, Step, ddim, noise, sample
from golden.diffusion.sampling.schedule import STABLE_DIFFUSION, Schedule

__all__ = [
    "STABLE_DIFFUSION",
    "Conditioning",
    "Denoiser",
    "Given",
    "Process",
    "RectifiedFlow",
    "Sampler",
    "Schedule",
    "Step",
    "condition",
    "ddim",
    "guided",
    "noise",
    "null_label",
    "sample",
]
