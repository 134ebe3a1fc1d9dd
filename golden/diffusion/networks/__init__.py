"""Networks in numpy: layers, the graph that names and runs them, and builders."""

from golden.diffusion.networks.builder import Builder
from golden.diffusion.networks.classifier import ClassifierConfig, classifier
from golden.diffusion.networks.dit import DiTConfig, dit
from golden.diffusion.networks.graph import Executor, Network, Record, Recorder, StatefulExecutor, begin_step, dense
from golden.diffusion.networks.sources import initial, scattered, stored
from golden.diffusion.networks.unet import UNetConfig, unet

__all__ = [
    "Builder",
    "ClassifierConfig",
    "DiTConfig",
    "Executor",
    "Network",
    "Record",
    "Recorder",
    "StatefulExecutor",
    "UNetConfig",
    "begin_step",
    "classifier",
    "dense",
    "dit",
    "initial",
    "scattered",
    "stored",
    "unet",
]
