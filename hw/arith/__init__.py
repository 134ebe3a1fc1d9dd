"""Arithmetic that knows nothing of the accelerator: floats, shifters, sums, and leaves mapped into carry cells."""
