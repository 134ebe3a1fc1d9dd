"""Number formats, parameters, presets, the cost model and the bit-exact numpy model of every unit."""
