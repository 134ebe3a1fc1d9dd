"""A small PyTorch model, brought over and tuned: ``python examples/pytorch_model/run.py``.

`model.py` is the model in torch, `digits8.py` the same in Driftless, and `digits8.safetensors` the weights that torch
wrote. Torch's output for a batch is recorded in `digits8.npz`; where torch is installed it is computed, too.
"""

import argparse
import contextlib
import json
from pathlib import Path

import numpy as np

from golden.diffusion import Method, Sampling, compare, run
from golden.diffusion.cost import areas
from golden.diffusion.cost.traffic import price
from golden.diffusion.differential.tune import tune

HERE = Path(__file__).resolve().parent


def batch():
    """Images, timesteps and labels of the recorded batch."""
    draw = np.random.default_rng(0)
    return [draw.standard_normal((4, 1, 8, 8)).astype(np.float32), np.array([0, 12, 500, 999]), np.array([3, 0, 9, 5])]


def torchs(recorded):
    """Torch's output for that batch, float32 (4, 1, 8, 8), and where it is from."""
    try:
        import safetensors.torch
        import torch
        from model import Digits
    except ImportError:
        return recorded, "recorded"
    model = Digits()
    model.load_state_dict(
        {name: value.float() for name, value in safetensors.torch.load_file("digits8.safetensors").items()}
    )
    with torch.no_grad():
        return model(*map(torch.from_numpy, batch())).numpy(), "computed"


def main():
    """Run the example; code 1 if the network is not torch's, or the target is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--target", type=float, default=40.0, help="dB against the dense sampling")
    parser.add_argument("--out", type=Path, default=Path("build/examples/digits8.json"))
    given = parser.parse_args()
    out = given.out.absolute()
    with contextlib.chdir(HERE):
        from digits8 import network

        ours = network()
        with np.load("digits8.npz") as file:
            expected, source = torchs(file["output"])
    error = np.abs(ours(*batch()) - expected).max() / np.abs(expected).max()
    if error > 1e-4:
        parser.exit(1, f"The network is {error:.1e} from torch's output\n")
    print(f"the same network: {error:.0e} from torch's output ({source})")

    sampling = Sampling(ours, list(range(8)), steps=given.steps, seed=given.seed)
    tuned = tune(sampling, given.target)
    if not tuned.reached:
        parser.exit(1, f"{tuned.checking:.1f} dB is the best that was found, {given.target:g} was asked for\n")
    methods = {"closed-int3": Method.named("closed-int3"), "tuned": tuned.method}
    for name, row in zip(methods, compare(sampling, methods), strict=True):
        notes = run(sampling.of(sampling.given[:1]), methods[name], measured=True).measure
        link = price(ours, methods[name], notes, areas.read(None))["link_bits"]
        work = notes.total(notes.inputs).array
        print(f"{name}: {row['psnr_mean']:.1f} dB, {link:.1f} bits on the link, {work:.2f} of the clocks of one pass")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(tuned.method.to_dict(), indent=2) + "\n", encoding="utf-8")
    print(f"{given.out}: for --method of every command")


if __name__ == "__main__":
    main()
