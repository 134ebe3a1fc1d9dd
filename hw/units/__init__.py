"""The units of the machine."""

from hw.units.channel_scale import ChannelScale
from hw.units.delta_compressor import DeltaCompressor
from hw.units.delta_decompressor import DeltaDecompressor
from hw.units.delta_quantizer import DeltaQuantizer
from hw.units.float_multiplier import FloatMultiplier
from hw.units.int_float_multiplier import IntFloatMultiplier
from hw.units.multiplier_group import MultiplierGroup
from hw.units.near_memory_engine import NearMemoryEngine
from hw.units.outlier_selector import OutlierSelector
from hw.units.sign_mask import SignMask
from hw.units.unit import PipelinedUnit, Unit

__all__ = [
    "UNITS",
    "ChannelScale",
    "DeltaCompressor",
    "DeltaDecompressor",
    "DeltaQuantizer",
    "FloatMultiplier",
    "IntFloatMultiplier",
    "MultiplierGroup",
    "NearMemoryEngine",
    "OutlierSelector",
    "PipelinedUnit",
    "SignMask",
    "Unit",
]

UNITS: dict[str, type[Unit]] = {
    unit.name: unit
    for unit in (
        DeltaQuantizer,
        OutlierSelector,
        IntFloatMultiplier,
        FloatMultiplier,
        MultiplierGroup,
        ChannelScale,
        SignMask,
        DeltaCompressor,
        DeltaDecompressor,
        NearMemoryEngine,
    )
}
"""The units by name (that of their files on every floor), in the order of the data flow."""
