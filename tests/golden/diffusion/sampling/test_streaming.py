import re

import numpy as np
import pytest

from golden.diffusion.networks import Recorder
from golden.diffusion.networks.graph import StatefulExecutor
from golden.diffusion.sampling import Schedule, noise
from golden.diffusion.sampling.streaming import Similarity, SimilarityFilter, Stream, Streaming, distance
from tests.golden.diffusion.sampling.executors import Differential
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

TIMESTEPS = (600, 400, 200)


@pytest.fixture(scope="module")
def network():
    return random_unet()


@pytest.fixture(scope="module")
def guidable():
    return random_unet(null_label=True)


@pytest.fixture(scope="module")
def video():
    """Frames that change little by little."""
    rng = np.random.default_rng(0)
    steps = np.concatenate([rng.uniform(-0.5, 0.5, (1, 1, 8, 8)), rng.normal(0, 0.03, (7, 1, 8, 8))])
    return np.cumsum(steps, axis=0).astype(np.float32)


def levels(timesteps=TIMESTEPS):
    signal = Schedule().signal[list(timesteps)]
    return np.sqrt(signal), np.sqrt(1 - signal)


@pytest.mark.parametrize("renoise", [True, False])
def test_each_image_is_its_frame_denoised_alone(network, video, renoise):
    """Frame after frame, level after level, with the noise of each slot."""
    a, b = levels()
    fixed = noise(network, 4, 3)
    expected = []
    for frame in video:
        x = a[0] * frame + b[0] * fixed[0]
        for i, timestep in enumerate(TIMESTEPS):
            predicted = network(x[None], np.array([timestep]), np.array([3]))[0]
            clean = np.clip((x - b[i] * predicted) / a[i], -1, 1)
            if i < 2:
                x = a[i + 1] * clean + (b[i + 1] * fixed[i + 1] if renoise else 0)
        expected.append(clean)
    stream = Stream(network, 3, Streaming(TIMESTEPS, seed=4, renoise=renoise))
    images = [stream.push(frame) for frame in video]
    assert images[:2] == [None, None] and stream.calls == len(video)
    np.testing.assert_allclose(images[2:], expected[:-2], atol=1e-3)


def test_lcm_scalings_blend_with_the_input(network, video):
    """Boundary condition of a consistency model: at timestep 0 the image is the input."""
    a, b = levels([0])
    x = a[0] * video[0] + b[0] * noise(network, 0, 1)[0]
    stream = Stream(network, 3, Streaming([0], scalings="lcm", clip=False))
    np.testing.assert_allclose(stream.push(video[0]), x, atol=1e-6)
    # elsewhere: scalings of diffusers' LCMScheduler, sigma_data 0.5 and timesteps times 10
    a, b = levels([1])
    x = a[0] * video[0] + b[0] * noise(network, 0, 1)[0]
    predicted = network(x[None], np.array([1]), np.array([3]))[0]
    skip, out = 0.25 / 100.25, 10 / np.sqrt(100.25)
    expected = out * (x - b[0] * predicted) / a[0] + skip * x
    np.testing.assert_allclose(
        Stream(network, 3, Streaming([1], scalings="lcm", clip=False)).push(video[0]), expected, atol=1e-5
    )


@pytest.mark.parametrize("residual, extra", [("none", 0), ("self", 0), ("onetime", 1), ("full", 3)])
def test_items_of_a_call(guidable, video, residual, extra):
    recorder = Recorder(["label.embedding", "time.encoding", "stem.conv"])
    stream = Stream(guidable, 3, Streaming(TIMESTEPS, residual=residual), executor=recorder)
    assert stream.items == extra + 3
    stream.push(video[0])
    stream.push(video[1])
    seen = {name: record.inputs[0] for name, record in recorder.records.items()}
    assert seen["label.embedding"].tolist() == [10] * extra + [3] * 3
    assert seen["time.encoding"].tolist() == [*TIMESTEPS[:extra], *TIMESTEPS]
    np.testing.assert_array_equal(seen["stem.conv"][:extra], seen["stem.conv"][extra : 2 * extra])


