import dataclasses
import json
import re
import shutil
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from golden.diffusion.networks import Recorder, published
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.zoo import importer
from tests.golden.diffusion.zoo import diffusers_cases as cases

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def torch():
    found = pytest.importorskip("torch", reason="needs the extra 'import'")
    pytest.importorskip("diffusers", reason="needs the extra 'import'")
    found.set_num_threads(1)  # threads of several test processes would only wait for each other
    return found


def near(got, expected, name):
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max(), name


def changed(folder, target, **options):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text()) | options
    (target / "config.json").write_text(json.dumps(config))
    return target


def rewritten(folder, target, change):
    shutil.copytree(folder, target)
    parameters = safetensors.numpy.load_file(target / importer.WEIGHTS)
    change(parameters)
    safetensors.numpy.save_file(parameters, target / importer.WEIGHTS)
    return target


@pytest.mark.parametrize("name", cases.SHIPPED)
def test_recorded_outputs_of_torch(name):
    folder = cases.RECORDED / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 110_000
    network = importer.load(folder, tokens=cases.tokens(cases.CASES[name][0]))
    with np.load(folder / "expected.npz") as file:
        recorded = dict(file)
    recorder = Recorder()
    network(*(recorded[f"inputs/{given}"] for given in network.inputs), executor=recorder)
    outputs = {key.removeprefix("outputs/"): value for key, value in recorded.items() if key.startswith("outputs/")}
    assert network.layers[-1].name in outputs and len(outputs) >= 3
    for path, expected in outputs.items():
        near(recorder.records[path].output, expected.reshape(recorder.records[path].output.shape), path)


@pytest.mark.parametrize("name", cases.SHIPPED)
def test_a_weight_half_a_percent_off_is_seen(name, tmp_path):
    def damage(parameters):
        weight = next(key for key in sorted(parameters) if key.endswith("to_v.weight"))
        parameters[weight] = (parameters[weight] * 1.005).astype(np.float32)

    kind, _ = cases.CASES[name]
    network = importer.load(rewritten(cases.RECORDED / name, tmp_path / "case", damage), tokens=cases.tokens(kind))
    with np.load(cases.RECORDED / name / "expected.npz") as file:
        value = network(*(file[f"inputs/{given}"] for given in network.inputs))
        expected = file[f"outputs/{network.layers[-1].name}"]
    with pytest.raises(AssertionError, match=r"^output\b"):
        near(value, expected, "output")


@pytest.mark.parametrize("name", cases.CASES)
def test_numpy_and_torch_agree_on_every_module(torch, name):
    kind, _ = cases.CASES[name]
    found = cases.model(name)
    network = importer.convert(found, tokens=cases.tokens(kind))
    inputs = cases.inputs(network.inputs)
    expected = cases.outputs(found, inputs)
    recorder = Recorder()
    near(network(*inputs.values(), executor=recorder), expected[""], "output")
    compared = [
        path
        for path, record in recorder.records.items()
        # a patch embedding is tokens here and an image there
        if path in expected and expected[path].size == record.output.size and path != "pos_embed.proj"
    ]
    assert len(compared) >= 30
    for path in compared:
        output = recorder.records[path].output
        near(output, expected[path].reshape(output.shape), path)
    shapes = network.shapes(2)
    assert all(record.output.shape == shapes[path] for path, record in recorder.records.items())


@pytest.mark.parametrize("name", ["unet", "text", "dit", "latte"])
def test_folder_as_diffusers_writes_it(torch, name, tmp_path):
    kind, _ = cases.CASES[name]
    found = cases.model(name)
    found.save_pretrained(tmp_path / "one")
    found.save_pretrained(tmp_path / "many", max_shard_size="50KB")
    assert not (tmp_path / "many" / importer.WEIGHTS).exists()
    live = importer.convert(found, tokens=cases.tokens(kind)).parameters()
    for folder in ("one", "many"):
        read = importer.load(tmp_path / folder, tokens=cases.tokens(kind)).parameters()
        assert read.keys() == live.keys()
        assert all(np.array_equal(read[parameter], live[parameter]) for parameter in live)


def test_a_module_of_another_kind_is_refused_by_its_path(torch):
    found = cases.model("unet")
    found.down_blocks[1].attentions[0].group_norm = torch.nn.InstanceNorm2d(12)
    with pytest.raises(
        ValueError, match=r"^Layer 'down_blocks\.1\.attentions\.0\.group_norm' is not supported: it is a In"
    ):
        importer.convert(found)


