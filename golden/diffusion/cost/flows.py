"""How activations travel between core and near-memory engine: the one table of flows.

Methods, the cost model and every report name a flow by its key here.
"""

from typing import Literal

MethodFlow = Literal["dense", "raw", "diffy", "sign_mask", "closed_loop"]
"""Flows that a method can have."""

FLOWS: dict[str, str] = {
    "dense": "every step from scratch, FP16 in and out: the reference",
    "int8": "every step from scratch, 8 bits in and out",
    "raw": "every step from scratch, activations as digits in, FP16 out: no state at all",
    "diffy": "deltas taken in the core against the raw input of the step before: X(t-1) and Y(t-1) in, X(t) and Y(t) "
    "out, all FP16",
    "sign_mask": "deltas from layer to layer, ReLU by the sign of the step before (published open loop): delta groups "
    "out, mask bits in; what has no delta form, raw attention above all, in FP16",
    "closed_loop": "deltas against what the consumers have summed so far: delta groups in, delta groups out",
}
"""Every flow and what it does; ``int8`` is only counted: its arithmetic is ``raw`` with one scale a tensor."""
