"""What was measured of a network once, in the user's cache folder: gains, and what passes are worth.

An entry belongs to the network's layers and parameters, to the process and the guidance of its samplings, and to
whatever else the figures depend on; nothing else finds it. A folder that cannot be written keeps nothing.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from golden.common import files
from golden.diffusion import zoo
from golden.diffusion.sampling import Sampling

SCHEMA = 1
"""Raised when entries of an earlier form, or of another arithmetic, must not be found."""


def folder() -> Path:
    """``$XDG_CACHE_HOME/driftless`` or ``~/.cache/driftless``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftless"


def load(kind: str, sampling: Sampling, *more: Any) -> Any:
    """What `save` kept of this kind for such a sampling, or None."""
    try:
        return json.loads(_path(kind, sampling, more).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def save(kind: str, sampling: Sampling, value: Any, *more: Any) -> bool:
    """Keep a value.

    Parameters
    ----------
    kind : str
        What it is, a word.
    sampling : Sampling
        Like those that it is for.
    value : object
        Ready for JSON.
    more : objects
        Whatever else it depends on; their `repr` counts.

    Returns
    -------
    bool
        Whether it could be written.
    """
    path = _path(kind, sampling, more)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.complete(path) as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return False
    return True


def _path(kind: str, sampling: Sampling, more: tuple[Any, ...]) -> Path:
    network = sampling.network
    structure = [(layer.name, layer.kind, layer.inputs) for layer in network.layers]
    key = (SCHEMA, zoo.digest(network), structure, sampling.process, sampling.guidance, more)
    return folder() / kind / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.json"