def test_an_unknown_layer_is_refused_by_its_path(tmp_path):
    def add(parameters):
        parameters["down_blocks.1.attentions.0.norm_extra.weight"] = np.ones(12, np.float32)

    folder = rewritten(cases.RECORDED / "unet_of_ddpm", tmp_path / "case", add)
    message = (
        r"^Layer 'down_blocks\.1\.attentions\.0\.norm_extra' is not supported: its parameter .*weight' is left over$"
    )
    with pytest.raises(ValueError, match=message):
        importer.load(folder)


def test_parameters_left_over_missing_and_misshapen(tmp_path):
    folder = cases.RECORDED / "text"

    def extra(parameters):
        parameters["conv_in.gain"] = np.ones(1, np.float32)

    def missing(parameters):
        del parameters["mid_block.resnets.0.conv1.bias"]

    def shape(parameters):
        parameters["conv_out.weight"] = parameters["conv_out.weight"][:, :4].copy()

    def poison(parameters):
        parameters["conv_out.bias"][1] = np.nan

    for change, message in (
        (extra, r"^Parameter 'conv_in\.gain' is left over: layer 'conv_in' has none of this name$"),
        (missing, r"^Checkpoint must contain the parameter 'mid_block\.resnets\.0\.conv1\.bias'; it is missing$"),
        (shape, r"^Parameter 'conv_out\.weight' must have the shape \(4, 8, 3, 3\), not \(4, 4, 3, 3\)$"),
        (poison, r"^Parameter 'conv_out\.bias' must be finite, not nan$"),
    ):
        with pytest.raises(ValueError, match=message):
            importer.load(rewritten(folder, tmp_path / change.__name__, change))


@pytest.mark.parametrize(
    "name, option, value, message",
    [
        ("text", "class_embed_type", "timestep", "must be None, not 'timestep'"),
        ("text", "addition_embed_type", "text_time", "must be None, not 'text_time'"),
        ("text", "only_cross_attention", True, "must be False or a list, not True"),
        ("text", "only_cross_attention", [False, True], "[1] must be False, not True"),
        ("text", "new_option", 3, "is not supported, whatever its value; it is 3"),
        ("text", "act_fn", "mish", "must be silu or swish or relu or gelu, not 'mish'"),
        ("text", "sample_size", [8, 16], "must be one integer, not (8, 16)"),
        ("text", "sample_size", 0, "must be at least 1, not 0"),
        ("text", "down_block_types", ["CrossAttnDownBlock2D", "KDown"], "[1] must be DownBlock2D or ResnetDownsa"),
        ("text", "mid_block_type", "UNetMidBlock2D", "must be UNetMidBlock2DCrossAttn or None, not 'UNetMidBlock2D'"),
        ("text", "cross_attention_dim", None, "must be an integer at least 1 or a list, not None"),
        ("text", "attention_head_dim", 0, "must be at least 1, not 0"),
        ("text", "layers_per_block", [1, 1, 1], "must be of 2 levels, not (1, 1, 1)"),
        ("text", "flip_sin_to_cos", "false", "must be true or false, not 'false'"),
        ("text", "freq_shift", "0", "must be a number, not '0'"),
        ("text", "norm_num_groups", None, "must be an integer, not None"),
        ("text", "in_channels", True, "must be an integer, not True"),
        ("unet_of_ddpm", "time_embedding_type", "fourier", "must be positional, not 'fourier'"),
        ("unet_of_ddpm", "downsample_padding", 2, "must be 1 or 0, not 2"),
        ("unet_of_ddpm", "resnet_time_scale_shift", "spatial", "must be default or scale_shift, not 'spatial'"),
        ("unet_of_ddpm", "attention_head_dim", 5, "must divide the width 12, not be 5"),
        ("unet_of_ddpm", "attention_head_dim", 0, "must be at least 1, not 0"),
        ("unet_of_ddpm", "norm_eps", -1e-5, "must be above 0, not -1e-05"),
        ("unet_of_ddpm", "norm_eps", float("nan"), "must be finite, not nan"),
        ("unet_of_ddpm", "block_out_channels", None, "must be a list, not None"),
        ("unet_of_ddpm", "block_out_channels", [], "must be of at least one level, not ()"),
        ("unet_of_ddpm", "block_out_channels", [8, "12"], "[1] must be an integer, not '12'"),
        ("unet_of_ddpm", "add_attention", "no", "must be true or false, not 'no'"),
        ("dit", "norm_type", "ada_norm", "must be ada_norm_zero, not 'ada_norm'"),
        ("dit", "num_layers", "2", "must be an integer, not '2'"),
        ("latte", "cross_attention_dim", 12, "must be the width 16 or None, not 12"),
    ],
)
def test_options_are_refused_by_name(tmp_path, name, option, value, message):
    folder = changed(cases.RECORDED / name, tmp_path / "case", **{option: value})
    kind = json.loads((folder / "config.json").read_text())["_class_name"]
    with pytest.raises((TypeError, ValueError), match=f"^{kind} option {option} ?{re.escape(message)}"):
        importer.load(folder)


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], "\u00e9", float("nan")])
@pytest.mark.parametrize("name", ["text", "latte", "dit", "unet_of_ddpm"])
def test_no_option_takes_another_type(name, value):
    """Whatever stands in a file: what is checked, is refused by the name of the option."""
    config = importer.configuration(cases.RECORDED / name)
    kind = importer.CLASSES[config["_class_name"]]
    checked = [field.name for field in dataclasses.fields(kind) if field.type is not Any]
    assert len(checked) > 10
    for option in checked:
        with pytest.raises((TypeError, ValueError), match=f"^{config['_class_name']} option {option}[^ ]* must "):
            kind.read(config | {option: value})


