"""The machine as Amaranth components; `hw.arith` and `hw.stream` are usable alone."""
