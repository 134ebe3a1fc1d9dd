import dataclasses
import json
import re

import pytest

from golden.parameters import DEFAULT_PRESET, PRESETS, Parameters, preset

pytestmark = pytest.mark.golden

RANGES = {
    "digit_width": (2, 8),
    "lanes": (4, 64),
    "outliers": (0, 8),
    "fraction_bits": (7, 16),
    "weight_exponent_min": (-126, 127),
    "weight_exponent_max": (-126, 127),
    "accumulator_width": (16, 128),
    "output_passes": (1, 4),
    "mask_width": (1, 4),
    "state_width": (16, 24),
    "memory_lanes": (1, 64),
    "link_width": (32, 512),
    "pipeline_depth": (1, 16),
    "joint_width": (2, 16),
    "near_lanes": (1, 64),
    "row_buffer": (16, 32768),
    "norm_buffer": (16, 32768),
    "memory_width": (32, 256),
    "tile_positions": (1, 256),
    "group_buffer": (16, 32768),
    "weight_buffer": (16, 32768),
    "rows": (1, 128),
    "columns": (1, 128),
}
CHOICES = {
    "exponent_policy": ("group", "layer"),
    "overflow_policy": ("saturate", "replay"),
    "weight_format": ("float16", "bfloat16"),
    "weight_form": ("float", "aligned"),
    "mask_operand": ("digits", "values"),
    "state_format": ("fixed", "float16"),
    "link_form": ("direct", "compressed"),
}


def refused(error, message, **arguments):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Parameters(**arguments)


def test_every_parameter_is_covered_and_says_what_it_is():
    fields = dataclasses.fields(Parameters)
    assert {field.name for field in fields} == {
        *RANGES,
        *CHOICES,
        "flip_repair",
        "link_checks",
        "functions",
        "dataflows",
    }
    assert all(field.metadata["help"] for field in fields)


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name):
    low, high = RANGES[name]
    for value in (low - 1, high + 1):
        refused(ValueError, f"{name} must be in {low}..{high}, not {value}", **{name: value})
    for value in (4.0, "4", None, True):
        refused(TypeError, f"{name} must be an integer, not {value!r}", **{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name):
    choices = CHOICES[name]
    for value in ("none", choices[0].upper(), None, 1):
        refused(ValueError, f"{name} must be {' or '.join(choices)}, not {value!r}", **{name: value})


def test_functions():
    assert Parameters(functions=[]).functions == ()
    assert preset("edge").with_settings(['functions=["tables"]']).functions == ("tables",)
    refused(ValueError, "functions[1] must be attention or tables, not 'norms'", functions=("tables", "norms"))
    twice = "functions must name each function once, not tables, tables"
    refused(ValueError, twice, functions=("tables", "tables"))
    refused(TypeError, "functions must be a list, not 'tables'", functions="tables")


def test_dataflows():
    both = preset("edge").with_settings(['dataflows=["closed_loop","sign_mask"]'])
    assert both.masks and not preset("edge").masks
    assert both.scale_buffer == 64
    alone = "dataflows must hold closed_loop, which starts every chain, not sign_mask"
    refused(ValueError, alone, dataflows=("sign_mask",))
    twice = "dataflows must name each dataflow once, not closed_loop, closed_loop"
    refused(ValueError, twice, dataflows=("closed_loop", "closed_loop"))
    layer = {"exponent_policy": "layer", "output_passes": 1}
    assert Parameters(dataflows=("closed_loop", "sign_mask"), **layer).closed_loop
    assert not Parameters(**layer).closed_loop


def test_flags():
    for value in (1, "true", None):
        refused(TypeError, f"flip_repair must be true or false, not {value!r}", flip_repair=value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lanes": 4, "outliers": 5}, "outliers must be at most lanes = 4, not 5"),
        (
            {"exponent_policy": "layer", "output_passes": 2},
            "output_passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 2",
        ),
        (
            {"exponent_policy": "layer", "overflow_policy": "replay", "outliers": 0},
            "outliers must be at least 1 with overflow_policy replay, not 0",
        ),
        ({"fraction_bits": 9}, "fraction_bits must be at least 10 with weight_format float16, not 9"),
        (
            {"weight_exponent_min": 3, "weight_exponent_max": 2},
            "weight_exponent_min must be at most weight_exponent_max = 2, not 3",
        ),
        ({"weight_exponent_min": -15}, "weight_exponent_min must be at least -14 with weight_format float16, not -15"),
        ({"weight_exponent_max": 16}, "weight_exponent_max must be at most 15 with weight_format float16, not 16"),
        ({"mask_width": 2}, "mask_operand must be values with mask_width 2, not digits"),
        (
            {"mask_width": 2, "mask_operand": "values", "flip_repair": True},
            "flip_repair must be false with mask_width 2, not true",
        ),
        ({"memory_lanes": 5}, "memory_lanes must divide lanes = 16, not 5"),
        ({"link_width": 96}, "link_width must be a power of two, not 96"),
        ({"memory_width": 96}, "memory_width must be a power of two, not 96"),
        ({"joint_width": 2}, "joint_width must be at least digit_width = 3, not 2"),
    ],
)
def test_rules_between_parameters(arguments, message):
    refused(ValueError, message, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lanes": 8, "outliers": 8},
        {"exponent_policy": "layer", "output_passes": 1},
        {"exponent_policy": "layer", "overflow_policy": "replay", "output_passes": 4},
        {"exponent_policy": "group", "overflow_policy": "replay", "outliers": 0},
        {"fraction_bits": 7, "weight_format": "bfloat16"},
        {"fraction_bits": 7, "weight_form": "float"},
        {"weight_format": "bfloat16", "weight_exponent_min": -126, "weight_exponent_max": 127},
        {"mask_width": 4, "mask_operand": "values"},
        {"lanes": 60, "memory_lanes": 60},
    ],
)
def test_at_the_edge_of_a_rule(arguments):
    assert Parameters(**arguments).to_dict().items() >= arguments.items()


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Parameters().lanes = 8


