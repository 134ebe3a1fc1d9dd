"""Memory as the parts of a machine see it, and the buses that lead there. Knows nothing of the accelerator."""