def walk(network, video, residual, guidance, delta):
    """The published recursion, slot by slot; also the noise without label that each slot was guided by."""
    a, b = levels()
    fixed = noise(network, 4, 3).astype(np.float64)
    buffer, stock = [np.zeros(video.shape[1:])] * 2, [np.zeros(video.shape[1:])] * 3
    images, negatives, inputs = [], [], []

    def predict(x, timestep, label):
        return network(x[None].astype(np.float32), np.array([timestep]), np.array([label]))[0]

    for frame in video:
        slots = [a[0] * frame + b[0] * fixed[0], *buffer]
        stock = [fixed[0], *stock[:-1]]
        if residual == "onetime":
            stock[0] = predict(slots[0], TIMESTEPS[0], 10)
        clean, following = [], []
        negatives.append([])
        for i, (x, timestep) in enumerate(zip(slots, TIMESTEPS, strict=True)):
            without = predict(x, timestep, 10) if residual == "full" else delta * stock[i]
            negatives[-1].append(without)
            predicted = without + guidance * (predict(x, timestep, 3) - without)
            clean.append((x - b[i] * predicted) / a[i])
            away = (b[i] * stock[i] - b[i] * predicted) / a[i]
            next_a, next_b = (a[i + 1], b[i + 1]) if i < 2 else (1, 1)
            following.append(fixed[(i + 1) % 3] + next_a * away / next_b)
        stock = following
        inputs.append(slots)
        buffer = [a[i + 1] * clean[i] + b[i + 1] * fixed[i + 1] for i in range(2)]
        images.append(clean[-1])
    return images, negatives, inputs


@pytest.mark.parametrize("residual", ["self", "onetime", "full"])
@pytest.mark.parametrize("delta", [1.0, 0.5])
def test_residual_guidance_as_published(guidable, video, residual, delta):
    stream = Stream(guidable, 3, Streaming(TIMESTEPS, residual=residual, guidance=1.4, delta=delta, clip=False, seed=4))
    images = [stream.push(frame) for frame in video]
    expected, _, _ = walk(guidable, video, residual, 1.4, delta)
    np.testing.assert_allclose(images[2:], expected[2:], rtol=1e-3, atol=1e-2)


def test_self_negative_noise_leads_back_to_the_input_frame(guidable, video):
    """The paper's definition of the virtual residual noise: (x - a x0) / b, x0 the frame that the slot works on."""
    a, b = levels()
    _, negatives, inputs = walk(guidable, video, "self", 1.4, 1.0)
    for call in range(2, len(video)):
        for i in range(3):
            virtual = (inputs[call][i] - a[i] * video[call - i]) / b[i]
            np.testing.assert_allclose(negatives[call][i], virtual, atol=1e-6)


def test_guidance_up_to_one_is_none(guidable, video):
    plain = Stream(guidable, 3, Streaming(TIMESTEPS))
    expected = [plain.push(frame) for frame in video[:4]][-1]
    for residual in ("self", "onetime", "full"):
        stream = Stream(guidable, 3, Streaming(TIMESTEPS, residual=residual, guidance=1.0))
        assert stream.items == 3
        np.testing.assert_array_equal([stream.push(frame) for frame in video[:4]][-1], expected)


@pytest.mark.parametrize(
    "residual, reference, told",
    [
        ("none", "frames", [0, 1, 2]),
        ("none", "timesteps", [-1, 0, 1]),
        ("onetime", "frames", [0, 1, 2, 3]),
        ("onetime", "timesteps", [-1, -1, 1, 2]),
        ("full", "timesteps", [-1, 0, 1, -1, 3, 4]),
    ],
)
def test_references(guidable, video, residual, reference, told):
    executor = Differential()
    stream = Stream(guidable, 3, Streaming(TIMESTEPS, residual=residual, reference=reference), executor=executor)
    plain = Stream(guidable, 3, Streaming(TIMESTEPS, residual=residual))
    for frame in video[:5]:
        found, expected = stream.push(frame), plain.push(frame)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    slots = [*range(3)] if len(told) == 3 else [0, *range(3)] if residual == "onetime" else [*range(3)] * 2
    for call in range(5):  # no item refers to a slot that no frame had reached
        expected = [item if item >= 0 and slots[item] < call else -1 for item in told]
        assert executor.told[call] == (call, None, expected)  # no call is the last
    assert stream.references.tolist() == told


