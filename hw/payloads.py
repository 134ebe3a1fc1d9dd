"""Payloads of the streams between units. Field order is bit order, first field in the least significant bits."""

from amaranth.hdl import ShapeLike, signed
from amaranth.lib import data

from golden.parameters import EXPONENT_WIDTH, SCALE_WIDTH, Parameters

POISONED_RECORD = -256
"""Scale of a record of weights that poisons every sum it is part of."""

UNIT_WIDTH = 8
"""Bits of L, the power of two that a tile's sums count units of their state in."""

LINE_BYTES_WIDTH = 21
"""Bits of the length of a line in bytes: a slot of a spool has room for at most 2^16 - 1 units."""

address_width = 32
"""Bits of a state address: a vector's number, or a memory word's."""


class Payload(data.StructLayout):
    """A structure whose fields say what they mean: to readers, in emitted Verilog, in manifests and on the docs' pages.

    Parameters
    ----------
    fields : dict
        Shape and meaning of each field, by name.

    Attributes
    ----------
    meanings : dict of str to str
        What each field means, by name.
    """

    def __init__(self, fields: dict[str, tuple[ShapeLike, str]]):
        super().__init__({name: shape for name, (shape, _) in fields.items()})
        self.meanings = {name: meaning for name, (_, meaning) in fields.items()}


def outlier(parameters: Parameters) -> Payload:
    """One outlier slot."""
    return Payload(
        {
            "valid": (1, "the slot is used; if not, all of it is 0"),
            "lane": (parameters.lane_width, "lane that the outlier belongs to"),
            "value": (16, "FP16 value"),
        }
    )


def delta_group(parameters: Parameters) -> Payload:
    """A delta group; `replay` only where the policy knows it, `outliers` only if m > 0."""
    fields: dict[str, tuple[ShapeLike, str]] = {
        "exponent": (EXPONENT_WIDTH, "code of the group's exponent e, e + 24; 62: zero group, 63: poisoned")
    }
    if parameters.replays:
        fields["replay"] = 1, "a further group of its vector, with outliers alone"
    digits = data.ArrayLayout(signed(parameters.digit_width), parameters.lanes)
    fields["digits"] = digits, "a digit q for each lane, which stands for q * 2^e"
    if parameters.outliers:
        slots = data.ArrayLayout(outlier(parameters), parameters.outliers)
        fields["outliers"] = slots, "slots of outliers, filled from slot 0 in order of lane"
    return Payload(fields)


def group_record(parameters: Parameters) -> Payload:
    """A delta group as it lies in memory (groups, version 1): outliers field by field; none if m = 0.

    `replay` only where the policy knows it.
    """
    n, m = parameters.lanes, parameters.outliers
    fields: dict[str, tuple[ShapeLike, str]] = {
        "exponent": (EXPONENT_WIDTH, "code of the group's exponent"),
        "digits": (data.ArrayLayout(signed(parameters.digit_width), n), "a digit for each lane"),
    }
    if m:
        fields["valid"] = m, "a bit for each slot that is used"
        fields["lanes"] = data.ArrayLayout(parameters.lane_width, m), "lane of each slot's outlier"
        fields["values"] = data.ArrayLayout(16, m), "FP16 value of each slot's outlier"
    if parameters.replays:
        fields["replay"] = 1, "a further group of its vector, with outliers alone"
    return Payload(fields)


def selector_input(parameters: Parameters) -> Payload:
    """Flags and values into `outlier_selector`."""
    n = parameters.lanes
    return Payload(
        {
            "flags": (n, "a bit for each lane whose value does not fit a digit"),
            "values": (data.ArrayLayout(16, n), "FP16 value of each lane"),
        }
    )


