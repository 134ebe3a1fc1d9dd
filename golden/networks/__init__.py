"""Networks in numpy: layers, the graph that names and runs them, and builders."""

from golden.networks.graph import Executor, Network, Record, Recorder, StatefulExecutor, begin_step, dense
from golden.networks.models import ClassifierConfig, UNetConfig, classifier, initial, stored, unet

__all__ = [
    "ClassifierConfig",
    "Executor",
    "Network",
    "Record",
    "Recorder",
    "StatefulExecutor",
    "UNetConfig",
    "begin_step",
    "classifier",
    "dense",
    "initial",
    "stored",
    "unet",
]
