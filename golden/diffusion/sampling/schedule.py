"""Noise schedules: how much of an image is left at each timestep, and which timesteps a sampling visits."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from golden.common.checked import Checked, Range, check

Timesteps = Annotated[int, Range(2, 100_000)]
"""Noise levels that a network can be trained on."""

Offset = Annotated[int, Range(0, 99_999)]
"""What can be added to them."""

_BETAS = {"cosine": (None, None), "linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012)}


_LEAST = 2.0**-96
"""Signal that binary32 can divide by the root of and square again."""


@dataclass(frozen=True)
class Schedule(Checked, label="Schedule {}"):
    """Noise levels a network was trained on, and the spacing of those that are visited.

    Parameters
    ----------
    timesteps : int
        Number of noise levels the network was trained on; timestep 0 is the cleanest.
    betas : str
        What share of the variance each level replaces by noise: ``"cosine"`` (Nichol and Dhariwal, *Improved denoising
        diffusion probabilistic models*, 2021; what the zoo was trained on), ``"linear"`` (Ho et al., 2020: 0.0001 to
        0.02) or ``"scaled_linear"``, linear in the square root (Stable Diffusion: 0.00085 to 0.012).
    first_beta, last_beta : float
        Ends of a linear schedule; the defaults are those above.
    spacing : str
        ``"even"`` (multiples of timesteps / steps, rounded down), or as in table 2 of Lin et al., *Common diffusion
        noise schedules and sample steps are flawed* (2024): ``"leading"`` (multiples of the whole part of timesteps /
        steps), ``"trailing"`` (from the noisiest down) or ``"linspace"`` (both ends).
    offset : int
        Added to every timestep of ``"leading"``; Stable Diffusion 1.x adds 1.
    ends_clean : bool
        Whether the last step leads to the clean image; otherwise to the level of timestep 0 (Stable Diffusion 1.x).
    """

    timesteps: Timesteps = 1000
    betas: Literal["cosine", "linear", "scaled_linear"] = "cosine"
    first_beta: float | None = None
    last_beta: float | None = None
    spacing: Literal["even", "leading", "trailing", "linspace"] = "even"
    offset: Offset = 0
    ends_clean: bool = True

    def check_together(self) -> None:
        """Fill in the ends, and check that betas rise and leave an image; only leading timesteps have an offset."""
        if self.offset and self.spacing != "leading":
            raise ValueError(f"Schedule offset must be 0 with {self.spacing} spacing, not {self.offset}")
        for name, default in zip(("first_beta", "last_beta"), _BETAS[self.betas], strict=True):
            if self.betas == "cosine" and getattr(self, name) is not None:
                raise ValueError(f"Schedule {name} must be left out with cosine betas, not {getattr(self, name)!r}")
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if self.betas != "cosine" and not 0 < self.first_beta <= self.last_beta < 1:
            raise ValueError(
                f"Schedule betas must rise between 0 and 1, not from {self.first_beta!r} to {self.last_beta!r}"
            )
        last = float(self.signal[-1])
        if last < _LEAST:
            raise ValueError(
                f"Schedule betas must leave {_LEAST:.3g} of the image at the last of {self.timesteps} timesteps, "
                f"not {last:.3g}"
            )

    @property
    def signal(self) -> np.ndarray:
        """Share of the variance that is signal at each timestep, float64 ``(timesteps,)``, strictly falling.

        An image x0 with noise n is ``sqrt(signal) x0 + sqrt(1 - signal) n``.
        """
        if self.betas == "cosine":
            edges = np.cos((np.arange(self.timesteps + 1) / self.timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
            # 0.999: the published clip of beta, which keeps the last level above zero
            betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
        elif self.betas == "linear":
            betas = np.linspace(self.first_beta, self.last_beta, self.timesteps)
        else:
            betas = np.linspace(self.first_beta**0.5, self.last_beta**0.5, self.timesteps) ** 2
        return np.cumprod(1 - betas)

    def spaced(self, steps: int) -> np.ndarray:
        """Timesteps that a sampling of so many steps visits: int64 ``(steps,)``, falling.

        Raises
        ------
        ValueError
            If `steps` is not between 1 and `timesteps`, or the offset leads above the last timestep.
        """
        check("Steps", steps, Annotated[int, Range(1, self.timesteps)])
        rising = np.arange(steps)
        if self.spacing == "even":
            rising = rising * self.timesteps // steps
        elif self.spacing == "leading":
            rising = rising * (self.timesteps // steps) + self.offset
        elif self.spacing == "trailing":
            rising = np.round(self.timesteps - rising[::-1] * (self.timesteps / steps)) - 1
        else:
            rising = np.round(np.linspace(0, self.timesteps - 1, steps))
        if rising[-1] >= self.timesteps:
            raise ValueError(
                f"Timesteps must stay below {self.timesteps} with the offset {self.offset}, not reach {rising[-1]}"
            )
        return rising[::-1].astype(np.int64)

    def levels(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Signal at each timestep of `spaced` and at the one after it, float64 ``(steps,)`` each."""
        signal = self.signal
        here = signal[self.spaced(steps)]
        return here, np.append(here[1:], 1.0 if self.ends_clean else signal[0])


STABLE_DIFFUSION = Schedule(betas="scaled_linear", spacing="leading", offset=1, ends_clean=False)
"""Noise levels and spacing of Stable Diffusion 1.x."""