def test_measured_references_are_the_nearer_ones(network, video):
    """A still video is nearest to itself; one that jumps about, to the same frame at the level before."""
    still, jumps = [video[0]] * 8, np.random.default_rng(1).choice([-1, 1], (8, 1, 8, 8)).astype(np.float32)
    close = (300, 290, 280)
    for frames, expected in ((still, [0, 1, 2]), (jumps, [0, 0, 1])):
        executor = Differential()
        stream = Stream(
            network, 3, Streaming(close, reference="measured", renoise=False, clip=False), executor=executor
        )
        for frame in frames:
            before = stream.references
            stream.push(frame)
        assert stream.references.tolist() == before.tolist() == expected
        # and no later slot's delta at the input is larger than along frames, or than along timesteps
        for other in ("frames", "timesteps"):
            rival = Differential()
            stream = Stream(network, 3, Streaming(close, reference=other, renoise=False, clip=False), executor=rival)
            for frame in frames:
                stream.push(frame)
            measured, others = (one.deltas[7, "stem.conv"][1:] for one in (executor, rival))
            assert (measured <= others * (1 + 1e-3) + 1e-6).all()


def test_distance():
    now, before = np.zeros((2, 1, 1, 2)), np.array([[3, 4], [0, 2]]).reshape(2, 1, 1, 2)
    assert distance(now, before).tolist() == [5, 2]


def angled(similarity):
    """Frame of that cosine with the frame (1, 0)."""
    return np.array([similarity, np.sqrt(1 - similarity**2)]).reshape(1, 1, 2)


@pytest.mark.parametrize("similarity, expected", [(0.9, 0.0), (0.98, 0.0), (0.985, 0.25), (0.99, 0.5), (1.0, 1.0)])
def test_probability_of_leaving_a_frame_out(similarity, expected):
    chosen = SimilarityFilter(Similarity())
    assert chosen.probability(angled(1.0)) == 0 and chosen(angled(1.0))
    assert chosen.probability(angled(similarity)) == pytest.approx(expected, abs=1e-9)
    never = SimilarityFilter(Similarity(eta=1.0))
    assert never(angled(1.0)) and never(angled(1.0))


def test_share_of_frames_left_out():
    """Frames in turn at two angles whose cosine is 0.99: half of those that could be left out are."""
    chosen = SimilarityFilter(Similarity(max_skips=10**9))
    chosen(angled(1.0))
    processed = 0
    for _ in range(4000):
        # always 0.99 from the last one that was processed
        if chosen(angled(0.99) if processed % 2 == 0 else angled(1.0)):
            processed += 1
    assert processed / 4000 == pytest.approx(0.5, abs=0.03)


def test_at_most_ten_frames_are_left_out_in_a_row():
    chosen = SimilarityFilter(Similarity())
    assert [chosen(angled(1.0)) for _ in range(25)] == ([True] + [False] * 10) * 2 + [True] + [False] * 2


def test_a_frame_left_out_gives_the_last_image_again(network, video):
    stream = Stream(network, 3, Streaming(TIMESTEPS[:2], similarity=Similarity(max_skips=2)))
    images = [stream.push(frame) for frame in [video[0]] * 8]
    assert stream.calls == 3
    assert images[:3] == [None] * 3 and images[3] is images[4] is images[5] and images[6] is images[7]