# Presets -------------------------------------------------------------------------------------------------------------

DERIVED = {
    "tiny": {
        "digit_max": 3, "exponent_max": 15, "lane_width": 2, "replays": False, "weight_width": 12,
        "weight_mantissa_width": 11, "weight_bias": 15, "weight_exponent_width": 5, "weight_lsb": -24,
        "state_bits": 18, "words_per_vector": 2, "closed_loop": True, "tile_words": 32,
        "code_lanes": 4, "code_bits": 16,
        "record_clocks": 4, "masks": False, "scale_buffer": 256, "has_lengths": True,
    },
    "edge": {
        "digit_max": 3, "exponent_max": 15, "lane_width": 4, "replays": False, "weight_width": 14,
        "weight_mantissa_width": 11, "weight_bias": 15, "weight_exponent_width": 5, "weight_lsb": -24,
        "state_bits": 18, "words_per_vector": 4, "closed_loop": True, "tile_words": 64,
        "code_lanes": 16, "code_bits": 16,
        "record_clocks": 4, "masks": False, "scale_buffer": 64, "has_lengths": False,
    },
    "edge25": {
        "digit_max": 3, "exponent_max": 15, "lane_width": 4, "replays": False, "weight_width": 14,
        "weight_mantissa_width": 11, "weight_bias": 15, "weight_exponent_width": 5, "weight_lsb": -24,
        "state_bits": 18, "words_per_vector": 4, "closed_loop": True, "tile_words": 64,
        "code_lanes": 16, "code_bits": 16,
        "record_clocks": 4, "masks": False, "scale_buffer": 64, "has_lengths": False,
    },
    "ulx3s": {
        "digit_max": 3, "exponent_max": 15, "lane_width": 5, "replays": False, "weight_width": 12,
        "weight_mantissa_width": 11, "weight_bias": 15, "weight_exponent_width": 5, "weight_lsb": -24,
        "state_bits": 18, "words_per_vector": 8, "closed_loop": True, "tile_words": 128,
        "code_lanes": 32, "code_bits": 32,
        "record_clocks": 2, "masks": False, "scale_buffer": 64, "has_lengths": False,
    },
    "paper": {
        "digit_max": 3, "exponent_max": 15, "lane_width": 6, "replays": False, "weight_width": 16,
        "weight_mantissa_width": 11, "weight_bias": 15, "weight_exponent_width": 5, "weight_lsb": -24,
        "state_bits": 24, "words_per_vector": 5, "closed_loop": False, "tile_words": 16,
        "code_lanes": 30, "code_bits": 32,
        "record_clocks": 4, "masks": False, "scale_buffer": 18, "has_lengths": True,
    },
}  # fmt: skip

SHAPES = {  # k, n, m, rows, columns, policy, form, F
    "tiny": (3, 4, 1, 1, 2, "group", "aligned", 10),
    "edge": (3, 16, 1, 2, 4, "group", "aligned", 12),
    "edge25": (3, 16, 0, 2, 4, "group", "aligned", 12),
    "ulx3s": (3, 32, 0, 4, 8, "group", "aligned", 10),
    "paper": (3, 60, 4, 128, 128, "layer", "float", 12),
}


def test_every_preset_is_covered():
    assert set(PRESETS) == set(DERIVED) == set(SHAPES)


