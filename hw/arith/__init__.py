"""Arithmetic that knows nothing of the accelerator: floats, shifters, sums, and leaves that map into a target's cells."""
