"""What a network is given beside the sample and the timestep: labels, text states, the rate of frames.

Words: the *sample* is a network's first input, which starts as noise (an image, a latent, a video); its *conditioning*
is every input after the timestep, one array for each, the same in all steps. *Null* conditioning stands for "any" in
classifier-free guidance: the label after the classes where the table of labels has a row for it, and for text what the
caller says, most often the states of the empty text.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Union

import numpy as np

from golden.common import names
from golden.diffusion.layers import Embedding
from golden.diffusion.networks.graph import Network

NULL = "null."
"""Prefix of the names of null conditioning in a mapping."""

Given = Union[int, Sequence[int], np.ndarray, Mapping[str, np.ndarray], "Conditioning"]
"""Conditioning as callers give it, see `condition`."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Checked conditioning of a number of images or videos; equal if all its arrays are.

    Members
    -------
    count : int
        How many images.
    values : mapping of str to array (count, ...)
        By the name of the input, in the order of the network's inputs.
    null : mapping of str to array (count, ...)
        What stands for none, of those inputs for which something does.
    """

    count: int
    values: Mapping[str, np.ndarray]
    null: Mapping[str, np.ndarray]

    def __getitem__(self, part: slice | np.ndarray) -> "Conditioning":
        """Conditioning of some of the images, by a slice or by their numbers."""
        tables = [{name: value[part] for name, value in table.items()} for table in (self.values, self.null)]
        return Conditioning(len(np.arange(self.count)[part]), *tables)

    @cached_property
    def _key(self) -> tuple:
        return self.count, *(
            (word, name, value.shape, str(value.dtype), hashlib.sha256(np.ascontiguousarray(value)).digest())
            for word, table in (("", self.values), (NULL, self.null))
            for name, value in table.items()
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conditioning) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def doubled(self, network: Network) -> "Conditioning":
        """Conditioning of a batch of twice as many: first without, then with it.

        What has no null form (a rate of frames, a label without a null label beside a text) is the same in both halves.

        Raises
        ------
        ValueError
            If nothing stands for no text, or no input at all has a null form.
        """
        for name in self.values:
            if network.inputs[name] and name not in self.null:
                shape = _shape(network.inputs[name])
                raise ValueError(
                    f"Conditioning must contain '{NULL}{name}' for guidance, {shape} or 0, not only {name!r}"
                )
        if not self.null:
            raise ValueError(f"Network must have a null label to be guided, not {network.name!r}")
        pairs = {name: (self.null.get(name, value), value) for name, value in self.values.items()}
        return Conditioning(2 * self.count, {name: np.concatenate(pair) for name, pair in pairs.items()}, {})


def needed(network: Network) -> tuple[str, ...]:
    """Names of the conditioning that a network takes.

    Raises
    ------
    ValueError
        If the second input of the network is not ``timestep``.
    """
    inputs = tuple(network.inputs)
    if inputs[1:2] != ("timestep",):
        raise ValueError(f"Inputs must begin with a sample and 'timestep', not be {', '.join(map(repr, inputs))}")
    return inputs[2:]


def check_names(network: Network, given: Iterable[str]) -> None:
    """Refuse names that are not of the network's conditioning, or of what stands for none of it.

    Raises
    ------
    ValueError
        If there is one; the sentence suggests the closest.
    """
    wanted = needed(network)
    for name in given:
        names.lookup("Conditioning", name, dict.fromkeys((*wanted, *(NULL + one for one in wanted))))


def label_rows(network: Network) -> int:
    """Rows of the table of labels: the classes, and one more if there is a null label.

    Raises
    ------
    ValueError
        If the network looks its labels up in no table.
    """
    for layer in network.consumers("label"):
        if isinstance(layer, Embedding):
            return len(layer.weight)
    raise ValueError(
        f"Input 'label' of network {network.name!r} must be read by an Embedding, which has a row for each"
    )


def classes(network: Network) -> int:
    """Number of labels, without the null label: ``classes`` of the network's configuration, or every row."""
    return network.config.get("classes", label_rows(network))


def null_label(network: Network) -> int:
    """Label that stands for none: the one after the classes.

    Raises
    ------
    ValueError
        If the network was not trained with one.
    """
    if "label" not in network.inputs or label_rows(network) <= classes(network):
        raise ValueError(f"Network must have a null label to be guided, not {network.name!r}")
    return classes(network)


