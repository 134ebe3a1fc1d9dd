"""Valid/ready plumbing that knows nothing of the accelerator."""

from hw.stream.pipeline import Pipeline, enabled_cuts

__all__ = ["Pipeline", "enabled_cuts"]
