"""Every rule of a configuration by its sentence, JSON, and what applies where."""

import dataclasses
import json
import re

import pytest

from golden.diffusion.cost.flows import METHOD_FLOWS
from golden.diffusion.differential.configuration import CONFIGURATIONS, Configuration, configuration
from golden.parameters import Parameters

pytestmark = pytest.mark.golden

SATURATE = Parameters(exponent_policy="layer", overflow_policy="saturate", output_passes=1)
ONCE = {"last_passes": 1, "input_passes": 1}


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"machine": {}}, TypeError, "machine must be Parameters, not dict"),
        (
            {"flow": "closed"},
            ValueError,
            "flow must be dense or raw or diffy or sign_mask or closed_loop, not 'closed'",
        ),
        ({"norm": "old"}, ValueError, "norm must be current or calibrated, not 'old'"),
        ({"attention": 1}, ValueError, "attention must be delta or raw, not 1"),
        ({"choice": "cheap"}, ValueError, "choice must be delta or cost, not 'cheap'"),
        ({"tensor_scale": None}, TypeError, "tensor_scale must be true or false, not None"),
        ({"passes": 0}, ValueError, "passes must be in 1..4, not 0"),
        ({"passes": 1.0}, TypeError, "passes must be an integer, not 1.0"),
        ({"passes": True}, TypeError, "passes must be an integer, not True"),
        ({"first_passes": 9}, ValueError, "first_passes must be in 1..8, not 9"),
        ({"early_steps": -1}, ValueError, "early_steps must be in 0..1000, not -1"),
        ({"early_passes": 5}, ValueError, "early_passes must be in 1..4, not 5"),
        ({"late_steps": 1001}, ValueError, "late_steps must be in 0..1000, not 1001"),
        ({"last_passes": 0}, ValueError, "last_passes must be in 1..4, not 0"),
        ({"input_passes": 0}, ValueError, "input_passes must be in 1..8, not 0"),
        ({"raw_passes": 9}, ValueError, "raw_passes must be in 1..8, not 9"),
        ({"output_bits": 25}, ValueError, "output_bits must be in 1..24, not 25"),
        ({"output_bits": 0}, ValueError, "output_bits must be in 1..24, not 0"),
        ({"output_width": 17}, ValueError, "output_width must be in 2..16, not 17"),
        ({"refresh": -1}, ValueError, "refresh must be in 0..1000, not -1"),
        ({"step_passes": [1]}, TypeError, "step_passes must be a mapping, not [1]"),
        ({"step_passes": {3: 9}}, ValueError, "step_passes[3] must be in 1..8, not 9"),
        ({"step_passes": {"3": 2}}, TypeError, "Key of step_passes must be an integer, not '3'"),
        ({"layer_passes": {"*": "2"}}, TypeError, "layer_passes['*'] must be an integer, not '2'"),
        ({"layer_passes": {3: 2}}, TypeError, "Key of layer_passes must be a pattern of names, not 3"),
        ({"flow": "raw", "choice": "cost"}, ValueError, "choice must be delta with flow raw, not cost"),
        ({"norm": "calibrated"}, ValueError, "norm must be current with flow closed_loop, not calibrated"),
        ({"attention": "raw"}, ValueError, "attention must be delta with flow closed_loop, not raw"),
        (
            {"machine": Parameters(state_format="float16")},
            ValueError,
            "state_format must be fixed with flow closed_loop, not float16",
        ),
        ({"machine": SATURATE}, ValueError, "exponent_policy must be group with flow closed_loop, not layer"),
        (
            {"output_width": 3, "machine": Parameters(digit_width=4)},
            ValueError,
            "output_width must be at least digit_width = 4, not 3",
        ),
        ({"tensor_scale": True}, ValueError, "tensor_scale must be false with flow closed_loop, not true"),
        (
            {"machine": Parameters(flip_repair=True)},
            ValueError,
            "flip_repair must be false with flow closed_loop, not true",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, "passes": 2},
            ValueError,
            "passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 2",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, "last_passes": 2},
            ValueError,
            "last_passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 2",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, "last_passes": 1, "early_passes": 3},
            ValueError,
            "early_passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 3",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, "last_passes": 1},
            ValueError,
            "input_passes must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 3",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, **ONCE, "step_passes": {1: 1, 3: 4}},
            ValueError,
            "step_passes[3] must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 4",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, **ONCE, "layer_passes": {"*": 3}},
            ValueError,
            "layer_passes['*'] must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 3",
        ),
        ({"step_passes": {-1: 2}}, ValueError, "Key of step_passes must be at least 0, not -1"),
        (
            {"flow": "raw", "tensor_scale": True, "first_passes": 1},
            ValueError,
            "first_passes must be 3 with tensor_scale true, not 1",
        ),
    ],
)
def test_rules(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Configuration(**options)


def test_every_member_is_explained_and_every_flow():
    for field in dataclasses.fields(Configuration):
        assert field.metadata["help"], field.name
    for flow in METHOD_FLOWS:
        assert Configuration(flow=flow).flow == flow


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_named_configurations_survive_json(name, tmp_path):
    one = configuration(name)
    assert one is CONFIGURATIONS[name][1] and CONFIGURATIONS[name][0]
    text = json.dumps(one.to_dict())
    assert Configuration.from_dict(json.loads(text)) == one
    path = tmp_path / "method.json"
    path.write_text(text)
    assert Configuration.from_file(path) == configuration(str(path)) == one


def test_tables_survive_json():
    one = Configuration(step_passes={3: 2, 10: 4}, layer_passes={"up*": 2}, refresh=7)
    again = Configuration.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one and again.step_passes == {3: 2, 10: 4}


def test_keys_left_out_keep_their_defaults():
    assert Configuration.from_dict({"schema": 1}) == Configuration()
    assert Configuration.from_dict({"schema": 1, "machine": {"schema": 1, "lanes": 8}}).machine.lanes == 8


@pytest.mark.parametrize(
    "mapping, error, message",
    [
        ([], TypeError, "A method must be a JSON object, not list"),
        ({}, ValueError, "schema of a method must be 1, not None"),
        ({"schema": 2}, ValueError, "schema of a method must be 1, not 2"),
        (
            {"schema": 1, "pases": 2},
            ValueError,
            "Key of a method must be one of the known names, not 'pases'; did you mean passes",
        ),
        (
            {"schema": 1, "machine": {"schema": 1, "lane": 2}},
            ValueError,
            "Key of a configuration must be one of the known names, not 'lane'; did you mean lanes",
        ),
        ({"schema": 1, "machine": 3}, TypeError, "A configuration must be a JSON object, not int"),
        ({"schema": 1, "step_passes": {"x": 2}}, TypeError, "Key of step_passes must be an integer, not 'x'"),
    ],
)
def test_mappings_are_refused(mapping, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Configuration.from_dict(mapping)


def test_files_are_refused(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"^A method file must be JSON, not .*broken\.json'"):
        Configuration.from_file(path)
    with pytest.raises(OSError):
        Configuration.from_file(tmp_path / "missing.json")


def test_unknown_names_are_refused_with_the_closest():
    message = "Method must be one of the known names, not 'closed-int5'; did you mean closed-int"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        configuration("closed-int5")


def test_passes_are_the_most_that_a_rule_asks_for():
    one = Configuration(
        passes=1,
        early_steps=2,
        early_passes=2,
        late_steps=3,
        last_passes=3,
        input_passes=4,
        step_passes={5: 2, 9: 1},
        layer_passes={"up?.conv": 2, "*.mix": 4},
    )

    def passes(step, *readers, first=False):
        return one.passes_of(step, 10, readers or ("other",), first_layer=first)

    assert [passes(step) for step in range(10)] == [1, 2, 2, 1, 1, 2, 1, 3, 3, 3]
    assert passes(4, first=True) == 4
    assert passes(4, "up1.conv") == 2 and passes(4, "up12.conv") == 1
    assert passes(4, "up1.conv", "a.mix") == 4 and passes(8, "up1.conv") == 3


def test_refreshes():
    assert [step for step in range(10) if Configuration().refreshes(step)] == [0]
    assert [step for step in range(10) if Configuration(refresh=4).refreshes(step)] == [0, 4, 8]
    assert all(Configuration(flow="raw").refreshes(step) for step in range(5))
    assert all(type(Configuration(refresh=4).refreshes(step)) is bool for step in range(5))


def test_what_the_named_ones_are():
    paper, loop3, loop4 = (configuration(name) for name in ("paper", "closed-int3", "closed-int4"))
    machine = paper.machine
    assert (machine.digit_width, machine.lanes, machine.outliers, machine.exponent_policy) == (3, 60, 4, "layer")
    assert paper.flow == "sign_mask" and paper.norm == "calibrated" and paper.attention == "raw"
    assert [(one.machine.digit_width, one.machine.outliers, one.machine.lanes) for one in (loop3, loop4)] == [
        (3, 0, 32),
        (4, 0, 32),
    ]
    assert not loop3.refresh and not loop4.refresh
    assert [(one.output_allocation, one.output_bits) for one in (loop3, loop4)] == [("gain", 11.5), ("gain", 12.75)]
    assert [(one.first_passes, one.early_steps, one.late_steps) for one in (loop3, loop4)] == [(5, 8, 3), (4, 8, 3)]
    assert (loop3.input_passes, loop4.input_passes) == (3, 2)
    once = (paper.passes, paper.early_passes, paper.last_passes, paper.input_passes)
    assert once == (1, 1, 1, 1) and paper.first_passes == 3
    assert configuration("dense").flow == "dense"
    assert configuration("raw-int8-tensor").tensor_scale and not configuration("raw-int8").tensor_scale
