"""Valid/ready plumbing that knows nothing of the accelerator."""

from hw.stream.pipeline import Pipeline, enabled_cuts
from hw.stream.skid_buffer import SkidBuffer

__all__ = ["Pipeline", "SkidBuffer", "enabled_cuts"]
