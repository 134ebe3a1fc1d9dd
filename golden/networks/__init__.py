"""Networks in numpy: layers, the graph that names and runs them, and builders."""

from golden.networks.classifier import ClassifierConfig, classifier
from golden.networks.dit import DiTConfig, dit
from golden.networks.graph import Executor, Network, Record, Recorder, StatefulExecutor, begin_step, dense
from golden.networks.sources import initial, stored
from golden.networks.unet import UNetConfig, unet

__all__ = [
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
    "stored",
    "unet",
]
