"""What the demo keeps in ROM: real groups, real weights, and what golden says their sums are."""

import dataclasses

import numpy as np

from golden.diffusion import zoo
from golden.parameters import Parameters
from golden.units.delta_group import DeltaGroups
from golden.units.delta_quantizer import delta_quantizer
from golden.units.multiplier_group import multiplier_group
from golden.units.weights import compile_weights

DEFAULT_GROUPS = 1024
"""Groups of the demo."""

_STEP = 24
"""Step of the recorded sampling whose deltas are used: the middle, where deltas are smallest against their values."""


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """Groups, weights and expected sums.

    The groups are those of one output after the other. The weights of an output channel are stored once and start again
    with each output, so group g meets the weights g modulo K.

    Members
    -------
    parameters : Parameters
        Of the machine.
    groups : DeltaGroups
        G groups.
    weights : array (K, n)
        Patterns or aligned integers.
    scale : int64 (K,)
        Scale of each group of weights.
    sums : tuple of int
        G accumulator values, after each group.
    poisoned : tuple of bool
        G flags.

    Raises
    ------
    ValueError
        If there are no groups or not as many sums as groups.
    """

    parameters: Parameters
    groups: DeltaGroups
    weights: np.ndarray
    scale: np.ndarray
    sums: tuple[int, ...]
    poisoned: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Check the lengths."""
        if not len(self.groups) or not len(self.weights):
            raise ValueError("Groups and weights of the demo must be at least one each, not none")
        if not len(self.sums) == len(self.poisoned) == len(self.groups):
            raise ValueError(f"Sums of the demo must be one per group ({len(self.groups)}), not {len(self.sums)}")

    @property
    def chain(self) -> int:
        """Groups of one output, K."""
        return len(self.weights)

    def corrupted(self, index: int, bit: int = 0) -> "Content":
        """The same with one bit of the stored sum `index` inverted: the demo has to report it.

        Raises
        ------
        ValueError
            If there is no such sum or bit.
        """
        width = self.parameters.accumulator_width
        if not 0 <= index < len(self.sums):
            raise ValueError(f"Index of a stored sum must be in 0..{len(self.sums) - 1}, not {index}")
        if not 0 <= bit < width:
            raise ValueError(f"Bit of a stored sum must be in 0..{width - 1}, not {bit}")
        wrong = (self.sums[index] ^ (1 << bit)) & ((1 << width) - 1)
        wrong -= (wrong >> width - 1) << width
        return dataclasses.replace(self, sums=(*self.sums[:index], wrong, *self.sums[index + 1 :]))


def recorded_content(parameters: Parameters, count: int = DEFAULT_GROUPS, *, channel: int = 0) -> Content:
    """Groups of the shipped recording: a 3 x 3 convolution of the trained U-Net, one step, one output channel.

    Quantised with an exponent for each group (`docs/numerics.md` section 3), whatever the policy of the machine.

    Parameters
    ----------
    parameters : Parameters
        Of the machine.
    count : int
        Groups to take, in the order of the outputs; 1 to 9999, as the demo prints four digits.
    channel : int
        Output channel.

    Raises
    ------
    ValueError
        If `count` is out of range, or the recording has fewer groups.
    """
    if not 1 <= count <= 9999:
        raise ValueError(f"Groups of the demo must be in 1..9999, not {count}")
    recording = zoo.recorded()
    kernel = recording.weight[channel]  # (channels, 3, 3)
    if not 0 <= channel < len(recording.weight):
        raise ValueError(f"Channel must be in 0..{len(recording.weight) - 1}, not {channel}")
    deltas = recording.deltas()[_STEP, 0]  # (channels, rows, columns)
    rows, columns = deltas.shape[1:]
    padded = np.pad(deltas, ((0, 0), (1, 1), (1, 1)))
    windows = np.stack(
        [padded[:, y : y + 3, x : x + 3] for y in range(rows) for x in range(columns)]
    )  # (outputs, channels, 3, 3)
    vectors = _grouped(windows, parameters.lanes)
    chain = vectors.shape[1]
    outputs = -(-count // chain)
    if outputs > len(vectors):
        raise ValueError(f"Groups of the demo must be at most {len(vectors) * chain}, not {count}")
    vectors = vectors[:outputs].reshape(-1, parameters.lanes)[:count]
    largest = float(np.abs(deltas.astype(np.float64)).max())
    compiled = compile_weights(_grouped(kernel[None], parameters.lanes), parameters, largest=largest)
    groups = delta_quantizer(vectors, parameters, by_group=True).groups
    index = np.arange(count) % chain
    # Every group is marked last, so that each partial sum leaves the accumulator and is compared.
    results = multiplier_group(
        groups,
        compiled.weights[0][index],
        parameters,
        scale=compiled.scale[0][index],
        first=index == 0,
        last=True,
    )
    return Content(
        parameters=parameters,
        groups=groups,
        weights=compiled.weights[0],
        scale=compiled.scale[0],
        sums=tuple(int(value) for value in results.sum),
        poisoned=tuple(bool(value) for value in results.poisoned),
    )


def _grouped(windows: np.ndarray, lanes: int) -> np.ndarray:
    """``(w, channels, 3, 3)`` FP16 as patterns ``(w, groups, lanes)``, in the order of stored weights: tap by tap."""
    windows = windows.astype(np.float16).transpose(0, 2, 3, 1)
    windows = np.pad(windows, ((0, 0), (0, 0), (0, 0), (0, -windows.shape[3] % lanes)))
    return np.ascontiguousarray(windows).view(np.uint16).reshape(len(windows), -1, lanes)
