"""A small executor that keeps state, to check what samplers tell it."""

import numpy as np

from golden.diffusion.networks import StatefulExecutor


class Differential(StatefulExecutor):
    """Adds weight times delta to what each convolution and linear layer had for the item its delta refers to.

    Members
    -------
    references : dict
        Under (step, layer) the step in which the layer ran before, None for the first time.
    told : list
        What `begin_step` was told, in order.
    deltas : dict
        Under (step, layer) the sum of the squares of the deltas of each item.
    held_values : int
        Calls of `held`.
    """

    def __init__(self):
        self.references = {}
        self.told = []
        self.deltas = {}
        self.held_values = 0
        self._state = {}

    def begin_step(self, index, steps, reference=None):
        self.told.append((index, steps, None if reference is None else reference.tolist()))
        if index == 0:
            self._state.clear()

    def held(self, value):
        self.held_values += 1
        return value

    def __call__(self, layer, values):
        if layer.kind not in ("convolution", "linear"):
            return layer(*values)
        step, _, reference = self.told[-1]
        (x,) = values
        zero = layer(np.zeros_like(x))
        then, before, output = self._state.get(layer.name, (None, np.zeros_like(x), zero))
        self.references[step, layer.name] = then
        if reference is not None:
            new = np.array(reference) < 0
            before, output = before[reference], output[reference]
            before[new], output[new] = 0, zero[new]
        delta = x - before
        self.deltas[step, layer.name] = np.square(delta).reshape(len(x), -1).sum(axis=1)
        output = output + layer(delta) - zero
        self._state[layer.name] = step, x, output
        return output
