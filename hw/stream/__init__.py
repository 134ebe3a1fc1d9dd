"""Valid/ready plumbing that knows nothing of the accelerator."""

from hw.stream.async_fifo import AsyncFifo
from hw.stream.fifo import Fifo
from hw.stream.skid_buffer import SkidBuffer
from hw.stream.stage import Pipelined, Stage, count_cuts, count_stages, enabled_cuts

__all__ = ["AsyncFifo", "Fifo", "Pipelined", "SkidBuffer", "Stage", "count_cuts", "count_stages", "enabled_cuts"]
