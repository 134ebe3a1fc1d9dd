"""Small networks, inputs that move, and a measure that keeps what it is told."""

import numpy as np

from golden.diffusion import layers
from golden.diffusion.differential.profile import Calibration
from golden.diffusion.networks import Network

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

    found = [layers.Norm("norm", ("image",), epsilon=1e-6), linear("query", "norm")]
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


def normed(kind, seed=0):
    """A product, a norm of this kind, a product: tokens of six channels, or an image of them."""
    rng = np.random.default_rng(seed)
    scale, shift = f32(rng.uniform(0.5, 1.5, 6)), f32(rng.standard_normal(6) * 0.3)
    norm = {
        "group_norm": lambda: layers.Norm("norm", ("first",), weight=scale, bias=shift, groups=2),
        "layer_norm": lambda: layers.Norm("norm", ("first",), epsilon=1e-6),
        "affine_layer_norm": lambda: layers.Norm("norm", ("first",), weight=scale, bias=shift),
        "rms_norm": lambda: layers.Norm("norm", ("first",), weight=scale, epsilon=1e-6, centred=False),
    }[kind]()
    image = kind == "group_norm"

    def product(name, source):
        weight, bias = f32(rng.standard_normal((6, 6)) * 0.6), f32(rng.standard_normal(6) * 0.2)
        if image:
            return layers.Convolution(name, (source,), weight=weight[:, :, None, None], bias=bias)
        return layers.Linear(name, (source,), weight=weight, bias=bias)

    shape = (6, 3, 3) if image else (4, 6)
    return Network(kind, {"image": shape}, [product("first", "image"), norm, product("out", "norm")], {})


def normalised(network, y, deviation, *, centred=True, shifted=True):
    """The norm of `normed` in binary64, with a deviation of each set; without its mean or its shift if so asked."""
    norm, y = network.by_name["norm"], y.astype(np.float64)
    if network.name == "group_norm":
        sets = y.reshape(len(y), 2, -1)
        mean = sets.mean(axis=-1, keepdims=True)
    else:
        sets = y
        mean = y.mean(axis=-1, keepdims=True)
    if not centred or network.name == "rms_norm":
        mean = 0
    z = ((sets - mean) / np.asarray(deviation)[..., None]).reshape(y.shape)
    shape = (-1, 1, 1) if network.name == "group_norm" else (-1,)
    z = z * (1 if norm.weight is None else norm.weight.reshape(shape))
    return z + (0 if norm.bias is None else norm.bias.reshape(shape)) if shifted else z


def deviation_of(network, y):
    """Root of the variance, or of the mean square, of each set of the norm of `normed`."""
    sets = y.astype(np.float64).reshape(len(y), 2, -1) if network.name == "group_norm" else y.astype(np.float64)
    power = np.square(sets).mean(axis=-1) if network.name == "rms_norm" else sets.var(axis=-1)
    return np.sqrt(power + network.by_name["norm"].epsilon)


def passes_sent(sent, k, floor):
    """Passes of the groups that the floor does not cut short."""
    free = sent.last > floor
    counts = np.unique((sent.exponent - sent.last)[free] // (k - 1)) + 1
    return counts.tolist()


class Spy:
    """In place of a `Measure`: keeps everything.

    Members
    -------
    inputs : dict
        Under (step, value) the `Passes`; of the items that do not start anew if there are both.
    parts : dict
        Under (step, value) all `Passes`.
    outputs, raws : dict
        Under (step, layer) the `Passes`.
    """

    def __init__(self):
        self.inputs, self.outputs, self.flips, self.raws = {}, {}, {}, {}
        self.groupings, self.parts = {}, {}

    def sent(self, step, name, sent, grouping):
        self.inputs[step, name] = sent
        self.parts.setdefault((step, name), []).append(sent)
        self.groupings[name] = grouping

    def output(self, step, name, sent, grouping, outliers=0, *, again=False):
        self.outputs.setdefault((step, name), []).append(sent)
        self.groupings[name] = grouping

    def raw(self, step, layer, sent, grouping):
        self.raws.setdefault((step, layer), []).append(sent)
