import re

import numpy as np
import pytest

from golden.diffusion.networks import Network, Recorder
from golden.diffusion.sampling import (
    Conditioning,
    Denoiser,
    RectifiedFlow,
    Sampler,
    Sampling,
    condition,
    noise,
    null_label,
)
from golden.diffusion.sampling.streaming import Stream, Streaming
from tests.golden.diffusion.sampling import diffusers_samplings as cases
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

TEXT = cases.network(cases.CASES["text"])
DIT = cases.network(cases.CASES["dit"])
PLAIN = cases.network(cases.CASES["ddpm"])
LABELLED = cases.network(cases.CASES["guided diffusion"])
TEXTS = np.random.default_rng(0).standard_normal((2, 7, 12)).astype(np.float32)


def test_labels_numbers_and_mappings():
    labels = condition(DIT, [3, 1])
    assert labels.count == 2 and labels.values["label"].tolist() == [3, 1] and labels.null["label"].tolist() == [5, 5]
    assert condition(DIT, {"label": np.array([3, 1])}) == labels == condition(DIT, labels)
    assert condition(PLAIN, 4) == Conditioning(4, {}, {})
    text = condition(TEXT, {"text": TEXTS.astype(np.float64), "null.text": 0})
    assert (
        text.values["text"].dtype == np.float32
        and not text.null["text"].any()
        and text.null["text"].shape == (2, 7, 12)
    )


