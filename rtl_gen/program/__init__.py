"""Programs for the machine: where tensors lie, how products are cut into tiles, what waits for what."""
