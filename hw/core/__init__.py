"""The core: buffers, the array of multiplier groups, and what feeds it."""
