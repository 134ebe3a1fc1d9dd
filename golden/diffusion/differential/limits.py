"""What the formats of a method cannot hold, said by the tensor's name before anything runs."""

import numpy as np

from golden import formats
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.profile import Profile
from golden.diffusion.networks.graph import Network

_LEAST, _MOST = 2.0**-24, 65504.0


def check_range(network: Network, method: Method, profile: Profile) -> None:
    """Refuse weights and values that a method would saturate, or lose entirely.

    Weights are of the machine's format. What the flows raw, diffy and sign_mask send between core and memory is FP16;
    the closed loop gives every tensor a unit of its own.

    Parameters
    ----------
    network : Network
        To run.
    method : Method
        How.
    profile : Profile
        Tells how large values are.

    Raises
    ------
    ValueError
        Naming the first layer, and the magnitude that it reaches.
    """
    format = method.machine.weight_format
    above = 2.0 ** (formats.FORMATS[format].bias + 1)
    for layer in network.layers:
        weight = getattr(layer, "weight", None)
        if layer.contracted and weight is not None:
            reached = float(np.abs(weight).max(initial=0.0))
            if reached >= above:
                told = f"{above:g} ({format}), not reach {reached:.3g}"
                raise ValueError(f"Weights of {layer.name!r} must be below {told}")
    if method.flow in ("dense", "closed_loop"):
        return
    sent = {name for layer in network.layers if layer.contracted for name in (layer.name, *layer.inputs)}
    for name in (*network.inputs, *(layer.name for layer in network.layers)):
        reached = profile.largest.get(name)
        if reached and (name in sent or method.flow != "raw") and not _LEAST <= reached <= _MOST:
            raise ValueError(
                f"Values of {name!r} must be within {_LEAST:.2g}..{_MOST:g} (FP16) in the flow {method.flow}, "
                f"not reach {reached:.3g}; the closed loop takes any"
            )