def test_an_unknown_class_is_refused_with_the_closest():
    with pytest.raises(ValueError, match=r"^Model class must be one of .*; did you mean LatteTransformer3DModel"):
        importer.outline({"_class_name": "LatteTransformer"})


@pytest.mark.parametrize("value", [False, [False, False]])
def test_an_option_without_effect_is_not_refused(tmp_path, value):
    folder = changed(cases.RECORDED / "text", tmp_path / "case", only_cross_attention=value)
    assert importer.outline(importer.configuration(folder)).layers


def test_an_option_that_must_be_given():
    config = importer.configuration(cases.RECORDED / "latte")
    del config["norm_type"]
    with pytest.raises(
        ValueError, match="^LatteTransformer3DModel option norm_type must be ada_norm_single, not left out$"
    ):
        importer.outline(config)


def test_an_option_left_out_has_the_default_of_diffusers(torch):
    import inspect

    import diffusers

    for kind, options in importer.CLASSES.items():
        signature = inspect.signature(getattr(diffusers, kind).__init__).parameters
        fields = {field.name: field for field in dataclasses.fields(options) if field.name not in options.former}
        assert fields.keys() == set(signature) - {"self"}, kind
        for option, field in fields.items():
            if field.type is not Any and field.default is not dataclasses.MISSING:
                assert signature[option].default == field.default, (kind, option)