@pytest.mark.parametrize("name", PRESETS)
def test_derived_values(name):
    parameters = preset(name)
    p = parameters
    assert {key: getattr(p, key) for key in DERIVED[name]} == DERIVED[name]
    shape = (
        p.digit_width, p.lanes, p.outliers, p.rows, p.columns, p.exponent_policy, p.weight_form, p.fraction_bits
    )  # fmt: skip
    assert shape == SHAPES[name]
    properties = {key for key, value in vars(Parameters).items() if isinstance(value, property)}
    assert properties == set(DERIVED[name])


def test_derived_values_off_the_presets():
    p = Parameters(
        digit_width=8, lanes=33, outliers=2, weight_format="bfloat16", weight_form="float", weight_exponent_min=-20,
        weight_exponent_max=3, state_format="float16", memory_lanes=11, exponent_policy="layer",
        overflow_policy="replay",
    )  # fmt: skip
    assert (p.digit_max, p.exponent_max, p.lane_width, p.replays) == (127, 10, 6, True)
    assert (p.weight_width, p.weight_mantissa_width, p.weight_bias, p.weight_exponent_width) == (16, 8, 127, 8)
    assert (p.weight_lsb, p.state_bits, p.words_per_vector) == (-27, 16, 3)
    assert (p.code_lanes, p.code_bits) == (3, 32)
    assert not Parameters(overflow_policy="replay").replays
    assert p.has_lengths and p.link_form == "direct"  # groups replay
    assert Parameters(digit_width=2).digit_max == 1


def test_unknown_preset():
    assert preset(DEFAULT_PRESET) == Parameters()
    with pytest.raises(ValueError, match="^Preset must be one of the known names, not 'egde'; did you mean edge?"):
        preset("egde")
    with pytest.raises(
        ValueError, match="^Preset must be one of the known names, not 'zzz'; known: edge, edge25, paper, tiny, ulx3s$"
    ):
        preset("zzz")


# JSON ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip(name, tmp_path):
    parameters = preset(name)
    assert Parameters.from_dict(parameters.to_dict()) == parameters
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(parameters.to_dict()))
    assert Parameters.from_file(path) == parameters
    assert parameters.to_dict()["schema"] == 1


def test_keys_left_out():
    assert Parameters.from_dict({"schema": 1}) == Parameters()
    assert Parameters.from_dict({"schema": 1, "lanes": 8}, base=preset("tiny")).link_width == 32


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        ([], TypeError, "A configuration must be a JSON object, not list"),
        ({}, ValueError, "schema of a configuration must be 1, not None"),
        ({"schema": 2}, ValueError, "schema of a configuration must be 1, not 2"),
        ({"schema": True}, ValueError, "schema of a configuration must be 1, not True"),
        (
            {"schema": 1, "lane": 4},
            ValueError,
            "Key of a configuration must be one of the known names, not 'lane'; "
            "did you mean lanes or near_lanes or memory_lanes?",
        ),
        ({"schema": 1, "lanes": 3}, ValueError, "lanes must be in 4..64, not 3"),
        ({"schema": 1, "lanes": "8"}, TypeError, "lanes must be an integer, not '8'"),
    ],
)
def test_bad_mappings(mapping, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Parameters.from_dict(mapping)


def test_bad_files(tmp_path):
    path = tmp_path / "bad.json"
    for text in ("{", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=f"^A configuration file must be JSON, not {re.escape(repr(str(path)))}: "):
            Parameters.from_file(path)
    nested = "[" * 100_000
    for text, reason in (
        (nested, "it is nested too deeply"),
        ('{"schema": 1, "lanes": 8, "lanes": 16}', "key 'lanes' stands twice"),
        ("1" * 5000, "Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^A configuration file must be JSON, not .*: {reason}"):
            Parameters.from_file(path)
    path.write_text('{"schema": true}')
    with pytest.raises(ValueError, match="^schema of a configuration must be 1, not True$"):
        Parameters.from_file(path)
    with pytest.raises(ValueError, match="^A setting|^lanes must be|^Key") as caught:
        Parameters().with_settings([f"wide={nested}"])
    assert len(str(caught.value)) < 1000
    with pytest.raises(FileNotFoundError, match="^A configuration file must be a file, not .*, which does not exist$"):
        Parameters.from_file(tmp_path / "missing.json")


def test_settings():
    changed = preset("tiny").with_settings(["lanes=8", "weight_form = float", "flip_repair=true", "memory_lanes=8"])
    assert (changed.lanes, changed.weight_form, changed.flip_repair, changed.link_width) == (8, "float", True, 32)
    # All at once: neither of these is legal alone.
    both = Parameters().with_settings(["lanes=60", "memory_lanes=12"])
    assert both.words_per_vector == 5
    for setting, message in [
        ("lanes", "A setting must be key=value, not 'lanes'"),
        ("lanes=1", "lanes must be in 4..64, not 1"),
        ("wide=1", "Key of a configuration must be one of the known names, not 'wide'; known: "),
    ]:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            Parameters().with_settings([setting])
