"""Train the networks of the zoo on scikit-learn's digits: ``python -m golden train`` (extra ``train``).

The data are the 1,797 real handwritten digits of scikit-learn (8 x 8 pixels, 17 grey levels), enlarged once to 16 x 16
by bicubic interpolation and scaled to -1..1. U-Nets and transformer learn to predict the noise (Ho et al., 2020) at
1000 levels of the cosine schedule; what is kept is the exponential moving average of their weights. Networks with a
null label see it in place of one label in ten, so that they can be guided (Ho and Salimans, *Classifier-free diffusion
guidance*, 2022). The U-Net with SiLU goes on from the shipped weights of the one with ReLU. The classifier sees real
images only, and not the held-out fifth of them on which its accuracy is measured.

torch runs the same graph as numpy (`networks`), one torch function for each kind of layer, so names and wiring
cannot differ; the arithmetic does, and the shipped references record what torch computes for every layer.
"""

import copy
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

try:
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits
except ImportError as error:
    raise ImportError(
        f"Training needs the extra 'train' (pip install 'driftless-hdl[train]'), which lacks: {error}"
    ) from error

from golden.common import console, files
from golden.diffusion import zoo
from golden.diffusion.layers import Layer, Shape
from golden.diffusion.networks import ClassifierConfig, DiTConfig, Network, UNetConfig, classifier, initial, stored
from golden.diffusion.networks.sources import Source
from golden.diffusion.sampling import Schedule


@dataclass(frozen=True)
class Recipe:
    """How a network that predicts noise is trained.

    Parameters
    ----------
    config : UNetConfig or DiTConfig
        What is built.
    iterations : tuple of int
        Steps of the optimiser in each of several runs; each but the first goes on from the weights of the one before.
    rate : float
        Largest learning rate of a run: reached after a twentieth of its iterations, then falling as a cosine.
    batch : int
        Images in a step.
    keep : float
        Share of the moving average that a step leaves.
    start : str or None
        Shipped network whose weights training starts from, see `grown`; None starts from random ones.
    """

    config: UNetConfig | DiTConfig
    iterations: tuple[int, ...] = (2600,)
    rate: float = 2e-3
    batch: int = 64
    keep: float = 0.998
    start: str | None = None


RECIPES = {
    "unet": Recipe(UNetConfig()),
    "unet-silu": Recipe(
        UNetConfig(activation="silu", null_label=True), iterations=(600,), rate=1e-3, batch=32, start="unet"
    ),
    "dit": Recipe(DiTConfig(null_label=True), iterations=(2800, 1200), rate=1e-3, batch=16),
}
"""Recipe of every network that draws, by name."""

TOLD = 20
"""Iterations after which it is told how long all of them take."""

DROPPED = 0.1
"""Share of labels that become the null label, in networks that have one."""


