"""A whole sampling under a method: the executor that fits it, the images, and what was measured on the way."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from golden.diffusion.differential.arithmetic import Arithmetic
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.delta_products import DeltaProducts
from golden.diffusion.differential.exact import ExactArithmetic, check_exact
from golden.diffusion.differential.limits import check_range
from golden.diffusion.differential.measure import Measure
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.open_loop import OpenLoop
from golden.diffusion.differential.profile import Profile, calibrate
from golden.diffusion.networks.graph import Executor, Network, dense
from golden.diffusion.sampling import Sampling, Step


def executor(
    network: Network,
    method: Method,
    profile: Profile | None = None,
    *,
    exact: bool = False,
    dtype: type | None = None,
    measure: Measure | None = None,
) -> Executor:
    """Executor of a method.

    Parameters
    ----------
    network : Network
        To run.
    method : Method
        How.
    profile : Profile
        Of the network; needed by every flow but dense.
    exact : bool
        Whether the machine's bits are computed, by the unit models.
    dtype : type
        Of products in floating point: float32 or float64; the default is that of the flow's executor.
    measure : Measure
        Takes notes, if given.

    Raises
    ------
    ValueError
        If the profile is missing, the formats of the method cannot hold what it tells of, or `exact` is asked of a
        method or network that has no exact form.
    """
    if method.flow == "dense":
        return dense
    if profile is None:
        raise ValueError(f"profile must be given for flow {method.flow}, not None")
    check_range(network, method, profile)
    if exact:
        check_exact(method, network)
    if method.flow == "closed_loop":
        return ClosedLoop(network, method, profile, exact=exact, dtype=dtype or np.float32, measure=measure)
    arithmetic: Arithmetic | None = None
    if exact:
        arithmetic = ExactArithmetic(method, profile)
    elif dtype is not None:
        arithmetic = Arithmetic(method, dtype)
    flow = OpenLoop if method.flow == "sign_mask" else DeltaProducts
    return flow(network, method, profile, arithmetic, measure)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a sampling gave.

    Members
    -------
    images : float32 (images, channels, ...)
        Images in -1..1, latents or videos.
    trajectory : float32 (steps, images, channels, ...)
        The sample after each step.
    measure : Measure or None
        Notes, if they were asked for.
    """

    images: np.ndarray
    trajectory: np.ndarray
    measure: Measure | None


def run(
    sampling: Sampling,
    method: Method,
    *,
    measured: bool = False,
    exact: bool = False,
    track: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> Run:
    """Draw all images of a sampling together, under a method.

    Parameters
    ----------
    sampling : Sampling
        What to draw.
    method : Method
        How the network is executed.
    measured : bool
        Whether to take notes; that takes longer than the execution.
    exact : bool
        Whether to compute the machine's bits, by the unit models, rather than in floating point: several times slower.
    track : callable
        Wraps the iteration over the steps, to show progress.

    Raises
    ------
    ValueError
        If `exact` is asked of a method or a network that has no exact form.
    """
    measure = Measure(method.machine) if measured and method.flow != "dense" else None
    how = prepared(sampling, method, exact=exact, measure=measure)
    trajectory = [step.image for step in track(sampling.walk(how))]
    return Run(trajectory[-1], np.stack(trajectory), measure)


def prepared(sampling: Sampling, method: Method, *, exact: bool = False, measure: Measure | None = None) -> Executor:
    """Executor of a method for a sampling, calibrated on others like it; parameters as of `run` and `executor`."""
    if exact:
        check_exact(method, sampling.network)
    profile = None if method.flow == "dense" else calibrate(sampling)
    return executor(sampling.network, method, profile, exact=exact, measure=measure)
