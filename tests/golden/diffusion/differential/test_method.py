"""Every rule of a method by its sentence, JSON, and what applies where."""

import dataclasses
import json
import re
import typing

import numpy as np
import pytest

from golden.diffusion import layers
from golden.diffusion.cost.flows import MethodFlow
from golden.diffusion.differential.method import METHODS, Method
from golden.diffusion.networks import Network
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
        ({"output_bits": 25}, ValueError, "output_bits must be in 1..24, not 25"),
        ({"output_bits": 0}, ValueError, "output_bits must be in 1..24, not 0"),
        ({"output_width": 17}, ValueError, "output_width must be in 2..16, not 17"),
        ({"refresh": -1}, ValueError, "refresh must be in 0..1000, not -1"),
        ({"mix_passes": 5}, ValueError, "mix_passes must be in 1..4, not 5"),
        ({"layer_passes": [1]}, TypeError, "layer_passes must be a mapping, not [1]"),
        ({"layer_passes": {"*": 9}}, ValueError, "layer_passes['*'] must be in 1..8, not 9"),
        (
            {"layer_passes": {"*": "2"}},
            TypeError,
            "layer_passes['*'] must be an integer in 1..8 or a list of three numbers, for early, middle and late "
            "steps, not '2'",
        ),
        (
            {"layer_passes": {"*": (1, 2)}},
            ValueError,
            "layer_passes['*'] must be of three numbers, for early, middle and late steps, not (1, 2)",
        ),
        ({"layer_passes": {"*": [1, 2, 9]}}, ValueError, "layer_passes['*'][2] must be in 1..8, not 9"),
        ({"layer_passes": {3: 2}}, TypeError, "Key of layer_passes must be a text, not 3"),
        ({"flow": "raw", "refresh": 2}, ValueError, "refresh must be 0 with flow raw, not 2"),
        ({"norm": "calibrated"}, ValueError, "norm must be current with flow closed_loop, not calibrated"),
        ({"flow": "diffy", "attention": "raw"}, ValueError, "attention must be delta with flow diffy, not raw"),
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
            {"flow": "sign_mask", "machine": SATURATE, **ONCE, "layer_passes": {"a": 1, "b": (1, 4, 1)}},
            ValueError,
            "layer_passes['b'] must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 4",
        ),
        (
            {"flow": "sign_mask", "machine": SATURATE, **ONCE, "layer_passes": {"*": 3}},
            ValueError,
            "layer_passes['*'] must be 1 with overflow_policy saturate (a saturated lane leaves no residual), not 3",
        ),
        (
            {"flow": "raw", "tensor_scale": True, "first_passes": 1},
            ValueError,
            "first_passes must be 3 with tensor_scale true, not 1",
        ),
    ],
)
def test_rules(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Method(**options)


def test_every_member_is_explained_and_every_flow():
    for field in dataclasses.fields(Method):
        assert field.metadata["help"], field.name
    for flow in typing.get_args(MethodFlow):
        assert Method(flow=flow).flow == flow


@pytest.mark.parametrize("name", METHODS)
def test_named_configurations_survive_json(name, tmp_path):
    one = Method.named(name)
    assert one is METHODS[name][1] and METHODS[name][0]
    text = json.dumps(one.to_dict())
    assert Method.from_dict(json.loads(text)) == one
    path = tmp_path / "method.json"
    path.write_text(text)
    assert Method.from_file(path) == Method.named(str(path)) == one


def test_tables_survive_json():
    one = Method(layer_passes={"up*": 2, "*": (1, 2, 3)}, layer_output_bits={"a": 4}, refresh=7)
    again = Method.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one and again.layer_passes == {"up*": 2, "*": (1, 2, 3)}


def test_keys_left_out_keep_their_defaults():
    assert Method.from_dict({"schema": 1}) == Method()
    assert Method.from_dict({"schema": 1, "machine": {"schema": 1, "lanes": 8}}).machine.lanes == 8


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
        ({"schema": 1, "machine": 3}, TypeError, "machine must be Parameters, not int"),
    ],
)
def test_mappings_are_refused(mapping, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Method.from_dict(mapping)


def test_files_are_refused(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"^A method file must be JSON, not .*broken\.json'"):
        Method.from_file(path)
    with pytest.raises(OSError):
        Method.from_file(tmp_path / "missing.json")


def test_unknown_names_are_refused_with_the_closest():
    message = "Method must be one of the known names, not 'closed-int5'; did you mean closed-int"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Method.named("closed-int5")


def network(*, moved=False):
    """What the rules speak of: products of the input, of a softmax and of neither, none of them with a telling name."""
    weight, bias = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    found = [
        layers.Linear("a", ("image",), weight=weight, bias=bias),
        layers.Linear("b", ("a",), weight=weight, bias=bias),
        layers.MatMul("c", ("a", "b"), transposed=True),
        layers.Softmax("d", ("c",)),
        *([layers.Move("m", ("d",), pattern="b i j -> b i j")] if moved else []),
        layers.MatMul("e", ("m" if moved else "d", "b")),
        layers.Linear("f", ("e",), weight=weight, bias=bias),
    ]
    return Network("rules", {"image": (4, 4)}, found, {})


def test_passes_are_the_most_that_a_rule_asks_for():
    one = Method(
        passes=1,
        first_passes=3,
        early_steps=2,
        early_passes=2,
        late_steps=3,
        last_passes=3,
        input_passes=4,
        layer_passes={"f": (1, 2, 1), "c": 4},
    )

    def passes(source, steps=10):
        return [one.passes_of(network(), source, step, steps) for step in range(10)]

    assert passes("d") == [3, 2, 2, 1, 1, 1, 1, 3, 3, 3]
    assert passes("e") == [3, 2, 2, 2, 2, 2, 2, 3, 3, 3]
    assert passes("image") == passes("a") == [4] * 10
    assert passes("d", None) == [3] + [1] * 9 and passes("e", None) == [3] + [2] * 9
    assert one.most_passes == 4


@pytest.mark.parametrize("moved", [False, True])
def test_the_mix_of_attention_is_known_by_the_graph(moved):
    one, net = Method(mix_passes=2, last_passes=1), network(moved=moved)
    found = {source: one.passes_of(net, source, 3, 10) for source in ("a", "b", "d", "m", "e") if source in net.by_name}
    assert found == {"a": 1, "b": 2, "e": 1} | ({"d": 1, "m": 2} if moved else {"d": 2})


def test_refreshes():
    assert [step for step in range(10) if Method().refreshes(step)] == [0]
    assert [step for step in range(10) if Method(refresh=4).refreshes(step)] == [0, 4, 8]
    assert all(Method(flow="raw").refreshes(step) for step in range(5))
    assert all(type(Method(refresh=4).refreshes(step)) is bool for step in range(5))


def test_what_the_named_ones_are():
    paper, loop3, loop4 = (Method.named(name) for name in ("paper", "closed-int3", "closed-int4"))
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
    assert Method.named("dense").flow == "dense"
    assert Method.named("raw-int8-tensor").tensor_scale and not Method.named("raw-int8").tensor_scale