GUIDED = {
    "in_channels": 3,
    "out_channels": 6,
    "sample_size": 256,
    "block_out_channels": (256, 256, 512, 512, 1024, 1024),
    "down_block_types": ("ResnetDownsampleBlock2D",) * 3 + ("AttnDownBlock2D",) * 3,
    "up_block_types": ("AttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",) * 3,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attention_head_dim": 64,
    "attn_norm_num_groups": 32,
    "resnet_time_scale_shift": "scale_shift",
    "num_class_embeds": 1000,
}
FULL = {
    "sd15": ("UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768}),
    "guided-diffusion-256": ("UNet2DModel", GUIDED),
    "dit-xl-2": ("DiTTransformer2DModel", {"out_channels": 8}),
    "ldm-4": (
        "UNet2DConditionModel",
        {
            "sample_size": 64,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (192, 384, 576, 960),
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
            "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
            "cross_attention_dim": 512,
            "attention_head_dim": 1,
        },
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_published_networks_are_those_of_diffusers(torch, name):
    import diffusers

    kind, config = FULL[name]
    with torch.device("meta"):
        found = getattr(diffusers, kind)(**config)
    expected = {parameter: tuple(value.shape) for parameter, value in found.state_dict().items()}
    network = importer.outline({**config, "_class_name": kind}, tokens=1 if name == "ldm-4" else None)
    twin = published.network(name)
    assert network.config == twin.config
    assert network.macs() == twin.macs()
    asked = {}

    def source(parameter, shape):
        asked[parameter] = shape
        return unallocated(parameter, shape)

    found = published.PUBLISHED[name]
    found.build(found.config, source)
    copies = {parameter for parameter in expected if re.match(r"transformer_blocks\.[1-9]\d*\.norm1\.emb\.", parameter)}
    assert asked.keys() == expected.keys() - copies
    for parameter, shape in asked.items():
        assert np.prod(shape) == np.prod(expected[parameter]) and shape[0] == expected[parameter][0], parameter


def test_configurations_of_older_releases(tmp_path):
    former = {"attention_type": "default", "num_vector_embeds": None, "norm_num_groups": 32, "upcast_attention": False}
    importer.load(changed(cases.RECORDED / "latte", tmp_path / "latte", **former), tokens=7)
    importer.load(changed(cases.RECORDED / "dit", tmp_path / "dit", **former))
    folder = changed(cases.RECORDED / "dit", tmp_path / "other", num_vector_embeds=5)
    with pytest.raises(ValueError, match="^DiTTransformer2DModel option num_vector_embeds must be None, not 5$"):
        importer.load(folder)


def test_copies_of_the_embedder_are_read_once(tmp_path):
    def copy(parameters):
        for name in list(parameters):
            if name.startswith("transformer_blocks.1.norm1.emb."):
                parameters[name] = parameters[name.replace("blocks.1", "blocks.0")]

    network = importer.load(rewritten(cases.RECORDED / "dit", tmp_path / "case", copy))
    assert network.config["shared"] and not importer.load(cases.RECORDED / "dit").config["shared"]
    assert sum(layer.kind == "time_encoding" for layer in network.layers) == 1


def test_old_checkpoints_name_attention_and_the_class_otherwise(tmp_path):
    def rename(parameters):
        for name in list(parameters):
            if "attentions." in name:
                old = name
                for now, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                    old = old.replace(now, then)
                parameters[old] = parameters.pop(name)

    folder = cases.RECORDED / "unet_of_ddpm"
    old, now = importer.load(rewritten(folder, tmp_path / "unet", rename)), importer.load(folder)
    assert all(np.array_equal(value, old.parameters()[name]) for name, value in now.parameters().items())

    def tabled(parameters):
        parameters["pos_embed.pos_embed"] = table[None]

    table = importer.load(cases.RECORDED / "dit").by_name["pos_embed"].table
    importer.load(rewritten(cases.RECORDED / "dit", tmp_path / "dit", tabled))
    folder = changed(cases.RECORDED / "dit", tmp_path / "old", _class_name="Transformer2DModel")
    importer.load(folder)
    table = table[::-1]
    with pytest.raises(
        ValueError, match=r"^Parameter 'pos_embed\.pos_embed' must be the sinusoidal table of positions"
    ):
        importer.load(rewritten(cases.RECORDED / "dit", tmp_path / "turned", tabled))


def test_files_that_are_not_a_checkpoint(tmp_path):
    def refused(error, message):
        with pytest.raises(error, match=f"^{message}"):
            importer.load(tmp_path)

    refused(FileNotFoundError, r"Configuration must be a file, not '.*config\.json', which does not exist$")
    (tmp_path / "config.json").write_text("[]")
    refused(TypeError, r"Configuration '.*config\.json' must be a mapping, not \[\]$")
    (tmp_path / "config.json").write_text("{")
    refused(ValueError, "Configuration must be JSON, not ")
    (tmp_path / "config.json").write_text("{}")
    refused(FileNotFoundError, r"Weights must be in '.*safetensors', which does not exist$")
    for other in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        (tmp_path / other).write_bytes(b"")
    refused(
        FileNotFoundError,
        r"Weights must be in '.*', which does not exist; "
        r"found diffusion_pytorch_model\.bin, diffusion_pytorch_model\.fp16\.safetensors, which `save_pretrained`",
    )
    (tmp_path / importer.WEIGHTS).write_bytes(b"nothing")
    refused(ValueError, "Weights must be a safetensors file, not ")


@pytest.mark.parametrize(
    "index, message",
    [
        ([], r"Index '.*' must be a mapping, not \[\]"),
        ({}, "weight_map of '.*' must be a mapping, not None"),
        ({"weight_map": ["a"]}, r"weight_map of '.*' must be a mapping, not \['a'\]"),
        ({"weight_map": {"a": 3}}, r"weight_map of '.*'\['a'\] must be a text, not 3"),
        ({"weight_map": {"a": "../a"}}, r"weight_map of '.*'\['a'\] must be a file in the same folder, not '\.\./a'"),
        ({"weight_map": {"a": "b.safetensors"}}, r"Weights must be in '.*b\.safetensors', which does not exist"),
    ],
)
def test_an_index_is_checked(tmp_path, index, message):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / f"{importer.WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=f"^{message}$"):
        importer.load(tmp_path)


def test_side_is_given_where_the_configuration_has_none():
    network = importer.load(cases.RECORDED / "unet_of_ddpm", side=16)
    assert network.inputs["image"] == (3, 16, 16)
    with pytest.raises(ValueError, match=r"^Side of DiTTransformer2DModel must be its sample_size"):
        importer.load(cases.RECORDED / "dit", side=16)


def test_a_model_of_no_reader_is_one_sentence():
    class Digits:
        def named_modules(self):
            return []

    with pytest.raises(TypeError, match=r"^Model must be of diffusers, with a config, not Digits: docs/own-network"):
        importer.convert(Digits())
