"""What the units are measured against, built from the same parts."""