def test_equal_arrays_are_equal_conditioning():
    one, other = (condition(TEXT, {"text": TEXTS.copy()}) for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != condition(TEXT, {"text": TEXTS + 1})
    assert one != condition(TEXT, {"text": TEXTS, "null.text": 0}) and one != TEXTS.tolist()


def test_parts():
    whole = condition(TEXT, {"text": TEXTS, "null.text": TEXTS[0]})
    assert whole[1:] == condition(TEXT, {"text": TEXTS[1:], "null.text": TEXTS[0]}) and whole[1:].count == 1
    assert whole[np.array([1, 0, 1])].values["text"].shape == (3, 7, 12)


def test_a_doubled_batch_is_first_without():
    doubled = condition(DIT, [3, 1]).doubled(DIT)
    assert doubled.count == 4 and doubled.values["label"].tolist() == [5, 5, 3, 1]
    doubled = condition(TEXT, {"text": TEXTS, "null.text": TEXTS[:1] * 2}).doubled(TEXT)
    np.testing.assert_array_equal(doubled.values["text"], np.concatenate([TEXTS[[0, 0]] * 2, TEXTS]))


def test_the_null_label_is_a_row_of_the_table():
    assert null_label(DIT) == 5
    with pytest.raises(ValueError, match="^Network must have a null label to be guided, not 'UNet2DModel'$"):
        null_label(LABELLED)
    with pytest.raises(ValueError, match=r"^Labels must be integers from 0 to 4, not 5$"):
        condition(LABELLED, [5])


@pytest.mark.parametrize(
    "network, given, message",
    [
        (
            TEXT,
            {},
            "Conditioning of 'UNet2DConditionModel' must contain text of shape (images, 7, 12), not only nothing",
        ),
        (TEXT, 2, "Conditioning of 'UNet2DConditionModel' must contain text of shape (images, 7, 12), not nothing"),
        (TEXT, [3], "Conditioning of 'UNet2DConditionModel' must be text of shape (images, 7, 12), not labels"),
        (PLAIN, [3], "Conditioning of 'UNet2DModel' must be a number of images, not labels"),
        (PLAIN, -1, "Number of images must be at least 0, not -1"),
        (TEXT, {"txt": TEXTS}, "Conditioning must be one of the known names, not 'txt'; did you mean text"),
        (TEXT, {"text": TEXTS[0]}, "Conditioning 'text' must have the shape (images, 7, 12), not (7, 12)"),
        (TEXT, {"text": TEXTS * np.nan}, "Conditioning 'text' must be finite, not nan"),
        (TEXT, {"text": TEXTS > 0}, "Conditioning 'text' must be numbers, not bool"),
        (
            TEXT,
            {"text": TEXTS, "null.text": np.zeros((3, 7, 12))},
            "Conditioning 'null.text' must have the shape (7, 12), or be 0, not (3, 7, 12)",
        ),
        (
            TEXT,
            {"text": TEXTS, "null.text": 1},
            "Conditioning 'null.text' must have the shape (7, 12), or be 0, not ()",
        ),
        (DIT, {"label": [3], "null.label": 9}, "Labels must be integers from 0 to 5, not 9"),
    ],
)
def test_refusals(network, given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        condition(network, given)


def test_guidance_needs_what_stands_for_none():
    message = "Conditioning must contain 'null.text' for guidance, (7, 12) or 0, not only 'text'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Sampling(TEXT, {"text": TEXTS}, guidance=2.0)
    with pytest.raises(ValueError, match="^Network must have a null label to be guided, not 'UNet2DModel'$"):
        Sampling(PLAIN, 2, 3, guidance=2.0)


def test_arrays_of_several_sizes():
    both = Network("both", TEXT.inputs | {"fps": ()}, TEXT.layers, TEXT.config)
    with pytest.raises(ValueError, match="^Conditioning must be of as many images in every array, not text 2, fps 3$"):
        condition(both, {"text": TEXTS, "fps": np.ones(3)})
    doubled = condition(both, {"text": TEXTS, "null.text": 0, "fps": [8, 24]}).doubled(both)
    assert doubled.values["fps"].tolist() == [8, 24, 8, 24]


def test_an_output_that_is_no_prediction():
    wrong = Network("wrong", DIT.inputs, DIT.layers[:-1], DIT.config)
    message = "Output of 'wrong' must have the shape (4, 8, 8) or twice the channels, not (16, 16)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Sampling(wrong, [3])


def test_samples_do_not_depend_on_the_batch():
    given = {"text": TEXTS, "null.text": TEXTS[0] * 0.5}
    sampling = Sampling(TEXT, given, 3, seed=5, guidance=2.0)
    whole = sampling.images()
    np.testing.assert_allclose(sampling.images(batch=1), whole, atol=1e-4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Sampler(variance="learnt"), "Sampler variance must be small or large or learned, not 'learnt'"),
        (lambda: Sampler(variance="large"), "Sampler variance must be small with eta 0.0, not 'large'"),
        (lambda: Sampler(noise_scale=0.0), "Sampler noise_scale must be above 0, not 0.0"),
        (lambda: RectifiedFlow(timesteps=0), "Flow timesteps must be at least 1, not 0"),
        (lambda: RectifiedFlow(shift=0.0), "Flow shift must be above 0, not 0.0"),
        (
            lambda: RectifiedFlow(prediction="velocity"),
            "Flow prediction must be image or noise, not 'velocity'",
        ),
        (lambda: RectifiedFlow().plan(0), "Steps must be at least 1, not 0"),
        (
            lambda: Sampling(DIT, [3], 2, process=Sampler(eta=1.0, variance="learned")).images(),
            "Prediction must have 8 channels with a learned variance, not half",
        ),
    ],
)
def test_processes_refuse(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


def test_noise_scale_and_predicted_images():
    network, start = random_unet(), noise(random_unet(), 0, 2)
    seen = []

    def denoiser(image, *_):
        seen.append(image)
        return np.full_like(image, 0.25)

    *_, last = Sampler(noise_scale=3.0, prediction="image").run(denoiser, start, 4)
    np.testing.assert_array_equal(seen[0], 3 * start)
    np.testing.assert_allclose(last.image, 0.25, atol=1e-6)
    sampling = Sampling(network, [1, 2], 3, process=Sampler(noise_scale=3.0))
    scaled = sampling.images()
    *_, expected = Sampler().run(Denoiser(sampling), 3 * noise(network, 0, 2), 3)
    np.testing.assert_array_equal(scaled, expected.image)


# Streams -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual, rows", [("none", [1, 1]), ("onetime", [0, 1, 1]), ("full", [0, 0, 1, 1])])
def test_a_stream_of_latents_towards_a_text(residual, rows):
    given = {"text": TEXTS[:1], "null.text": TEXTS[1]}
    recorder = Recorder(["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"])
    stream = Stream(TEXT, given, Streaming([600, 300], residual=residual, clip=False), executor=recorder)
    assert stream.push(np.ones((4, 8, 8))) is None and stream.push(np.ones((4, 8, 8))).shape == (4, 8, 8)
    (record,) = recorder.records.values()
    np.testing.assert_array_equal(record.inputs[0], TEXTS[::-1][rows])


def test_a_stream_of_clips_leaves_the_variance_out():
    latte = cases.network(cases.CASES["latte"])
    given = {name: value[:1] for name, value in cases.given(cases.CASES["latte"]).items() if name == "text"}
    stream = Stream(latte, given, Streaming([600]))
    assert stream.push(np.zeros((4, 3, 8, 8))).shape == (4, 3, 8, 8)


def test_streams_refuse():
    with pytest.raises(ValueError, match="^Conditioning of a stream must be of one image, not 2$"):
        Stream(TEXT, {"text": TEXTS}, Streaming([600]))
    for options, message in (
        ({"interval": 0}, "Stream interval must be at least 1, not 0"),
        ({"interval": 2, "reference": "measured"}, "Stream interval must be 1 with references along measured, not 2"),
        ({"interval": 2, "branch": 7}, "Branch must be the name of a layer or below 2 in 'unet', not 7"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Stream(random_unet(), 3, Streaming([600, 300], **options))


def test_an_interval_reuses_the_deep_value_of_the_slot():
    """Whole calls fill the stream; then one in three is whole. A still video gives what it gave without."""
    network, frame = random_unet(), np.full((1, 8, 8), 0.5, np.float32)
    calls = []

    def executor(layer, values):
        if layer.name == "middle.block.conv1":
            calls.append(stream.calls)
        return layer(*values)

    stream = Stream(network, 3, Streaming([600, 300], interval=3), executor=executor)
    plain = Stream(network, 3, Streaming([600, 300]))
    for _ in range(9):
        found, expected = stream.push(frame), plain.push(frame)
    assert calls == [0, 1, 4, 7]
    np.testing.assert_allclose(found, expected, atol=1e-5)