def selector_output(parameters: Parameters) -> Payload:
    """Slots and left-over flags out of `outlier_selector`; `outliers` only if m > 0."""
    fields: dict[str, tuple[ShapeLike, str]] = {}
    if parameters.outliers:
        slots = data.ArrayLayout(outlier(parameters), parameters.outliers)
        fields["outliers"] = slots, "the first m flagged lanes, lane 0 first"
    fields["rest"] = parameters.lanes, "the flags without those m"
    return Payload(fields)


def weight(parameters: Parameters) -> ShapeLike:
    """One weight: a 16-bit float pattern, or a signed aligned integer."""
    return signed(parameters.weight_width) if parameters.weight_form == "aligned" else 16


def quantizer_input(parameters: Parameters) -> Payload:
    """Vector into `delta_quantizer`."""
    return Payload(
        {
            "by_group": (1, "choose the least exponent that leaves at most m outliers; 0: take `exponent`"),
            "first_pass": (1, "values are changes themselves; 0: what an earlier pass left"),
            "exponent": (EXPONENT_WIDTH, "code of the exponent, where none is chosen"),
            "floor": (EXPONENT_WIDTH, "code of the least exponent allowed"),
            "values": (data.ArrayLayout(16, parameters.lanes), "FP16 value of each lane"),
        }
    )


def quantizer_output(parameters: Parameters) -> Payload:
    """Group out of `delta_quantizer`, with what the next pass needs."""
    return Payload(
        {
            "group": (delta_group(parameters), "the group"),
            "last": (1, "last group of its vector"),
            "next_exponent": (EXPONENT_WIDTH, "`exponent` of the next pass"),
            "overflow": (parameters.lanes, "a bit for each lane that did not fit a digit"),
            "residual": (data.ArrayLayout(16, parameters.lanes), "`values` of the next pass, FP16"),
        }
    )


def exact_product(magnitude_width: int, exponent_width: int) -> Payload:
    """Exact product of floats: sign, exponent and integer magnitude."""
    return Payload(
        {
            "negative": (1, "sign of the product"),
            "exponent": (exponent_width, "exponent field, a subnormal's as 1, or the sum of two"),
            "magnitude": (magnitude_width, "product of the significands, an integer"),
        }
    )


def aligned_product(parameters: Parameters) -> Payload:
    """Exact product of an FP16 value and an aligned weight."""
    return Payload(
        {
            "exponent": (5, "exponent field of the value, a subnormal's as 1"),
            "significand": (signed(11 + parameters.weight_width), "product of significand and weight, an integer"),
        }
    )


def sum_with_poison(parameters: Parameters) -> Payload:
    """An accumulator's value as it leaves a multiplier group."""
    return Payload(
        {
            "sum": (signed(parameters.accumulator_width), "units of 2^L; 0 if poisoned"),
            "poisoned": (1, "a group that is part of it was poisoned"),
        }
    )


def weight_record(parameters: Parameters) -> Payload:
    """The aligned weights of a group of an output channel."""
    weights = data.ArrayLayout(weight(parameters), parameters.lanes)
    return Payload(
        {
            "scale": (signed(SCALE_WIDTH), "power of two that the sum is multiplied by; -256 poisons it"),
            "weights": (weights, "a weight for each lane"),
        }
    )


def weight_write(parameters: Parameters) -> Payload:
    """A record and its place in the weight buffer."""
    return Payload(
        {
            "half": (1, "half of the buffer"),
            "address": (range(parameters.weight_buffer), "place in it"),
            "record": (weight_record(parameters), "what is written"),
        }
    )


def bank_write(parameters: Parameters) -> Payload:
    """A delta group and its place in the banks of the array's rows."""
    return Payload(
        {
            "row": (range(parameters.rows), "row of the array"),
            "half": (1, "half of its bank"),
            "address": (range(parameters.group_buffer), "place in it"),
            "group": (delta_group(parameters), "what is written"),
        }
    )