def condition(network: Network, given: Given) -> Conditioning:
    """Check what is given, and find what stands for none.

    Parameters
    ----------
    network : Network
        Takes a sample, a timestep and, by name, its conditioning.
    given : int, sequence of int, mapping or Conditioning
        Labels, one for each image, of a network that takes nothing else; a mapping of arrays ``(images, ...)`` by the
        name of the input, and under ``null.<name>`` what stands for none: for each image, one for all of them, or 0 for
        zeros; or the number of images of a network that takes nothing.

    Raises
    ------
    ValueError
        Naming what is missing, unknown or misshapen, or a label that is not one of the classes (or the null label).
    """
    wanted = needed(network)
    if isinstance(given, Conditioning):
        given = (
            given.count if not given.values else given.values | {NULL + name: one for name, one in given.null.items()}
        )
    if isinstance(given, int | np.integer):
        if wanted:
            raise ValueError(
                f"Conditioning of {network.name!r} must contain {_described(network, wanted)}, not nothing"
            )
        if given < 0:
            raise ValueError(f"Number of images must be at least 0, not {given}")
        return Conditioning(int(given), {}, {})
    if not isinstance(given, Mapping):
        if wanted != ("label",):
            raise ValueError(
                f"Conditioning of {network.name!r} must be {_described(network, wanted) or 'a number of images'}, "
                f"not labels"
            )
        given = {"label": given}
    check_names(network, given)
    missing = tuple(name for name in wanted if name not in given)
    if missing:
        found = ", ".join(given) or "nothing"
        raise ValueError(
            f"Conditioning of {network.name!r} must contain {_described(network, missing)}, not only {found}"
        )
    values = {name: _checked(network, name, given[name]) for name in wanted}
    counts = {name: len(value) for name, value in values.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"Conditioning must be of as many images in every array, not {told}")
    count = next(iter(counts.values()))
    null = {name: _null(network, name, given[NULL + name], count) for name in wanted if NULL + name in given}
    if "label" in wanted and "label" not in null and label_rows(network) > classes(network):
        null["label"] = np.full(count, null_label(network))
    return Conditioning(count, values, null)


def _shape(shape: tuple[int, ...], *first: str) -> str:
    return f"({', '.join([*first, *map(str, shape)])}{',' if len(first) + len(shape) == 1 else ''})"


def _described(network: Network, wanted: Sequence[str]) -> str:
    return " and ".join(f"{name} of shape {_shape(network.inputs[name], 'images')}" for name in wanted)


def _numbers(network: Network, name: str, value: np.ndarray) -> np.ndarray:
    """Values as the network takes them: integers for labels, otherwise float32."""
    if name.removeprefix(NULL) == "label":
        last = label_rows(network) - 1
        if value.size and not (value.dtype.kind in "iu" and 0 <= value.min() and value.max() <= last):
            wrong = next((one for one in value.ravel().tolist() if one not in range(last + 1)), value.dtype)
            raise ValueError(f"Labels must be integers from 0 to {last}, not {wrong}")
        return value if value.size else value.astype(np.int64)  # numpy takes an empty list for floats
    if value.dtype.kind not in "fiu":
        raise ValueError(f"Conditioning {name!r} must be numbers, not {value.dtype}")
    if not np.isfinite(value).all():
        raise ValueError(f"Conditioning {name!r} must be finite, not {value[~np.isfinite(value)][0]}")
    return value.astype(np.float32)


def _checked(network: Network, name: str, value: np.ndarray) -> np.ndarray:
    value, shape = np.asarray(value), network.inputs[name]
    if value.ndim != 1 + len(shape) or value.shape[1:] != shape:
        raise ValueError(f"Conditioning {name!r} must have the shape {_shape(shape, 'images')}, not {value.shape}")
    return _numbers(network, name, value)


def _null(network: Network, name: str, value: np.ndarray, count: int) -> np.ndarray:
    value, shape, name = np.asarray(value), network.inputs[name], NULL + name
    value = _numbers(network, name, value)
    zeros = shape and value.shape == () and not value
    if not zeros and value.shape not in (shape, (1, *shape), (count, *shape)):
        raise ValueError(f"Conditioning {name!r} must have the shape {_shape(shape)}, or be 0, not {value.shape}")
    return np.broadcast_to(value, (count, *shape))