@pytest.mark.parametrize(
    "timesteps, options, message",
    [
        ((), {}, "Stream timesteps must be at least one, and fall, not ()"),
        ((200, 400), {}, "Stream timesteps must be at least one, and fall, not (200, 400)"),
        ((1000,), {}, "Stream timesteps must be from 0 to 999, not [1000]"),
        (
            (400,),
            {"residual": "selfish"},
            "Stream residual must be none or self or onetime or full, not 'selfish'",
        ),
        ((400,), {"scalings": "lcn"}, "Stream scalings must be plain or lcm, not 'lcn'"),
        (
            (400,),
            {"reference": "frame"},
            "Stream reference must be frames or timesteps or measured, not 'frame'",
        ),
        ((400,), {"residual": "full"}, "Network must have a null label to be guided, not 'unet'"),
    ],
)
def test_refusals(network, timesteps, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Stream(network, 3, Streaming(timesteps, **options))


def test_other_refusals(network):
    with pytest.raises(ValueError, match=r"^Frame must have the shape \(1, 8, 8\), not \(8, 8\)$"):
        Stream(network, 3, Streaming([400])).push(np.zeros((8, 8)))
    with pytest.raises(ValueError, match=r"^Similarity max_skips must be at least 0, not -1$"):
        Similarity(max_skips=-1)
    with pytest.raises(ValueError, match=r"^Labels must be integers from 0 to 9, not 10$"):
        Stream(network, 10, Streaming([400]))


def test_slots_that_a_frame_reaches_start_anew_or_refer_to_the_slot_before(network, video):
    for reference, expected in (
        ("frames", [[-1, -1, -1], [0, -1, -1], [0, 1, -1], [0, 1, 2]]),
        ("timesteps", [[-1, -1, -1], [-1, 0, -1], [-1, 0, 1], [-1, 0, 1]]),
        ("measured", [[-1, -1, -1], [0, -1, -1], [0, 1, -1], [0, 1, 2]]),
    ):
        stream, found = Stream(network, 3, Streaming(TIMESTEPS, reference=reference)), []
        for frame in [video[0]] * 4:
            stream.push(frame)
            found.append(stream.references.tolist())
        assert found == expected


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda network: Similarity(float("nan")), ValueError, "Similarity eta must be finite, not nan"),
        (lambda network: Similarity("0.9"), TypeError, "Similarity eta must be a number, not '0.9'"),
        (
            lambda network: Similarity(max_skips=1.5),
            TypeError,
            "Similarity max_skips must be an integer",
        ),
        (lambda network: Similarity(seed=-1), ValueError, "Similarity seed must be at least 0, not -1"),
        (
            lambda network: Stream(network, 3, Streaming([400], guidance=float("nan"))),
            ValueError,
            "Stream guidance must be finite, not nan",
        ),
        (
            lambda network: Stream(network, 3, Streaming([400])).push(np.full((1, 8, 8), np.nan)),
            ValueError,
            "Frame must be finite, not nan",
        ),
    ],
)
def test_numbers_are_finite(network, call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        call(network)


class Summing(StatefulExecutor):
    """Every layer as it is, and the sums of a call in binary64."""

    def __init__(self):
        self.sums = []

    def __call__(self, layer, values):
        return layer(*values)

    def combine(self, terms, name):
        self.sums.append((name, *terms))
        total = sum(np.asarray(value, np.float64) * factor for value, factor in terms.values())
        return np.float32(np.clip(total, -1, 1) if name == "clean" else total)


@pytest.mark.parametrize(
    "options, clean",
    [
        ({}, "clean"),
        ({"scalings": "lcm", "renoise": False}, "clean"),
        ({"clip": False}, "image"),
        ({"residual": "full", "guidance": 2.0}, "clean"),
    ],
)
def test_sums_that_an_executor_makes_are_those_of_the_stream(guidable, video, options, clean):
    executor = Summing()
    stream = Stream(guidable, 3, Streaming(TIMESTEPS, seed=2, **options), executor=executor)
    plain = Stream(guidable, 3, Streaming(TIMESTEPS, seed=2, **options))
    for frame in video:
        found, expected = stream.push(frame), plain.push(frame)
        assert (found is None) == (expected is None)
        if found is not None:
            np.testing.assert_allclose(found, expected, atol=2e-3)
    entering, leaving = ("image", clean, "fresh"), (clean, "image", "prediction")
    guided = [("guided", "without", "prediction")] if "residual" in options else []
    call = [entering, *guided, *[leaving] * 3, *[entering] * 2]
    assert executor.sums == call * len(video)


def test_guidance_by_a_stock_of_noise_is_the_hosts(network, video):
    executor = Summing()
    stream = Stream(network, 3, Streaming(TIMESTEPS, residual="self"), executor=executor)
    for frame in video:
        stream.push(frame)
    assert not executor.sums
