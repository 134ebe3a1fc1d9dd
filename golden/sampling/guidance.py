"""Classifier-free guidance: towards a label and away from none (Ho and Salimans, 2022, arXiv 2207.12598).

A network that can be guided was trained with a *null label*, which stands for "any": its `config` says ``null_label``
true, and the null label is the one after its classes. The batch is doubled, first without and then with the labels, so
one call does both, and an executor that keeps its state for each item of the batch needs to know nothing of it.
"""

import numpy as np

from golden.networks.graph import Network


def null_label(network: Network) -> int:
    """Label that stands for none.

    Raises
    ------
    ValueError
        If the network was not trained with one.
    """
    if not network.config.get("null_label"):
        raise ValueError(f"Network must have a null label to be guided, not {network.name!r}")
    return network.config["classes"]


def doubled(network: Network, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one call that predicts without and with the labels: ``(2 batch, ...)`` each."""
    return np.concatenate([image, image]), np.concatenate([np.full_like(labels, null_label(network)), labels])


def guided(predicted: np.ndarray, scale: float) -> np.ndarray:
    """Prediction ``u + scale (c - u)`` from the halves u and c of what the doubled batch gave.

    A scale of 1 is the network with its labels, 0 without them; larger ones exaggerate the label.
    """
    without, labelled = np.split(predicted, 2)
    return without + np.float32(scale) * (labelled - without)
