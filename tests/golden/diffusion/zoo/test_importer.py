import json
import re
import shutil

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
        (
            "text",
            "class_embed_type",
            "timestep",
            r"Option 'class_embed_type' of UNet2DConditionModel must be None, not 't",
        ),
        ("text", "addition_embed_type", "text_time", r"Option 'addition_embed_type' .* must be None, not 'text_time'"),
        ("text", "only_cross_attention", True, r"Option 'only_cross_attention' .* must be False, not True"),
        ("text", "new_option", 3, r"Option 'new_option' of UNet2DConditionModel is not supported, whatever .* it is 3"),
        ("text", "act_fn", "mish", r"Option 'act_fn' must be one of silu, relu, gelu, gelu-approximate, not 'mish'"),
        ("text", "sample_size", [8, 16], r"Option 'sample_size' must be one integer .*, not \[8, 16\]"),
        (
            "text",
            "down_block_types",
            ["CrossAttnDownBlock2D", "KDownBlock2D"],
            r"Layer 'down_blocks\.1' must be .* not KD",
        ),
        (
            "text",
            "mid_block_type",
            "UNetMidBlock2D",
            r"Layer 'mid_block' must be UNetMidBlock2DCrossAttn, not UNetMidBlock",
        ),
        (
            "unet_of_ddpm",
            "time_embedding_type",
            "fourier",
            r"Option 'time_embedding_type' .* must be 'positional', not",
        ),
        ("unet_of_ddpm", "downsample_padding", 2, r"Option 'downsample_padding' must be 1 or 0, not 2"),
        (
            "unet_of_ddpm",
            "resnet_time_scale_shift",
            "spatial",
            r"Option 'resnet_time_scale_shift' must be default or s",
        ),
        ("unet_of_ddpm", "attention_head_dim", 5, r"Option 'attention_head_dim' must divide the width 12, not be 5"),
        ("dit", "norm_type", "ada_norm", r"Option 'norm_type' of DiTTransformer2DModel must be 'ada_norm_zero', not"),
        ("latte", "cross_attention_dim", 12, r"Option 'cross_attention_dim' must be the width 16 or None, not 12"),
        (
            "latte",
            "_class_name",
            "LatteTransformer",
            r"Model class must be one of .*; did you mean LatteTransformer3DMod",
        ),
    ],
)
def test_options_are_refused_by_name(tmp_path, name, option, value, message):
    folder = changed(cases.RECORDED / name, tmp_path / "case", **{option: value})
    with pytest.raises(ValueError, match=f"^{message}"):
        importer.load(folder)


def test_an_option_left_out_has_the_default_of_diffusers(torch):
    import inspect

    import diffusers

    for kind, options in importer.CLASSES.items():
        signature = inspect.signature(getattr(diffusers, kind).__init__).parameters
        known = set(options.read) | set(options.fixed) | options.ignored
        assert known == set(signature) - {"self"}, kind
        for option, default in options.read.items():
            assert signature[option].default == default, (kind, option)
        for option, (default, *_) in options.fixed.items():
            assert default is ... or signature[option].default == default, (kind, option)


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
    with pytest.raises(ValueError, match=r"^Option 'num_vector_embeds' of DiTTransformer2DModel must be None, not 5$"):
        importer.load(folder)
    config = json.loads((cases.RECORDED / "latte" / "config.json").read_text())
    del config["norm_type"]
    with pytest.raises(ValueError, match=r"^Option 'norm_type' of Latte\w+ must be 'ada_norm_single', not left out$"):
        importer.outline(config)


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
    with pytest.raises(FileNotFoundError):
        importer.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"^Configuration must be a mapping, not list in "):
        importer.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"^Configuration must be JSON, not "):
        importer.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"^Weights must be in .*safetensors, which does not exist$"):
        importer.load(tmp_path)
    (tmp_path / importer.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^Weights must be a safetensors file of floats numpy knows, not "):
        importer.load(tmp_path)


def test_side_is_given_where_the_configuration_has_none():
    network = importer.load(cases.RECORDED / "unet_of_ddpm", side=16)
    assert network.inputs["image"] == (3, 16, 16)
    with pytest.raises(ValueError, match=r"^Side of DiTTransformer2DModel must be its sample_size"):
        importer.load(cases.RECORDED / "dit", side=16)
