"""Execution with products on deltas and all else on raw values: the flows raw and diffy.

Words: every operand of a product is *sent* to it as delta groups against what the consumers hold (``Xhat``), once for
all readers. The product adds to a state ``Y``; everything between two products is evaluated from states, near memory,
in raw form.

::

      Y --> norm, activation, sums (raw) --> x --> x - Xhat --> quantise --+--> product --> quantise --> Y += ...
                                                      ^                    |
                                                      +---- Xhat += -------+
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from golden.diffusion.differential.base import Rival
from golden.diffusion.layers import Layer, Role


@dataclasses.dataclass(frozen=True, eq=False)
class Sent:
    """What consumers get of one operand in a step.

    Members
    -------
    delta : array
        Dequantised groups; with a `scale`, digits.
    held : array
        What the consumers hold afterwards: the sum of all they were sent.
    before : array or None
        What they held before; None if they start anew.
    fresh : bool, or bool (batch, 1, ...)
        Which items start anew.
    since : int
        Step in which they were sent something the last time; -1 if never.
    terms : tuple of arrays
        See `Passes.terms`.
    scale : array or None
        See `Passes.scale`.
    """

    delta: np.ndarray
    held: np.ndarray
    before: np.ndarray | None
    fresh: bool | np.ndarray
    since: int = -1
    terms: tuple[np.ndarray, ...] = ()
    scale: np.ndarray | None = None

    def whole(self) -> "Sent":
        """All that they hold, for a product that starts anew though they do not."""
        return dataclasses.replace(self, delta=self.held, before=None, fresh=True, terms=(), scale=None)


class DeltaProducts(Rival):
    """Executor of the flows raw and diffy."""

    flows = ("raw", "diffy")

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._sums: dict[str, np.ndarray] = {}  # Y, by layer
        self._held: dict[tuple[str, int], np.ndarray] = {}  # Xhat, by tensor and contracted axis
        self._sent: dict[tuple[str, int], Sent] = {}
        self._when: dict[tuple[str, int], int] = {}  # step in which a tensor was sent the last time
        self._ran: dict[str, int] = {}  # step in which a product ran the last time
        self._fixed: dict[str, np.ndarray] = {}  # operands that are conditioning, by product
        self._anew: np.ndarray | None = None

    def begin_step(self, index: int, steps: int | None, reference: np.ndarray | None = None) -> None:
        """A step begins: nothing is sent yet. Step 0 forgets all that was."""
        self._index, self._steps = index, steps
        self._sent.clear()
        self._anew = None
        tensors = (self._sums, self._held, self._fixed)
        if index == 0:
            for states in (*tensors, self._when, self._ran):
                states.clear()
        if reference is not None and index > 0:
            self._anew = self._restore(tensors, reference)

    def result(self, value: np.ndarray) -> np.ndarray:
        """Raw value, which binary32 always holds."""
        return np.asarray(value, np.float32)

    def __call__(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        """Evaluate a layer."""
        if layer.name not in self._main:
            return layer(*values)
        if layer.contracted:
            return self._product(layer, values)
        if layer.role is Role.NORM:
            source = layer.inputs[0]
            state = values[0] if self._is_state(source) else self._arithmetic.grid(values[0], self._exponent(source))
            return self._arithmetic.near(layer, [state])
        if layer.role is Role.MEAN:
            pixels = self._arithmetic.grid(values[0], self._exponent(layer.inputs[0]))
            return self._arithmetic.grid(self._arithmetic.near(layer, [pixels]), self._exponent(layer.name))
        if layer.role is Role.SUM:
            s = self._exponent(layer.name)
            conditioned = [
                value if source in self._main else self._arithmetic.grid(value, s)
                for source, value in zip(layer.inputs, values, strict=True)
            ]
            return self._arithmetic.grid(self._arithmetic.near(layer, conditioned), s)
        return self._arithmetic.near(layer, values)

    # What is sent ---------------------------------------------------------------------------------------------------

    def _is_state(self, name: str) -> bool:
        """Whether a value is state, moved at most; others are made from state whenever they are read."""
        layer = self._network.by_name.get(name)
        if layer is None:
            return False
        if layer.role is Role.MOVE:
            return all(self._is_state(source) for source in layer.inputs)
        return layer.stored

    def _send(self, source: str, axis: int, value: np.ndarray) -> Sent:
        key = (source, axis)
        if key in self._sent:
            return self._sent[key]
        c, a = self._method, self._arithmetic
        s = self._exponent(source)
        x = a.grid(value, s)
        fresh = c.refreshes(self._index) or key not in self._held
        held = None if fresh else self._held[key]
        passes = c.passes_of(self._network, source, self._index, self._steps)
        if held is not None and self._anew is not None:
            fresh = self._anew.reshape(-1, *[1] * (x.ndim - 1))
            held = np.where(fresh, np.zeros_like(x), held)
            passes = np.where(fresh, max(passes, c.first_passes), passes)
        grouping = self._grouping(source, axis, x.shape)
        layer_policy = c.machine.exponent_policy == "layer" and c.flow != "raw" and fresh is False
        sent = a.quantise(
            x if held is None else a.difference(x, held),
            grouping,
            passes=passes,
            floor=s,
            exponent=self._profile.layer_exponent(source, c.machine.digit_width) if layer_policy else None,
            tensor_scale=c.tensor_scale,
        )
        if sent.scale is None:
            delta, total = sent.values, a.add(held, sent.values, s, terms=sent.terms)
        else:
            delta, total = sent.terms[0], a.grid(sent.values, s)
        if c.flow == "diffy":
            total = x
        self._held[key] = total
        result = Sent(delta, total, held, fresh, self._when.get(key, -1), sent.terms, sent.scale)
        self._when[key] = self._index
        if self._measure is not None:
            # items that start anew have passes of their own, and a stream
            parts = [sent] if isinstance(fresh, bool) else [sent.items(which) for which in (self._anew, ~self._anew)]
            for part in parts:
                if len(part.values):
                    self._measure.sent(self._index, source, part, grouping)
        self._sent[key] = result
        return result

    # Products -------------------------------------------------------------------------------------------------------

    def _product(self, layer: Layer, values: Sequence[np.ndarray]) -> np.ndarray:
        main = [source in self._main for source in layer.inputs]
        scale = None
        if layer.bilinear:
            change, fresh = self._matmul(layer, values, main)
        else:
            sent = self._operand(layer, 0, values[0])
            change = self._arithmetic.product(layer, sent.delta, self._segments(layer), terms=sent.terms)
            fresh, scale = sent.fresh, sent.scale
        self._ran[layer.name] = self._index
        s = self._exponent(layer.name)
        change = self._arithmetic.outputs(change, layer, s, scale=scale)
        before = self._sum_before(layer, fresh)
        bias = None if fresh is False and before is not None else self._arithmetic.bias(layer, s)
        if bias is not None and before is not None:
            bias = np.where(fresh.reshape(-1, *[1] * (change.ndim - 1)), bias, np.zeros_like(bias))
        total = self._arithmetic.add(before, change, s, bias=bias)
        self._sums[layer.name] = total
        return total

    def _operand(self, layer: Layer, number: int, value: np.ndarray) -> Sent:
        """What a product gets of an operand: all of it if it did not run when the operand was sent the last time.

        A product of two activations has no place for the scales of both, and takes what its readers hold instead.
        """
        sent = self._send(layer.inputs[number], layer.contracted[number], value)
        if sent.scale is not None and layer.bilinear:
            return sent.whole()
        if sent.before is None or self._ran.get(layer.name) == sent.since:
            return sent
        return sent.whole()

    def _sum_before(self, layer: Layer, fresh: bool | np.ndarray) -> np.ndarray | None:
        """What the new sum adds to."""
        if fresh is True or layer.name not in self._sums:
            return None
        total = self._sums[layer.name]
        if fresh is False:
            return total
        return np.where(fresh.reshape(-1, *[1] * (total.ndim - 1)), np.zeros_like(total), total)

    def _matmul(
        self, layer: Layer, values: Sequence[np.ndarray], main: Sequence[bool]
    ) -> tuple[np.ndarray, bool | np.ndarray]:
        """``A(t) dB + dA B(t-1)``; ``dA B`` if one operand is conditioning."""
        a = self._arithmetic
        if not all(main):
            moving = main.index(True)
            sent = self._operand(layer, moving, values[moving])
            known, fixed = self._fixed.get(layer.name), values[1 - moving]
            self._fixed[layer.name] = fixed
            same = known is not None and np.array_equal(known, fixed)
            if not same and sent.before is not None:
                sent = sent.whole()
            operands = (sent.delta, fixed) if moving == 0 else (fixed, sent.delta)
            return a.matmul(layer, *operands, right=moving == 1, terms=sent.terms), sent.fresh
        left = self._operand(layer, 0, values[0])
        right = self._operand(layer, 1, values[1])
        if right.before is None or left.before is None:
            left = left if left.before is None else left.whole()
            return a.matmul(layer, left.delta, right.held, terms=left.terms), True
        change = a.matmul(layer, left.held, right.delta, right=True, terms=right.terms)
        change += a.matmul(layer, left.delta, right.before, terms=left.terms)
        return change, left.fresh
