"""Train the networks of the zoo on scikit-learn's digits: ``python -m golden.zoo.train`` (extra ``train``).

The data are the 1,797 real handwritten digits of scikit-learn (8 x 8 pixels, 17 grey levels), enlarged once to 16 x 16
by bicubic interpolation and scaled to -1..1. The U-Net learns to predict the noise (Ho et al., 2020) at 1000 levels
of the cosine schedule; what is kept is the exponential moving average of its weights. The classifier sees real images
only, and not the held-out fifth of them on which its accuracy is measured.

torch runs the same graph as numpy (`golden.networks`), one torch function for each kind of layer, so names and wiring
cannot differ; the arithmetic does, and ``reference.npz`` records what torch computes for every layer.
"""

import copy
import math
import time
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

try:
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits
except ImportError as error:
    _MISSING = f"Training needs the extra 'train' (pip install 'driftless[train]'), which lacks: {error}"
    if __name__ == "__main__":
        click.echo(f"Error: {_MISSING}", err=True)
        raise SystemExit(2) from None
    raise ImportError(_MISSING) from error

from golden import console, zoo
from golden.networks import ClassifierConfig, Network, UNetConfig, classifier, initial, unet
from golden.networks.layers import Layer
from golden.sampling import Schedule


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
            pad = layer.weight.shape[2] // 2
            return F.conv2d(x, parameters["weight"], parameters["bias"], stride=layer.stride, padding=pad)
        case "linear":
            return F.linear(x, parameters["weight"], parameters["bias"])
        case "group_norm":
            return F.group_norm(x, layer.groups, parameters["weight"], parameters["bias"], layer.epsilon)
        case "relu":
            return F.relu(x)
        case "softmax":
            return F.softmax(x, dim=-1)
        case "matmul":
            other = values[1].transpose(1, 2) if layer.transposed else values[1]
            return torch.bmm(x, other) * layer.scale
        case "add":
            return x + values[1]
        case "add_channel":
            return x + values[1][:, :, None, None]
        case "concat":
            return torch.cat(values, dim=1)
        case "upsample":
            return F.interpolate(x, scale_factor=layer.factor, mode="nearest")
        case "mean":
            return x.mean(dim=(2, 3))
        case "tokens":
            return x.flatten(2).transpose(1, 2)
        case "image":
            side = math.isqrt(x.shape[1])
            return x.transpose(1, 2).unflatten(2, (side, side))
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


def train_unet(config: UNetConfig, seed: int, iterations: int, batch: int = 64) -> TorchNetwork:
    """Train the U-Net; returns the moving average of its weights."""
    torch.manual_seed(seed)
    images, labels = (torch.tensor(value) for value in digits(config.side))
    signal = torch.tensor(Schedule().signal, dtype=torch.float32)
    model = TorchNetwork(unet(config, initial(seed)))
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    warm = max(1, iterations // 20)
    recent, began = 0.0, time.monotonic()
    for iteration in console.progress(range(iterations), "Training the U-Net"):
        for group in optimizer.param_groups:
            done = iteration / iterations
            group["lr"] = 2e-3 * min((iteration + 1) / warm, 0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        chosen = torch.randint(len(images), (batch,))
        # one noise level in each of `batch` equal intervals: less variance than independent draws
        level = ((torch.arange(batch) + torch.rand(batch)) / batch * len(signal)).long().clamp(max=len(signal) - 1)
        added = torch.randn(batch, *images.shape[1:])
        share = signal[level][:, None, None, None]
        noisy = share.sqrt() * images[chosen] + (1 - share).sqrt() * added
        loss = F.mse_loss(model(noisy, level, labels[chosen]), added)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            # the average forgets the random start first, then keeps about the last 500 iterations
            keep = min(0.998, (1 + iteration) / (10 + iteration))
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        recent = loss.item() if iteration == 0 else 0.99 * recent + 0.01 * loss.item()
        if (iteration + 1) % 200 == 0:
            spent = time.monotonic() - began
            click.echo(f"U-Net: iteration {iteration + 1}, loss {recent:.4f}, {spent:.0f} s", err=True)
    return average


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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=0, show_default=True, help="Seed of start, order and noise.")
@click.option("--iterations", default=2600, show_default=True, type=click.IntRange(1), help="U-Net training steps.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Cores used by torch.")
@click.option(
    "--out",
    default="build/zoo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for weights, reference and recorded set; golden/zoo/data is what ships.",
)
def train(seed: int, iterations: int, threads: int, out: Path) -> None:
    """Train U-Net and classifier, and write weights, torch's reference outputs and the recorded set."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    model, accuracy = train_classifier(ClassifierConfig(), seed)
    zoo.store(out / "classifier.safetensors", model.network, model.parameters_float16())
    click.echo(f"Classifier: {accuracy:.1%} of the held-out real digits, {time.monotonic() - began:.0f} s", err=True)
    began = time.monotonic()
    model = train_unet(UNetConfig(), seed, iterations)
    zoo.store(out / "unet.safetensors", model.network, model.parameters_float16())
    click.echo(f"U-Net: trained in {time.monotonic() - began:.0f} s", err=True)
    network = zoo.load("unet", out)
    np.savez_compressed(out / "reference.npz", **reference(network))
    zoo.record_set(network).save(out / "recorded.npz")


if __name__ == "__main__":
    train(prog_name="python -m golden.zoo.train")
