"""From noise to images: schedules, samplers and guidance, and the methods that leave out work or follow a video.

`deepcache` reuses deep values of a U-Net for some steps; `streaming` denoises the frames of a video as they come.
"""

from golden.sampling.guidance import doubled, guided, null_label
from golden.sampling.samplers import Denoiser, Sampler, Step, check_labels, ddim, noise, sample
from golden.sampling.schedule import STABLE_DIFFUSION, Schedule

__all__ = [
    "STABLE_DIFFUSION",
    "Denoiser",
    "Sampler",
    "Schedule",
    "Step",
    "check_labels",
    "ddim",
    "doubled",
    "guided",
    "noise",
    "null_label",
    "sample",
]
