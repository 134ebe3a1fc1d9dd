"""Payloads of the streams between units. Field order is bit order, first field in the least significant bits."""

from amaranth.hdl import ShapeLike, signed
from amaranth.lib import data

from golden.parameters import EXPONENT_WIDTH, SCALE_WIDTH, Parameters

__all__ = [
    "address_width",
    "aligned_product",
    "bank_write",
    "channel_scale_input",
    "delta_group",
    "element_part",
    "exact_product",
    "group_record",
    "joint_part",
    "joint_word",
    "link_word",
    "memory_word",
    "multiplier_group_input",
    "near_memory_input",
    "near_memory_mask",
    "near_memory_repair",
    "near_memory_request",
    "near_memory_write",
    "outlier",
    "quantizer_input",
    "quantizer_output",
    "selector_input",
    "selector_output",
    "sign_mask_input",
    "sign_mask_output",
    "state_element",
    "stream_group",
    "sum_part",
    "sum_with_poison",
    "vector_bytes",
    "weight",
    "weight_record",
    "weight_write",
]

POISONED_RECORD = -256
"""Scale of a record of weights that poisons every sum it is part of."""

UNIT_WIDTH = 8
"""Bits of L, the power of two that a tile's sums count units of their state in."""

address_width = 32
"""Bits of a state address: a vector's number, or a memory word's."""


def outlier(parameters: Parameters) -> data.StructLayout:
    """One outlier slot."""
    return data.StructLayout({"valid": 1, "lane": parameters.lane_width, "value": 16})


def delta_group(parameters: Parameters) -> data.StructLayout:
    """A delta group; `replay` only where the policy knows it, `outliers` only if m > 0."""
    fields: dict[str, ShapeLike] = {"exponent": EXPONENT_WIDTH}
    if parameters.replays:
        fields["replay"] = 1
    fields["digits"] = data.ArrayLayout(signed(parameters.digit_width), parameters.lanes)
    if parameters.outliers:
        fields["outliers"] = data.ArrayLayout(outlier(parameters), parameters.outliers)
    return data.StructLayout(fields)


def group_record(parameters: Parameters) -> data.StructLayout:
    """A delta group as it lies in memory (groups, version 1): outliers field by field; none if m = 0."""
    n, m = parameters.lanes, parameters.outliers
    digits = data.ArrayLayout(signed(parameters.digit_width), n)
    slots = {"valid": m, "lanes": data.ArrayLayout(parameters.lane_width, m), "values": data.ArrayLayout(16, m)}
    return data.StructLayout({"exponent": EXPONENT_WIDTH, "digits": digits} | (slots if m else {}))


def selector_input(parameters: Parameters) -> data.StructLayout:
    """Flags and values into `outlier_selector`."""
    n = parameters.lanes
    return data.StructLayout({"flags": n, "values": data.ArrayLayout(16, n)})


def selector_output(parameters: Parameters) -> data.StructLayout:
    """Slots and left-over flags out of `outlier_selector`; `outliers` only if m > 0."""
    fields: dict[str, ShapeLike] = {}
    if parameters.outliers:
        fields["outliers"] = data.ArrayLayout(outlier(parameters), parameters.outliers)
    fields["rest"] = parameters.lanes
    return data.StructLayout(fields)


def weight(parameters: Parameters) -> ShapeLike:
    """One weight: a 16-bit float pattern, or a signed aligned integer."""
    return signed(parameters.weight_width) if parameters.weight_form == "aligned" else 16


def quantizer_input(parameters: Parameters) -> data.StructLayout:
    """Vector into `delta_quantizer`."""
    return data.StructLayout(
        {
            "by_group": 1,
            "first_pass": 1,
            "exponent": EXPONENT_WIDTH,
            "floor": EXPONENT_WIDTH,
            "values": data.ArrayLayout(16, parameters.lanes),
        }
    )


def quantizer_output(parameters: Parameters) -> data.StructLayout:
    """Group out of `delta_quantizer`, with what the next pass needs."""
    return data.StructLayout(
        {
            "group": delta_group(parameters),
            "last": 1,
            "next_exponent": EXPONENT_WIDTH,
            "overflow": parameters.lanes,
            "residual": data.ArrayLayout(16, parameters.lanes),
        }
    )


def exact_product(magnitude_width: int, exponent_width: int) -> data.StructLayout:
    """Exact product of floats: sign, exponent and integer magnitude."""
    return data.StructLayout({"negative": 1, "exponent": exponent_width, "magnitude": magnitude_width})


def aligned_product(parameters: Parameters) -> data.StructLayout:
    """Exact product of an FP16 value and an aligned weight."""
    return data.StructLayout({"exponent": 5, "significand": signed(11 + parameters.weight_width)})


def sum_with_poison(parameters: Parameters) -> data.StructLayout:
    """An accumulator's value as it leaves a multiplier group."""
    return data.StructLayout({"sum": signed(parameters.accumulator_width), "poisoned": 1})


def weight_record(parameters: Parameters) -> data.StructLayout:
    """The aligned weights of a group of an output channel."""
    weights = data.ArrayLayout(weight(parameters), parameters.lanes)
    return data.StructLayout({"scale": signed(SCALE_WIDTH), "weights": weights})


def weight_write(parameters: Parameters) -> data.StructLayout:
    """A record and its place in the weight buffer."""
    record = weight_record(parameters)
    return data.StructLayout({"half": 1, "address": range(parameters.weight_buffer), "record": record})


