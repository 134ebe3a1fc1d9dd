"""Networks in numpy: layers, the graph that names and runs them, builders, and the DDIM sampler."""

from golden.networks.graph import Executor, Network, Record, Recorder, StatefulExecutor, begin_step, dense
from golden.networks.models import ClassifierConfig, UNetConfig, classifier, initial, stored, unet
from golden.networks.sampler import Schedule, Step, ddim, noise, sample

__all__ = [
    "ClassifierConfig",
    "Executor",
    "Network",
    "Record",
    "Recorder",
    "Schedule",
    "StatefulExecutor",
    "Step",
    "UNetConfig",
    "begin_step",
    "classifier",
    "ddim",
    "dense",
    "initial",
    "noise",
    "sample",
    "stored",
    "unet",
]
