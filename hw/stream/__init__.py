"""Valid/ready plumbing that knows nothing of the accelerator."""

from hw.stream.fifo import Fifo
from hw.stream.pipeline import Pipeline, enabled_cuts
from hw.stream.skid_buffer import SkidBuffer

__all__ = ["Fifo", "Pipeline", "SkidBuffer", "enabled_cuts"]
