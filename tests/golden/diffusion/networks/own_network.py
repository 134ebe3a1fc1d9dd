"""The page ``docs/own-network.md``: its blocks of code, and how its weights were made.

``python -m tests.golden.diffusion.networks.own_network`` (the extra ``train``) trains the page's torch model on the
digits of scikit-learn, 8 x 8 pixels as they come, for three minutes of one core. It writes what the example
``pytorch_model`` ships: the weights in FP16, and torch's output for a batch.
"""

import copy
import math
import re
from pathlib import Path

import numpy as np

from golden.diffusion.sampling import Schedule

PAGE = Path(__file__).resolve().parents[4] / "docs/own-network.md"
EXAMPLE = Path(__file__).resolve().parents[4] / "examples/pytorch_model"
WEIGHTS, EXPECTED = EXAMPLE / "digits8.safetensors", EXAMPLE / "digits8.npz"
ITERATIONS = 1800


def blocks(language: str) -> list[str]:
    """Blocks of code of the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def model():
    """The torch model of the page."""
    found = {}
    exec(blocks("python")[0], found)
    return found["Digits"]()


def train():
    """Moving average of the weights, as a model."""
    import torch
    import torch.nn.functional as F
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 8 - 1, dtype=torch.float32)
    labels = torch.tensor(data.target)
    signal = torch.tensor(Schedule().signal, dtype=torch.float32)
    found = model()
    average = copy.deepcopy(found).requires_grad_(False)
    optimizer = torch.optim.AdamW(found.parameters(), lr=2e-3, weight_decay=1e-4)
    for iteration in range(ITERATIONS):
        done = iteration / ITERATIONS
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(20 * (done + 1 / ITERATIONS), 0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        chosen = torch.randint(len(images), (64,))
        level = ((torch.arange(64) + torch.rand(64)) / 64 * 1000).long().clamp(max=999)
        noise, share = torch.randn(64, 1, 8, 8), signal[level][:, None, None, None]
        noisy = share.sqrt() * images[chosen] + (1 - share).sqrt() * noise
        loss = F.mse_loss(found(noisy, level, labels[chosen]), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(found.parameters(), 1.0)
        optimizer.step()
        keep = min(0.998, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), found.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
    return average


def inputs() -> list[np.ndarray]:
    """A batch: images, timesteps, labels."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((4, 1, 8, 8)).astype(np.float32), np.array([0, 12, 500, 999]), np.array([3, 0, 9, 5])]


def output() -> np.ndarray:
    """What the page's model computes with the recorded weights."""
    import safetensors.torch
    import torch

    found = model()
    found.load_state_dict({name: value.float() for name, value in safetensors.torch.load_file(WEIGHTS).items()})
    with torch.no_grad():
        return found(*map(torch.from_numpy, inputs())).numpy()


if __name__ == "__main__":
    import safetensors.torch

    safetensors.torch.save_file({name: value.half() for name, value in train().state_dict().items()}, WEIGHTS)
    np.savez_compressed(EXPECTED, output=output())