def sum_part(parameters: Parameters) -> Payload:
    """`near_lanes` of the sums that leave together; `floor` and `unit` are those of the tile (numerics 12.11)."""
    u = parameters.near_lanes
    groups = {"groups": (1, "the tile leaves as groups, not in the joint form")} if parameters.masks else {}
    return Payload(
        {
            "values": (data.ArrayLayout(signed(parameters.accumulator_width), u), "sums in units of 2^L"),
            "poisoned": (u, "a bit for each sum that a poisoned group is part of"),
            "last": (1, "ends a vector"),
            "end": (1, "ends the last vector of the tile"),
            "floor": (EXPONENT_WIDTH, "code of the tile's least exponent"),
            "unit": (signed(UNIT_WIDTH), "L of the tile, in units of the state"),
            **groups,
        }
    )


def _chain_settings(parameters: Parameters) -> dict[str, tuple[ShapeLike, str]]:
    """What is the same in all parts of a vector that becomes groups, and where it ends."""
    fields: dict[str, tuple[ShapeLike, str]] = {
        "last": (1, "ends a vector"),
        "end": (1, "ends the last vector of the tile"),
        "floor": (EXPONENT_WIDTH, "code of the least exponent that a group may choose"),
        "passes": (3, "passes of the vector, minus 1"),
    }
    if parameters.exponent_policy == "layer":
        fields["static"] = 1, "no group chooses: the first pass takes `floor`"
    return fields


def chain_sums(parameters: Parameters) -> Payload:
    """`near_lanes` sums of a vector that becomes groups, with what makes deltas of them."""
    u = parameters.near_lanes
    return Payload(
        {
            "sums": (data.ArrayLayout(signed(parameters.accumulator_width), u), "sums in units of 2^unit"),
            "poisoned": (u, "a bit for each sum that a poisoned group is part of"),
            "unit": (signed(UNIT_WIDTH), "L of the tile, in units of the state"),
            "factors": (data.ArrayLayout(16, u), "FP16 factor of each channel: its norm"),
            "shifts": (data.ArrayLayout(16, u), "FP16 shift of each channel, added to it"),
            **_chain_settings(parameters),
        }
    )


def chain_part(parameters: Parameters) -> Payload:
    """`near_lanes` deltas of a vector on their way to groups."""
    values = data.ArrayLayout(16, parameters.near_lanes), "FP16 deltas"
    return Payload({"values": values, **_chain_settings(parameters)})


def chain_group(parameters: Parameters) -> Payload:
    """A delta group of a product."""
    return Payload(
        {
            "group": (delta_group(parameters), "the group"),
            "last": (1, "ends a vector"),
            "end": (1, "ends the last vector of the tile"),
            "passes": (3, "passes of the vector, minus 1"),
        }
    )


def channel_scale_input(parameters: Parameters) -> Payload:
    """Vector into `channel_scale`."""
    n = parameters.lanes
    return Payload(
        {
            "sums": (data.ArrayLayout(sum_with_poison(parameters), n), "an accumulator's value for each lane"),
            "scale": (data.ArrayLayout(16, n), "FP16 factor of each lane"),
            "lsb": (data.ArrayLayout(signed(SCALE_WIDTH), n), "L of each lane: the sum counts units of 2^L"),
        }
    )


def multiplier_group_input(parameters: Parameters) -> Payload:
    """Group and weights into `multiplier_group`."""
    weights = data.ArrayLayout(weight(parameters), parameters.lanes)
    return Payload(
        {
            "first": (1, "begins a sum"),
            "last": (1, "ends a sum, which leaves"),
            "scale": (signed(SCALE_WIDTH), "power of two that the group's sum is multiplied by"),
            "group": (delta_group(parameters), "the group"),
            "weights": (weights, "a weight for each lane"),
        }
    )


