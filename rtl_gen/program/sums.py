"""Sums of samples, noise and predictions: what the steps of a sampler are near memory."""

from typing import Any

import numpy as np

from golden.machine import image
from golden.machine.command import Combine, Operand
from golden.units.combine import Factors
from rtl_gen.program import near
from rtl_gen.program.memory import TABLES, Tensor
from rtl_gen.program.network import Compiler
from rtl_gen.program.schedule import Schedule

SAMPLE_TAG = 0xFFFF
"""Tag of the sampler's commands; those of a layer have its number."""


class Sums:
    """Adds sums of states that are laid out like the network's input.

    Parameters
    ----------
    compiler : Compiler
        Of the network; its memory takes the factors.

    Members
    -------
    clean, fresh : int
        Exponents of the units of a clean image, which is clipped to -1..1, and of noise of up to 8 deviations.

    Raises
    ------
    ValueError
        If what the network predicts does not lie in memory like its input.
    """

    def __init__(self, compiler: Compiler):
        compiler.check_prediction()
        self._compiler = compiler
        width = compiler.memory.parameters.state_width
        self.clean, self.fresh = 2 - width, 5 - width
        one = 2 ** (width - 2)
        self._limits = compiler.memory.place(TABLES, image.pack_entries([-one, one]))

    def content(self, sample: np.ndarray, unit: int) -> np.ndarray:
        """Bytes of a sample (channels, height, width) as a state."""
        compiler = self._compiler
        return compiler.vectors(compiler.integers(compiler.laid_out(sample), unit))

    def tensor(self, name: str, data: Operand, unit: int) -> Tensor:
        """What lies somewhere, as a state."""
        like = self._compiler.input
        return Tensor(name, data, like.lines, like.width, like.channels, unit)

    def add(
        self,
        schedule: Schedule,
        targets: list[Tensor],
        terms: list[tuple[Tensor, float]],
        *,
        clamped: bool = False,
    ) -> None:
        """Add a sum of states times factors, written to each target of at most two; `clamped` to -1..1."""
        compiler = self._compiler
        state, *copies = targets
        found = Factors.of([factor for _, factor in terms], [tensor.unit for tensor, _ in terms], state.unit)
        options: dict[str, Any] = {"copied": True, "copy": copies[0].data} if copies else {}
        for number, ((tensor, _), factor) in enumerate(zip(terms, found, strict=True), 1):
            options[f"source{number}"] = tensor.data
            options[f"factor{number}"] = compiler.table(near.factors(factor), varying=True)
        schedule.add(
            Combine(
                tag=SAMPLE_TAG,
                state=state.data,
                limits=self._limits if clamped else Operand(0, 0),
                vectors=state.vectors(compiler.memory.parameters.lanes),
                terms=len(terms),
                clamped=clamped,
                channels=state.channels,
                **options,
            ),
            reads=[place for tensor, _ in terms for place in tensor.places()],
            writes=[place for target in targets for place in target.places()],
        )
