"""Recordings: what one layer of a network reads and computes in consecutive steps of a sampling."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.common import files, names
from golden.diffusion.layers import AddChannel, Convolution, Norm, Role
from golden.diffusion.networks import Network, Recorder
from golden.diffusion.sampling import Denoiser, Sampling, Step

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Recording:
    """Values of one layer in consecutive steps, and what follows it.

    Images are NCHW, tokens (batch, tokens, channels); S is the number of recorded steps, B of images. The arithmetic
    was float32. Values are stored as float32, or as FP16 (rounded to nearest, ties to even) in the shipped recording,
    whose outputs are then computed again from the rounded inputs.

    Members
    -------
    network, layer, kind : str
        Names, see ``python -m golden layers``.
    total : int
        Steps of the whole sampling.
    steps, timesteps : int64 (S,)
        Execution index (0 is the first call of the network) and noise level of each recorded step; levels of a
        rectified flow are float64.
    labels : int64 (B,) or None
        Class of each image, if the network takes labels; of a guided sampling those of the doubled batch.
    seed : int
        Seed of the starting noise.
    inputs : tuple of arrays (S, B, ...)
        What the layer reads, one array for each operand (two for matmul, add, concat).
    before : tuple of arrays (B, ...)
        The operands in the step before the first recorded one; zeros if that is step 0.
    output : array (S, B, ...)
        What the layer computes, its own bias included.
    weight, bias : arrays or None
        Its parameters; convolution weights are (out, in, kernel, kernel), linear ones (out, in).
    stride : int
        Of a convolution, otherwise 1.
    plain : bool
        Whether a convolution is padded by half of an odd kernel at each side, without dilation or groups.
    followed_by : tuple of str
        Kinds of the layers after it, as long as each is the only reader, up to the first that needs a second value
        other than a time shift: ("add_channel", "norm", "relu", "convolution") within a residual block.
    followed_by_names : tuple of str
        Their names.
    shift : array (S, B, out) or None
        The time embedding's shift of each channel, if "add_channel" follows: ``b(t)`` is ``bias + shift[t]``.
    norm_weight, norm_bias : arrays (out,) or None
        Scale and shift of the norm of groups that follows.
    norm_groups : int
        Its groups, 0 if none follows.
    norm_epsilon : float
        Added to its variance.
    """

    network: str
    layer: str
    kind: str
    total: int
    steps: np.ndarray
    timesteps: np.ndarray
    labels: np.ndarray | None
    seed: int
    inputs: tuple[np.ndarray, ...]
    before: tuple[np.ndarray, ...]
    output: np.ndarray
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: int = 1
    plain: bool = True
    followed_by: tuple[str, ...] = ()
    followed_by_names: tuple[str, ...] = ()
    shift: np.ndarray | None = None
    norm_weight: np.ndarray | None = None
    norm_bias: np.ndarray | None = None
    norm_groups: int = 0
    norm_epsilon: float = 0.0

    @property
    def relu(self) -> bool:
        """True if a ReLU is the first activation that follows."""
        return "relu" in self.followed_by

    def deltas(self, operand: int = 0) -> np.ndarray:
        """Input of each step less that of the step before, FP16 as the quantiser takes it.

        Returns
        -------
        float16 (S, B, ...)
            Difference taken in float32, clamped to +-65504, rounded once (RNE). Row 0 is against `before`, so it is the
            raw value if step 0 was recorded.
        """
        now = self.inputs[operand].astype(np.float32)
        then = np.concatenate([self.before[operand][None].astype(np.float32), now[:-1]])
        return np.clip(now - then, -65504, 65504).astype(np.float16)

    def groups(self, n: int, operand: int = 0) -> np.ndarray:
        """Deltas as groups of `n` lanes along the input channels of each position.

        Returns
        -------
        float16 (S, positions, ceil(channels / n), n)
            Positions run over images, then rows, then columns (or tokens); the last group is padded with zeros.

        Raises
        ------
        ValueError
            If `n` is not a positive integer.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"Lanes n must be a positive integer, not {n!r}")
        deltas = self.deltas(operand)
        if deltas.ndim == 5:
            deltas = deltas.transpose(0, 1, 3, 4, 2)
        deltas = deltas.reshape(len(deltas), -1, deltas.shape[-1])
        padding = -deltas.shape[2] % n
        return np.pad(deltas, ((0, 0), (0, 0), (0, padding))).reshape(*deltas.shape[:2], -1, n)

    def save(self, path: Path) -> None:
        """Write a compressed ``.npz``; the file appears only when it is complete.

        Its arrays are the members above by name, with the operands as ``inputs``, ``inputs_1`` (``before``,
        ``before_1``; and for convenience ``deltas``, ``deltas_1`` in float16), and what is None left out.
        """
        arrays: dict[str, np.ndarray] = {"format": np.array(_FORMAT)}
        for name, value in vars(self).items():
            if name in ("inputs", "before"):
                arrays |= {_operand(name, index): part for index, part in enumerate(value)}
            elif value is not None:
                arrays[name] = np.asarray(value, np.str_ if name.startswith("followed_by") else None)
        arrays |= {_operand("deltas", index): self.deltas(index) for index in range(len(self.inputs))}
        with files.complete(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not a recording of this format.
        OSError
            If it cannot be read.
        """
        try:
            with open(path, "rb") as stream, np.load(stream) as file:
                arrays = dict(file)
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"Recording must be an .npz of `golden capture`, not {str(path)!r}") from error
        found = arrays.pop("format", None)
        if found is None or found.shape != () or found != _FORMAT:
            raise ValueError(f"Recording {path} must have format {_FORMAT}, not {found}")
        values: dict[str, object] = {"labels": None}
        for name in ("inputs", "before"):
            keys = [_operand(name, index) for index in range(len(arrays)) if _operand(name, index) in arrays]
            values[name] = tuple(arrays.pop(key) for key in keys)
        for name, value in arrays.items():
            if name.startswith("followed_by"):
                values[name] = tuple(value.tolist())
            elif not name.startswith("deltas"):
                values[name] = value if value.ndim else value.item()
        return cls(**values)


def _operand(name: str, index: int) -> str:
    return name if index == 0 else f"{name}_{index}"


def capture(
    sampling: Sampling,
    layer: str,
    *,
    first: int = 0,
    last: int | None = None,
    half: bool = False,
    track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> Recording:
    """Sample images and record one layer.

    Parameters
    ----------
    sampling : Sampling
        What is drawn; nothing more of it than the last recorded step.
    layer : str
        Name of the layer.
    first, last : int
        Recorded steps in order of execution, half-open; `last` defaults to all that there are.
    half : bool
        Round inputs and weights to FP16, and compute the outputs from the rounded ones, stored as FP16 too.
    track : callable
        Wraps the iteration over the steps, to show progress.

    Raises
    ------
    ValueError
        If the layer is unknown or the range of steps is empty or not within the sampling.
    """
    network, steps = sampling.network, sampling.steps
    node = names.lookup("Layer", layer, network.by_name)
    last = steps if last is None else last
    if not 0 <= first < last <= steps:
        raise ValueError(f"Steps must be a half-open range within 0:{steps}, not {first}:{last}")
    chain = _chain(network, layer)
    shift = next((link for link in chain if isinstance(link, AddChannel)), None)
    recorder = Recorder([layer] if shift is None else [layer, shift.name])
    inputs, outputs, shifts, timesteps = [], [], [], []
    for step in track(sampling.walk(recorder)):
        if step.index >= first - 1:
            record = recorder.records[layer]
            inputs.append(record.inputs)
            outputs.append(record.output)
            timesteps.append(step.timestep)
            if shift is not None:
                shifts.append(recorder.records[shift.name].inputs[1])
        if step.index == last - 1:
            break
    if first == 0:
        inputs.insert(0, tuple(np.zeros_like(part) for part in inputs[0]))
    else:
        outputs, shifts, timesteps = outputs[1:], shifts[1:], timesteps[1:]
    stacked = [np.stack(part) for part in zip(*inputs, strict=True)]
    output = np.stack(outputs)
    parameters = node.parameters()
    if half:
        stacked = [part.astype(np.float16) if part.dtype.kind == "f" else part for part in stacked]
        rounded = [part.astype(np.float32) if part.dtype.kind == "f" else part for part in stacked]
        output = np.stack([node(*(part[1 + index] for part in rounded)) for index in range(last - first)])
        output = output.astype(np.float16)
        if "weight" in parameters:  # exact: the weights of the zoo are stored as FP16
            parameters["weight"] = parameters["weight"].astype(np.float16)
    norm = next((link for link in chain if isinstance(link, Norm) and link.groups), None)
    return Recording(
        network=network.name,
        layer=layer,
        kind=node.kind,
        total=steps,
        steps=np.arange(first, last),
        timesteps=np.array(timesteps),
        labels=Denoiser(sampling).inputs.get("label"),
        seed=sampling.seed,
        inputs=tuple(part[1:] for part in stacked),
        before=tuple(part[0] for part in stacked),
        output=output,
        weight=parameters.get("weight"),
        bias=parameters.get("bias"),
        stride=getattr(node, "stride", 1),
        plain=not isinstance(node, Convolution) or node.plain,
        followed_by=tuple(link.kind for link in chain),
        followed_by_names=tuple(link.name for link in chain),
        shift=np.stack(shifts) if shift is not None else None,
        norm_weight=None if norm is None else norm.weight,
        norm_bias=None if norm is None else norm.bias,
        norm_groups=0 if norm is None else norm.groups,
        norm_epsilon=0.0 if norm is None else norm.epsilon,
    )


def _chain(network: Network, layer: str) -> list:
    """Layers after `layer` while each is the only reader of the one before, up to the next one with weights."""
    chain = []
    while len(consumers := network.consumers(layer)) == 1:
        (follower,) = consumers
        if len(follower.inputs) > 1 and (not isinstance(follower, AddChannel) or follower.inputs[0] != layer):
            break
        chain.append(follower)
        layer = follower.name
        if follower.role is Role.PRODUCT:
            break
    return chain
