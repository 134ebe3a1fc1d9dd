"""Classifier-free guidance: towards a label or a text and away from none (Ho and Salimans, 2022, arXiv 2207.12598).

The batch is doubled, first with what stands for none and then with the conditioning (`Conditioning.doubled`), so one
call does both, and an executor that keeps its state for each item of the batch needs to know nothing of it.
"""

import numpy as np

from golden.diffusion.networks.graph import Combine


def guided(
    predicted: np.ndarray, scale: float, channels: int | None = None, combine: Combine | None = None
) -> np.ndarray:
    """Prediction ``u + scale (c - u)`` from the halves u and c of what the doubled batch gave.

    A scale of 1 is the network with its conditioning, 0 without it; larger ones exaggerate it. Channels from `channels`
    on, a predicted variance, are those with conditioning (Peebles and Xie, 2023). The default of `combine` is binary32.
    """
    without, conditioned = np.split(predicted, 2)
    if combine is not None:
        terms = {"without": (without[:, :channels], 1 - scale), "prediction": (conditioned[:, :channels], scale)}
        return np.concatenate([combine(terms, "guided"), conditioned[:, channels or conditioned.shape[1] :]], axis=1)
    result = without + np.float32(scale) * (conditioned - without)
    if channels is not None:
        result[:, channels:] = conditioned[:, channels:]
    return result
