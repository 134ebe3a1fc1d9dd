"""From noise to images: schedules, samplers and guidance, and the methods that leave out work or follow a video.

`deepcache` reuses deep values of a U-Net for some steps; `streaming` denoises the frames of a video as they come.
"""

from golden.diffusion.sampling.conditioning import Conditioning, Given, condition, null_label
from golden.diffusion.sampling.deepcache import Cache
from golden.diffusion.sampling.guidance import guided
from golden.diffusion.sampling.samplers import Process, RectifiedFlow, Sampler, Step, noise
from golden.diffusion.sampling.sampling import Denoiser, Sampling
from golden.diffusion.sampling.schedule import STABLE_DIFFUSION, Schedule

__all__ = [
    "STABLE_DIFFUSION",
    "Cache",
    "Conditioning",
    "Denoiser",
    "Given",
    "Process",
    "RectifiedFlow",
    "Sampler",
    "Sampling",
    "Schedule",
    "Step",
    "condition",
    "guided",
    "noise",
    "null_label",
]
