"""The closed loop's arithmetic by the machine's parts, each in a fast form and in an exact one (numerics, section 12).

``core``
    Products of weights with deltas, and of two activations: sums in units of the state that they end in.
``link``
    What is sent: differences of states as delta groups, sums as the joint form.
``near``
    What near memory computes of states: accumulate, combine, norm, functions, softmax, means, align.

Arrays hold integers, *counts* of a unit, as floats that have room for them. The fast form is the exact one but for the
roundings of the accumulators, which it does not make; where none rounds both give the same counts.
"""

from golden.diffusion.differential.fixed.core import Core, ExactCore, FloatCore
from golden.diffusion.differential.fixed.link import ExactLink, FloatLink, Link
from golden.diffusion.differential.fixed.near import ExactNear, FloatNear, Near
from golden.diffusion.differential.fixed.value import Fixed

__all__ = [
    "Core",
    "ExactCore",
    "ExactLink",
    "ExactNear",
    "Fixed",
    "FloatCore",
    "FloatLink",
    "FloatNear",
    "Link",
    "Near",
]
