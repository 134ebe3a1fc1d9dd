"""Networks as command lines name them: of the zoo, folders of checkpoints, or functions; and how each is sampled."""

import dataclasses
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from golden.cli import options
from golden.cli.own import own
from golden.common import names
from golden.diffusion import zoo
from golden.diffusion.networks.graph import Network
from golden.diffusion.sampling import Conditioning, Process, Sampler, Sampling, condition
from golden.diffusion.sampling.conditioning import NULL, check_names, classes, needed
from golden.diffusion.zoo import importer, scheduler

PARTS = ("unet", "transformer")
"""Folders in which pipelines of diffusers keep the network that is sampled."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A network and what a sampling of it takes.

    Members
    -------
    network : Network
        Under the name that was asked for.
    sampler : Process
        How it is sampled.
    note : str
        Where the noise levels are from; empty for the zoo.
    given : mapping of str to array
        What the file of conditioning holds.
    """

    network: Network
    sampler: Process
    note: str = ""
    given: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def digits(self) -> bool:
        """Whether the classifier of the zoo knows what is drawn."""
        return self.network.name in zoo.DRAWS

    @property
    def title(self) -> str:
        """Name of the sampler."""
        return "DDPM" if self.sampler.eta else "DDIM"

    def conditioning(self, count: int, labels: str | None = None, guidance: float | None = None) -> Conditioning:
        """Conditioning of `count` images: what the file holds, or labels, repeated as needed.

        Raises
        ------
        ValueError
            If something is missing, also for guidance, or does not fit.
        """
        network, wanted = self.network, needed(self.network)
        check_names(network, self.given)
        given = {name: self._repeated(name, value, count) for name, value in self.given.items()}
        if "label" in wanted and "label" not in given:
            given["label"] = options.classes(labels, count, classes(network))
        elif labels is not None:
            raise ValueError(
                f"Labels must be left out where {network.name!r} takes none or a file has them, not {labels!r}"
            )
        missing = [name for name in wanted if name not in given]
        if missing:
            told = " and ".join(f"{name} {(1, *network.inputs[name])}" for name in missing)
            raise ValueError(
                f"Network {network.name!r} must be given {told}, or more items, by --conditioning FILE.npz, "
                f"which numpy.savez(FILE, {', '.join(f'{name}=...' for name in missing)}) writes"
            )
        found = condition(network, given or count)
        if guidance is not None:
            found.doubled(network)
        return found

    def sampling(
        self,
        count: int,
        steps: int,
        labels: str | None = None,
        *,
        guidance: float | None = None,
        seed: int = 0,
        cache: options.Caching | None = None,
    ) -> Sampling:
        """Sampling of `count` images; conditioning as of `conditioning`.

        Raises
        ------
        TypeError, ValueError
            If something is missing or does not fit.
        """
        given = self.conditioning(count, labels, guidance)
        kept = None if cache is None else cache.of(steps)
        return Sampling(self.network, given, steps, process=self.sampler, guidance=guidance, seed=seed, cache=kept)

    def _repeated(self, name: str, value: np.ndarray, count: int) -> np.ndarray:
        """Items in order, as often as needed; a single one may come without its axis, and stays alone if it is null."""
        shape, null = self.network.inputs[name.removeprefix(NULL)], name.startswith(NULL)
        if value.ndim == len(shape) and not null:
            value = value[None]
        if value.ndim != 1 + len(shape) or (null and len(value) == 1):
            return value
        if not len(value):
            raise ValueError(f"Conditioning {name!r} must be of at least one image, not of none")
        return value[np.arange(count) % len(value)]


def folder(text: str) -> Path | None:
    """Folder of the model that a name stands for, or None if it is a name.

    Raises
    ------
    ValueError
        If it is a path, but not of a folder with a model.
    """
    path = Path(text)
    if text in zoo.NETWORKS or not (path.is_dir() or "/" in text):
        return None
    for found in (path, *(path / part for part in PARTS)):
        if (found / "config.json").is_file():
            return found
    raise ValueError(f"Network must be of the zoo or a folder with a config.json, not {text!r}")


def outline(text: str, others: Iterable[str] = ()) -> Network:
    """Network for its shapes: of the zoo, or a checkpoint's without its weights.

    Parameters
    ----------
    text : str
        Name, folder or function.
    others : iterable of str
        Names that could have been meant instead, for the sentence that refuses an unknown one.

    Raises
    ------
    ValueError
        If there is none of this name, or it is not supported.
    """
    made = own(text)
    if made is not None:
        return _named(made[0], text)
    found = folder(text)
    if found is None:
        names.lookup("Network", text, dict.fromkeys((*zoo.NETWORKS, *others)))
    return zoo.load(text) if found is None else _named(importer.outline(importer.configuration(found)), text)


def subject(text: str, conditioning: Path | None = None, sampler: str | None = None) -> Subject:
    """Network and sampler.

    Parameters
    ----------
    text : str
        Name of the zoo, or a folder: of a model, or of a pipeline that has one in ``unet`` or ``transformer``; or a
        function that builds a network, see `golden.cli.own.own`.
    conditioning : Path, optional
        ``.npz`` of arrays by the name of the input, and under ``null.<name>`` of what stands for none; the number of
        text tokens is that of its text.
    sampler : str, optional
        ``"ddim"`` or ``"ddpm"``, if it is not to be what the folder's scheduler is (DDIM if there is none). DDPM takes
        a variance that the network predicts.

    Raises
    ------
    ValueError
        If there is no such network, or a file is not what it should be.
    OSError
        If a file cannot be read.
    """
    made, note = own(text), ""
    found = folder(text) if made is None else None
    given = {} if conditioning is None else _arrays(conditioning)
    if made is not None:
        network, process = _named(made[0], text), made[1] or Sampler()
    elif found is None:
        network, process = zoo.load(text), Sampler()
    else:
        tokens = given["text"].shape[-2] if "text" in given and given["text"].ndim > 1 else None
        network = importer.load(found, tokens=tokens)
        path = scheduler.find(found)
        process = scheduler.DEFAULTS[network.name] if path is None else scheduler.read(path)
        note = f"noise levels of {path or 'published networks of its class'}"
        network = _named(network, text)
    if sampler == "ddim":
        process = dataclasses.replace(process, eta=0.0, variance="small")
    elif sampler == "ddpm" and not process.eta:
        channels = next(iter(network.inputs.values()))[0]
        learned = network.shapes()[network.layers[-1].name][1] > channels
        process = dataclasses.replace(process, eta=1.0, variance="learned" if learned else "small")
    return Subject(network, process, note, given)


def _named(network: Network, name: str) -> Network:
    return Network(name.rstrip("/"), network.inputs, network.layers, network.config)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return dict(file)
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Conditioning must be an .npz of numpy.savez, not {str(path)!r}") from error
