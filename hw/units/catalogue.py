"""The units by name, in the order of the data flow."""

import importlib

from hw.units.unit import Unit

__all__ = ["UNITS", "unit"]

UNITS: dict[str, str] = {
    "delta_quantizer": "DeltaQuantizer",
    "outlier_selector": "OutlierSelector",
    "int_float_multiplier": "IntFloatMultiplier",
    "float_multiplier": "FloatMultiplier",
    "multiplier_group": "MultiplierGroup",
    "channel_scale": "ChannelScale",
    "sign_mask": "SignMask",
    "delta_compressor": "DeltaCompressor",
    "delta_decompressor": "DeltaDecompressor",
    "near_memory_engine": "NearMemoryEngine",
}
"""Name of each unit (its file's name on every floor) and its class."""


def unit(name: str) -> type[Unit]:
    """Class of a unit.

    Raises
    ------
    KeyError
        If there is no such unit.
    """
    return getattr(importlib.import_module(f"hw.units.{name}"), UNITS[name])
