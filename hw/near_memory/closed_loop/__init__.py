"""The near-memory engines of the closed loop: fixed point, u elements a clock (numerics, section 12)."""