def digits(side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Real digits as float32 ``(1797, 1, side, side)`` in -1..1, and their int64 labels ``(1797,)``."""
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 8 - 1, dtype=torch.float32)
    images = F.interpolate(images, size=(side, side), mode="bicubic", align_corners=False).clamp(-1, 1)
    return images.numpy(), data.target.astype(np.int64)


def _evaluate(layer: Layer, parameters: Mapping[str, torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """One layer by torch's own functions."""
    x = values[0]
    match layer.kind:
        case "convolution":
            return F.conv2d(x, parameters["weight"], parameters["bias"], stride=layer.stride, padding=layer.padding)
        case "linear":
            return F.linear(x, parameters["weight"], parameters["bias"])
        case "norm" if layer.groups:
            return F.group_norm(x, layer.groups, parameters["weight"], parameters["bias"], layer.epsilon)
        case "norm":
            return F.layer_norm(x, x.shape[-1:], eps=layer.epsilon)
        case "relu":
            return F.relu(x)
        case "silu":
            return F.silu(x)
        case "gelu":
            return F.gelu(x, approximate="tanh")
        case "softmax":
            return F.softmax(x, dim=-1)
        case "matmul":
            other = values[1].transpose(-1, -2) if layer.transposed else values[1]
            return torch.matmul(x, other) * layer.scale
        case "add":
            return x + values[1]
        case "add_channel":
            return x + values[1][:, :, None, None]
        case "add_constant":
            return x + parameters["table"]
        case "modulate":
            shift, scale = (value[:, None] for value in values[1:])
            return torch.addcmul(x + shift, x, scale)
        case "gate":
            return x * values[1][:, None]
        case "concat":
            return torch.cat(values, dim=1)
        case "move":
            split, index, order, spread, lengths, shape = layer.steps(tuple(x.shape))
            return x.reshape(split)[index].permute(order)[spread].expand(lengths).reshape(shape)
        case "mean":
            return x.mean(dim=(2, 3))
        case "time_encoding":
            half = layer.channels // 2
            angle = x.double()[:, None] * torch.exp(-math.log(layer.period) * torch.arange(half).double() / half)
            return torch.cat([angle.cos(), angle.sin()], dim=1).float()
        case "embedding":
            return F.embedding(x, parameters["weight"])
    raise ValueError(f"Layer kind must be one that torch knows, not {layer.kind!r}")


class TorchNetwork(torch.nn.Module):
    """A `Network` run by torch, with its parameters as torch parameters."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        # a parameter's name must not contain a dot in torch
        self.values = torch.nn.ParameterDict(
            {name.replace(".", "/"): torch.tensor(value) for name, value in network.parameters().items()}
        )

    def forward(self, *inputs: torch.Tensor, outputs: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """Evaluate; `outputs`, if given, receives the value of every layer."""
        values = dict(zip(self.network.inputs, inputs, strict=True))
        for layer in self.network.layers:
            prefix = layer.name.replace(".", "/")
            parameters = {name: self.values[f"{prefix}/{name}"] for name in layer.parameters()}
            values[layer.name] = _evaluate(layer, parameters, [values[source] for source in layer.inputs])
            if outputs is not None:
                outputs[layer.name] = values[layer.name]
        return values[self.network.layers[-1].name]

    def parameters_float16(self) -> dict[str, np.ndarray]:
        """Parameters under the names of `Network.parameters`, rounded to FP16."""
        return {
            name.replace("/", "."): value.detach().numpy().astype(np.float16) for name, value in self.values.items()
        }


def train_denoiser(name: str, recipe: Recipe, seed: int) -> TorchNetwork:
    """Train a network of `RECIPES` to predict noise; returns the moving average of its weights, of the last run."""
    source = initial(seed) if recipe.start is None else grown(zoo.load(recipe.start))
    for run, iterations in enumerate(recipe.iterations):
        average = train_run(name, recipe, source, seed + run, iterations, after=sum(recipe.iterations[run + 1 :]))
        source = stored(average.parameters_float16())
    return average


def train_run(name: str, recipe: Recipe, source: Source, seed: int, iterations: int, *, after: int = 0) -> TorchNetwork:
    """Train for so many iterations; returns the moving average of the weights.

    How long it takes is told after `TOLD` iterations, and every 200: `after` more follow in other runs.
    """
    torch.manual_seed(seed)
    config = recipe.config
    images, labels = (torch.tensor(value) for value in digits(config.side))
    signal = torch.tensor(Schedule().signal, dtype=torch.float32)
    _, build = zoo.NETWORKS[name]
    model = TorchNetwork(build(config, source, name))
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=1e-4)
    batch = recipe.batch
    warm = max(1, iterations // 20)
    recent, began = 0.0, time.monotonic()
    for iteration in console.progress(range(iterations), f"Training {name}"):
        for group in optimizer.param_groups:
            passed = iteration / iterations
            group["lr"] = recipe.rate * min((iteration + 1) / warm, 0.5 * (1 + math.cos(math.pi * passed)) + 0.01)
        chosen = torch.randint(len(images), (batch,))
        # one noise level in each of `batch` equal intervals: less variance than independent draws
        level = ((torch.arange(batch) + torch.rand(batch)) / batch * len(signal)).long().clamp(max=len(signal) - 1)
        added = torch.randn(batch, *images.shape[1:])
        share = signal[level][:, None, None, None]
        noisy = share.sqrt() * images[chosen] + (1 - share).sqrt() * added
        given = labels[chosen]
        if config.null_label:
            given = drop(given, config.classes)
        loss = F.mse_loss(model(noisy, level, given), added)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            # the average forgets the random start first, then keeps about the last 1 / (1 - keep) iterations
            keep = min(recipe.keep, (1 + iteration) / (10 + iteration))
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        recent = loss.item() if iteration == 0 else 0.99 * recent + 0.01 * loss.item()
        done = iteration + 1
        if done == TOLD or done % 200 == 0:
            spent = time.monotonic() - began
            left = spent / done * (iterations - done + after)
            told = f"iteration {done} of {iterations + after}, loss {recent:.4f}, {spent:.0f} s"
            click.echo(f"{name}: {told}, about {left:.0f} s left", err=True)
    return average


def grown(network: Network) -> Source:
    """Parameters of a network, for one that has the same; a null label it lacks starts as the mean of the others."""

    def source(name: str, shape: Shape) -> np.ndarray:
        value = network.parameters()[name]
        if name == "label.embedding.weight" and len(value) < shape[0]:
            value = np.concatenate([value, value.mean(axis=0, keepdims=True)])
        return stored({name: value})(name, shape)

    return source


def drop(labels: torch.Tensor, null: int) -> torch.Tensor:
    """Labels of which the share `DROPPED`, chosen at random, is replaced by the null label."""
    return torch.where(torch.rand(len(labels)) < DROPPED, null, labels)


def train_classifier(config: ClassifierConfig, seed: int, epochs: int = 80) -> tuple[TorchNetwork, float]:
    """Train the classifier on four fifths of the real digits; returns it and its accuracy on the other fifth."""
    torch.manual_seed(seed)
    images, labels = (torch.tensor(value) for value in digits(config.side))
    order = torch.randperm(len(images))
    held, seen = order[: len(order) // 5], order[len(order) // 5 :]
    model = TorchNetwork(classifier(config, initial(seed)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    for epoch in console.progress(range(epochs), "Training the classifier"):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for chosen in seen[torch.randperm(len(seen))].split(64):
            # up to one pixel of shift: a sample of the U-Net need not sit exactly where the real digits do
            shift = tuple(torch.randint(-1, 2, (2,)).tolist())
            loss = F.cross_entropy(model(images[chosen].roll(shift, dims=(2, 3))), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(images[held]).argmax(dim=1) == labels[held]).float().mean().item()
    return model, accuracy


def reference(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of one call and torch's output for every layer, float32, under the names of the network."""
    rng = np.random.default_rng(seed)
    images, labels = digits(network.inputs["image"][1])
    level = 400
    signal = Schedule().signal[level]
    image = signal**0.5 * images[:1] + (1 - signal) ** 0.5 * rng.standard_normal(images[:1].shape)
    inputs = {"image": image.astype(np.float32), "timestep": np.array([level]), "label": labels[:1]}
    inputs = {name: inputs[name] for name in network.inputs}
    outputs: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        TorchNetwork(network)(*(torch.tensor(value) for value in inputs.values()), outputs=outputs)
    return inputs | {name: value.numpy() for name, value in outputs.items()}


def train(chosen: Iterable[str], out: Path, *, seed: int = 0, iterations: int | None = None, threads: int = 1) -> None:
    """Train networks of the zoo and write what ships of them: weights and companions, see `write_companions`.

    Parameters
    ----------
    chosen : iterable of str
        Their names.
    out : Path
        Folder to write; made if it is not there.
    seed : int
        Of start, order and noise.
    iterations : int, optional
        Training steps of networks that draw; the default is what the recipe says.
    threads : int
        Cores used by torch.

    Raises
    ------
    ValueError
        If a file cannot be written, before anything is trained.
    """
    chosen = tuple(dict.fromkeys(chosen))
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    for path in (path for name in chosen for path in _written(name, out)):
        files.check_writable(path)
    for name in chosen:
        began = time.monotonic()
        if name == "classifier":
            model, accuracy = train_classifier(ClassifierConfig(), seed)
            click.echo(f"classifier: {accuracy:.1%} of the held-out real digits", err=True)
        else:
            recipe = RECIPES[name]
            model = train_denoiser(
                name, recipe if iterations is None else replace(recipe, iterations=(iterations,)), seed
            )
        zoo.store(out / f"{name}.safetensors", model.network, model.parameters_float16())
        click.echo(f"{name}: trained in {time.monotonic() - began:.0f} s", err=True)
        write_companions(zoo.load(name, out), out)


def _written(name: str, out: Path) -> list[Path]:
    """Files of a network."""
    if name == "classifier":
        found = ["digits.npz"]
    else:
        found = [zoo.reference_file(name), *(["recorded.npz"] if name == "unet" else [])]
    return [out / one for one in (f"{name}.safetensors", *found)]


def write_companions(network: Network, out: Path) -> None:
    """Write what ships beside the weights of a network, see `train`."""
    if network.name == "classifier":
        zoo.statistics(digits(network.inputs["image"][1])[0], network).save(out / "digits.npz")
        return
    values = reference(network)
    if network.name != "unet":  # the file of "unet" is full float32, and the only one of that precision
        values |= {layer.name: values[layer.name].astype(np.float16) for layer in network.layers}
    with files.complete(out / zoo.reference_file(network.name)) as path, open(path, "wb") as file:
        np.savez_compressed(file, **values)
    if network.name == "unet":
        zoo.record_set(network).save(out / "recorded.npz")
