"""Small networks, inputs that move, and a measure that keeps what it is told."""

import numpy as np

from golden.differential.profile import Calibration
from golden.networks import Network, layers
from tests.golden.sampling.networks import random_unet

STEPS = 8
TIMESTEPS = np.linspace(900, 100, STEPS).astype(int)
LABELS = np.array([3, 8, 1])


def moving(network, steps=STEPS, items=3, seed=0, speed=0.15):
    """Images that change little by little, (steps, items, ...)."""
    rng = np.random.default_rng(seed)
    shape = (items, *next(iter(network.inputs.values())))
    start, change = rng.standard_normal(shape), rng.standard_normal(shape) * speed
    wobble = rng.standard_normal((steps, *shape)) * speed / 5
    return (start + np.arange(steps).reshape(-1, *[1] * len(shape)) * change + wobble).astype(np.float32)


def arguments(network, image, step):
    """All inputs of a call."""
    extra = {"timestep": np.full(len(image), TIMESTEPS[step]), "label": LABELS[: len(image)]}
    extra["fps"] = np.full(len(image), 24)
    if "text" in network.inputs:
        extra["text"] = f32(np.random.default_rng(7).standard_normal((len(image), *network.inputs["text"])))
    return image, *(extra[name] for name in list(network.inputs)[1:])


def calibrated(network, images):
    calibration = Calibration(network)
    for step, image in enumerate(images):
        calibration.begin_step(step, len(images))
        network(*arguments(network, image, step), executor=calibration)
    return calibration.profile(len(images))


def attention_network(seed=2, constant=False):
    """Two products of activations between linear layers; with `constant`, keys and values come from the label."""
    rng = np.random.default_rng(seed)

    def linear(name, source, wide_in=6, wide_out=6):
        weight, bias = rng.standard_normal((wide_out, wide_in)), rng.standard_normal(wide_out)
        return layers.Linear(name, (source,), weight=f32(weight * 0.4), bias=f32(bias * 0.1))

    found = [layers.LayerNorm("norm", ("image",)), linear("query", "norm")]
    if constant:
        found += [
            layers.Embedding("table", ("label",), weight=f32(rng.standard_normal((10, 6)))),
            Rows("rows", ("table",)),
        ]
    origin = "rows" if constant else "norm"
    found += [
        linear("key", origin),
        linear("value", origin),
        layers.MatMul("scores", ("query", "key"), transposed=True, scale=0.4),
        layers.Softmax("softmax", ("scores",)),
        layers.MatMul("mix", ("softmax", "value")),
        layers.Add("add", ("image", "mix")),
        linear("out", "add"),
    ]
    inputs = {"image": (5, 6), "label": ()} if constant else {"image": (5, 6)}
    return Network("attention", inputs, found, {})


class Rows(layers.Layer):
    """Four tokens of a vector: it, its negative, its half and its mirror image."""

    kind = "rows"

    def __call__(self, x):
        return np.stack([x, -x, x / 2, x[:, ::-1]], axis=1)

    def shape(self, *shapes):
        return (shapes[0][0], 4, shapes[0][1])


def f32(values):
    return np.asarray(values, np.float32)


class Spy:
    """In place of a `Measure`: keeps everything.

    Members
    -------
    inputs : dict
        Under (step, value) the pair of `Passes` and k; of the items that do not start anew if there are both.
    parts : dict
        Under (step, value) all `Passes`.
    outputs : dict
        Under (step, layer) the `Passes`.
    """

    def __init__(self):
        self.inputs, self.outputs, self.flips = {}, {}, {}
        self.groupings, self.parts = {}, {}

    def sent(self, step, name, sent, grouping, k):
        self.inputs[step, name] = sent, k
        self.parts.setdefault((step, name), []).append(sent)
        self.groupings[name] = grouping

    def output(self, step, name, sent, grouping, k=None, outliers=0):
        self.outputs.setdefault((step, name), []).append(sent)
        self.groupings[name] = grouping


__all__ = [
    "LABELS",
    "STEPS",
    "TIMESTEPS",
    "Spy",
    "arguments",
    "attention_network",
    "calibrated",
    "moving",
    "random_unet",
]