def bank_write(parameters: Parameters) -> data.StructLayout:
    """A delta group and its place in the banks of the array's rows."""
    address = range(parameters.group_buffer)
    return data.StructLayout(
        {"row": range(parameters.rows), "half": 1, "address": address, "group": delta_group(parameters)}
    )


def sum_part(parameters: Parameters) -> data.StructLayout:
    """`near_lanes` of the sums that leave together; `floor` and `unit` are those of the tile (numerics 12.11).

    `last` ends a vector, `end` the last vector of the tile.
    """
    u = parameters.near_lanes
    values = data.ArrayLayout(signed(parameters.accumulator_width), u)
    return data.StructLayout(
        {"values": values, "poisoned": u, "last": 1, "end": 1, "floor": EXPONENT_WIDTH, "unit": signed(UNIT_WIDTH)}
    )


def channel_scale_input(parameters: Parameters) -> data.StructLayout:
    """Vector into `channel_scale`."""
    n = parameters.lanes
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(sum_with_poison(parameters), n),
            "scale": data.ArrayLayout(16, n),
            "lsb": data.ArrayLayout(signed(SCALE_WIDTH), n),
        }
    )


def multiplier_group_input(parameters: Parameters) -> data.StructLayout:
    """Group and weights into `multiplier_group`."""
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "scale": signed(SCALE_WIDTH),
            "group": delta_group(parameters),
            "weights": data.ArrayLayout(weight(parameters), parameters.lanes),
        }
    )


def sign_mask_input(parameters: Parameters) -> data.StructLayout:
    """Group or vector into `sign_mask`, with the mask bits, or segment codes, of its lanes."""
    n = parameters.lanes
    if parameters.mask_operand == "digits":
        return data.StructLayout({"group": delta_group(parameters), "mask": n})
    values = data.ArrayLayout(16, n)
    if parameters.mask_width == 1:
        return data.StructLayout({"values": values, "mask": n})
    return data.StructLayout({"values": values, "codes": data.ArrayLayout(parameters.mask_width, n)})


def sign_mask_output(parameters: Parameters) -> data.Layout:
    """Group or vector out of `sign_mask`."""
    if parameters.mask_operand == "digits":
        return delta_group(parameters)
    return data.ArrayLayout(16, parameters.lanes)


def state_element(parameters: Parameters) -> ShapeLike:
    """One element of state: signed fixed point, or an FP16 pattern."""
    return signed(parameters.state_width) if parameters.state_format == "fixed" else 16


def vector_bytes(parameters: Parameters) -> int:
    """Bytes of a vector of states in memory: n elements, padded to whole bytes."""
    return -(-parameters.lanes * parameters.state_width // 8)


def element_part(parameters: Parameters) -> data.StructLayout:
    """`near_lanes` elements of a vector, lane 0 of it first; `last` marks the vector's final part."""
    values = data.ArrayLayout(state_element(parameters), parameters.near_lanes)
    return data.StructLayout({"values": values, "last": 1})


def joint_part(parameters: Parameters) -> data.StructLayout:
    """`near_lanes` outputs in the joint form; each part of a vector has the vector's exponent code.

    `last` ends a vector, `end` the last vector of a tile; `floor` is that of the tile.
    """
    values = data.ArrayLayout(signed(parameters.joint_width), parameters.near_lanes)
    return data.StructLayout(
        {"exponent": EXPONENT_WIDTH, "values": values, "last": 1, "end": 1, "floor": EXPONENT_WIDTH}
    )


def joint_word(parameters: Parameters) -> data.StructLayout:
    """A word of a joint stream; `last` ends the stream of a tile, whose `floor` both sides must know."""
    return data.StructLayout({"data": parameters.link_width, "last": 1, "floor": EXPONENT_WIDTH})


def memory_word(parameters: Parameters) -> data.ArrayLayout:
    """`memory_lanes` state elements."""
    return data.ArrayLayout(state_element(parameters), parameters.memory_lanes)


def near_memory_input(parameters: Parameters) -> data.StructLayout:
    """Group into `near_memory_engine`; `address` counts vectors, `bias` is in the state's format."""
    return data.StructLayout(
        {
            "last": 1,
            "refresh": 1,
            "address": address_width,
            "group": delta_group(parameters),
            "bias": data.ArrayLayout(state_element(parameters), parameters.lanes),
        }
    )


def near_memory_request(parameters: Parameters) -> data.StructLayout:
    """Number of a memory word to read: the vector's number times `words_per_vector`, plus the word's place in it."""
    return data.StructLayout({"address": address_width})


def near_memory_write(parameters: Parameters) -> data.StructLayout:
    """A memory word to write."""
    return data.StructLayout({"address": address_width, "data": memory_word(parameters)})


def near_memory_mask(parameters: Parameters) -> data.StructLayout:
    """The new sign or segment mask of a vector."""
    mask = data.ArrayLayout(parameters.mask_width, parameters.lanes)
    return data.StructLayout({"address": address_width, "mask": mask})


def near_memory_repair(parameters: Parameters) -> data.StructLayout:
    """Exact correction of an element whose mask changed."""
    return data.StructLayout({"address": address_width, "lane": parameters.lane_width, "value": 16})


def stream_group(parameters: Parameters) -> data.StructLayout:
    """A delta group of a compressed stream; `last` marks the stream's final one."""
    return data.StructLayout({"group": delta_group(parameters), "last": 1})


def link_word(parameters: Parameters) -> data.StructLayout:
    """A word of a compressed stream; `last` marks the stream's final one."""
    return data.StructLayout({"data": parameters.link_width, "last": 1})
