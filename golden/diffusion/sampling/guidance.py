"""Classifier-free guidance: towards a label or a text and away from none (Ho and Salimans, 2022, arXiv 2207.12598).

The batch is doubled, first with what stands for none and then with the conditioning (`Conditioning.doubled`), so one
call does both, and an executor that keeps its state for each item of the batch needs to know nothing of it.
"""

import numpy as np

from golden.diffusion.networks.graph import Combine, binary32


def guided(predicted: np.ndarray, scale: float, channels: int | None = None, combine: Combine = binary32) -> np.ndarray:
    """Prediction ``u + scale (c - u)`` from the halves u and c of what the doubled batch gave.

    A scale of 1 is the network with its conditioning, 0 without it; larger ones exaggerate it. Channels from `channels`
    on, a predicted variance, are those with conditioning (Peebles and Xie, 2023).
    """
    without, conditioned = np.split(predicted, 2)
    terms = {"without": (without[:, :channels], 1 - scale), "prediction": (conditioned[:, :channels], scale)}
    summed = combine(terms, "guided")
    return summed if channels is None else np.concatenate([summed, conditioned[:, channels:]], axis=1)