def sign_mask_input(parameters: Parameters) -> Payload:
    """Group or vector into `sign_mask`, with the mask bits, or segment codes, of its lanes."""
    n = parameters.lanes
    mask = n, "a bit for each lane whose old output was not negative"
    if parameters.mask_operand == "digits":
        return Payload({"group": (delta_group(parameters), "the group"), "mask": mask})
    values = data.ArrayLayout(16, n), "FP16 value of each lane"
    if parameters.mask_width == 1:
        return Payload({"values": values, "mask": mask})
    codes = data.ArrayLayout(parameters.mask_width, n), "segment that each lane's old output lay in"
    return Payload({"values": values, "codes": codes})


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


def element_part(parameters: Parameters) -> Payload:
    """`near_lanes` elements of a vector, lane 0 of it first."""
    values = data.ArrayLayout(state_element(parameters), parameters.near_lanes)
    return Payload({"values": (values, "elements of the state"), "last": (1, "ends a vector")})


def joint_part(parameters: Parameters) -> Payload:
    """`near_lanes` outputs in the joint form; each part of a vector has the vector's exponent code."""
    values = data.ArrayLayout(signed(parameters.joint_width), parameters.near_lanes)
    return Payload(
        {
            "exponent": (EXPONENT_WIDTH, "code of the vector's exponent; 62: all zero, 63: poisoned"),
            "values": (values, "integers under that exponent"),
            "last": (1, "ends a vector"),
            "end": (1, "ends the last vector of a tile"),
            "floor": (EXPONENT_WIDTH, "code of the tile's least exponent"),
        }
    )


def joint_word(parameters: Parameters) -> Payload:
    """A word of a joint stream, whose `floor` both sides must know."""
    return Payload(
        {
            "data": (parameters.link_width, "bits of the stream, the earlier ones lower"),
            "last": (1, "ends the stream of a tile"),
            "floor": (EXPONENT_WIDTH, "code of the tile's least exponent"),
        }
    )


def memory_word(parameters: Parameters) -> data.ArrayLayout:
    """`memory_lanes` state elements."""
    return data.ArrayLayout(state_element(parameters), parameters.memory_lanes)


def near_memory_input(parameters: Parameters) -> Payload:
    """Group into `near_memory_engine`."""
    bias = data.ArrayLayout(state_element(parameters), parameters.lanes)
    return Payload(
        {
            "last": (1, "last group of its vector"),
            "refresh": (1, "the old state counts as 0"),
            "address": (address_width, "number of the vector"),
            "group": (delta_group(parameters), "the group"),
            "bias": (bias, "added once, in the state's format"),
        }
    )


def near_memory_request(parameters: Parameters) -> Payload:
    """A memory word to read."""
    return Payload(
        {
            "address": (
                address_width,
                "number of the word: its vector's times the words of a vector, plus its place there",
            )
        }
    )


def near_memory_write(parameters: Parameters) -> Payload:
    """A memory word to write."""
    return Payload(
        {"address": (address_width, "number of the word"), "data": (memory_word(parameters), "elements of the state")}
    )


def near_memory_mask(parameters: Parameters) -> Payload:
    """The new sign or segment mask of a vector."""
    mask = data.ArrayLayout(parameters.mask_width, parameters.lanes)
    return Payload({"address": (address_width, "number of the vector"), "mask": (mask, "sign or segment of each lane")})


def near_memory_repair(parameters: Parameters) -> Payload:
    """Exact correction of an element whose mask changed."""
    return Payload(
        {
            "address": (address_width, "number of the vector"),
            "lane": (parameters.lane_width, "lane of the element"),
            "value": (16, "FP16 value to add to what its consumer holds"),
        }
    )


def stream_group(parameters: Parameters) -> Payload:
    """A delta group of a compressed stream."""
    return Payload({"group": (delta_group(parameters), "the group"), "last": (1, "ends the stream")})


def link_word(parameters: Parameters) -> Payload:
    """A word of a compressed stream."""
    return Payload(
        {
            "data": (parameters.link_width, "bits of the stream, the earlier ones lower"),
            "last": (1, "ends the stream"),
        }
    )
