"""Diffusion models in numpy, run densely or under the methods of the machine.

A network, one of the zoo or of one's own (`Builder`), is drawn as a `Sampling` and executed under a `Method`:

>>> from golden.diffusion import Method, Sampling, compare, zoo
>>> sampling = Sampling(zoo.load("unet"), [3, 8], steps=10)
>>> (row,) = compare(sampling, {"k = 4": Method.named("closed-int4")})
>>> row["psnr_mean"] > 50
True
"""

from golden.diffusion import layers, zoo
from golden.diffusion.differential.compare import compare
from golden.diffusion.differential.method import METHODS, Method
from golden.diffusion.differential.run import Run, run
from golden.diffusion.differential.tune import Tuned, tune
from golden.diffusion.networks import Builder, Network, initial, stored
from golden.diffusion.sampling import Cache, Conditioning, RectifiedFlow, Sampler, Sampling, Schedule

__all__ = [
    "METHODS",
    "Builder",
    "Cache",
    "Conditioning",
    "Method",
    "Network",
    "RectifiedFlow",
    "Run",
    "Sampler",
    "Sampling",
    "Schedule",
    "Tuned",
    "compare",
    "initial",
    "layers",
    "run",
    "stored",
    "tune",
    "zoo",
]
