"""Weights in safetensors files, as numpy holds them."""

from pathlib import Path

import numpy as np
import safetensors

_FLOATS = ("F16", "F32", "F64")


def read_tensors(path: Path | str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata of a safetensors file, and its tensors by name: float16, float32 or float64.

    Raises
    ------
    ValueError
        If it is no such file, or a tensor is of another type: numpy has no bfloat16 and no FP8, and integers need
        scales that nobody tells.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"Weights must be in {str(path)!r}, which {what}")
    try:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():
                kind = file.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    raise ValueError(
                        f"Parameter {name!r} must be stored as {' or '.join(_FLOATS)}, not {kind}, in {str(path)!r}"
                    )
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"Weights must be a safetensors file, not {str(path)!r}: {error}") from error
