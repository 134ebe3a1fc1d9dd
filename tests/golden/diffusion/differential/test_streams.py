"""DeepCache and StreamDiffusion under differential execution."""

import dataclasses

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.differential.closed_loop import ClosedLoop
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.open_loop import OpenLoop
from golden.diffusion.differential.profile import calibrate
from golden.diffusion.differential.run import executor, run
from golden.diffusion.differential.streams import calibrate_stream, pushed, streamed
from golden.diffusion.networks import Recorder
from golden.diffusion.sampling import Cache, Sampling, deepcache
from golden.diffusion.sampling.streaming import Stream, Streaming
from golden.diffusion.zoo.moving import digit_video
from golden.diffusion.zoo.quality import psnr
from tests.golden.diffusion.differential.networks import Spy
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden

TIMESTEPS = (600, 400, 200)


@pytest.fixture(scope="module")
def network():
    return random_unet()


@pytest.fixture(scope="module")
def video():
    """Frames that change little by little."""
    rng = np.random.default_rng(0)
    steps = np.concatenate([rng.uniform(-0.5, 0.5, (1, 1, 8, 8)), rng.normal(0, 0.02, (8, 1, 8, 8))])
    return np.cumsum(steps, axis=0).astype(np.float32)


@pytest.fixture(scope="module")
def profile(network, video):
    return calibrate_stream(network, video[::-1], 5, Streaming(TIMESTEPS))


def follow(network, how, video, profile, **options):
    """Images of a stream, what the executor was told to send, and the dense images."""
    spy = Spy()
    stream = Stream(network, 3, Streaming(TIMESTEPS, **options), executor=executor(network, how, profile, measure=spy))
    plain = Stream(network, 3, Streaming(TIMESTEPS, **options))
    pairs = [(stream.push(frame), plain.push(frame)) for frame in video]
    found, dense = (np.stack(images) for images in zip(*pairs[len(TIMESTEPS) - 1 :], strict=True))
    return found, dense, spy, stream


@pytest.mark.parametrize("reference", ["frames", "timesteps", "measured"])
@pytest.mark.parametrize("name", ["closed-int4", "paper"])
def test_a_stream_follows_the_dense_one(network, video, profile, name, reference):
    found, dense, _, stream = follow(network, Method.named(name), video, profile, reference=reference)
    assert stream.calls == len(video)
    # along timesteps deltas are large, and signs of the step before stand for an activation: 24 dB
    paper = 22 if reference == "timesteps" else 45
    assert psnr(found, dense).min() > (35 if name == "closed-int4" else paper)


def test_the_closed_loop_does_not_drift_along_frames(network, video, profile):
    long = np.concatenate([video, video[::-1], video])
    found, dense, _, _ = follow(network, Method.named("closed-int3"), long, profile)
    quality = psnr(found, dense)
    once_more = 2 * len(video)  # the same frames again; the first three images still gain by the first call's passes
    # single images differ by 5 dB; errors that added up would have lost more by then
    assert quality[once_more + 3 :].mean() > quality[3 : len(quality) - once_more].mean() - 6


@pytest.mark.parametrize("residual, items", [("none", 3), ("onetime", 4), ("full", 6)])
def test_guided_streams_follow_the_dense_ones(video, residual, items):
    network = random_unet(null_label=True)
    profile = calibrate_stream(network, video[::-1], 5, Streaming(TIMESTEPS, residual=residual))
    assert profile.rows.tolist() == list(range(items))
    for name in ("closed-int4", "paper"):
        for reference in ("frames", "timesteps"):
            how = Method.named(name)
            found, dense, _, _ = follow(network, how, video[:6], profile, residual=residual, reference=reference)
            least = {"closed-int4": 30, "paper": 18} if reference == "timesteps" else {"closed-int4": 38, "paper": 44}
            assert psnr(found, dense).min() > least[name], (name, reference)


def test_references_decide_what_deltas_are_against(network, video, profile):
    """Along timesteps slot 0 starts anew in every call; the others refer to the slot before."""
    sent = {}
    for reference in ("frames", "timesteps"):
        _, _, spy, _ = follow(network, Method.named("closed-int4"), video, profile, reference=reference)
        sent[reference] = spy.parts[7, "image"]
    (frames,) = sent["frames"]
    anew, others = sent["timesteps"]
    assert [len(part.values) for part in (frames, anew, others)] == [3, 1, 2]
    size = [np.abs(part.lanes).mean() for part in (frames, anew, others)]
    assert size[0] < size[2] / 2 and size[0] < size[1] / 2


@pytest.mark.parametrize("name", ["closed-int4", "paper"])
def test_a_still_video_costs_next_to_nothing(network, video, profile, name):
    """Once the stream is full, nothing changes from call to call."""
    how = dataclasses.replace(Method.named(name), early_steps=0)
    _, _, spy, _ = follow(network, how, np.repeat(video[:1], 14, axis=0), profile)
    first = spy.inputs.get((13, "image")) or spy.outputs[13, "image"][0]
    assert not first.values.any()


def test_the_profile_of_a_stream_has_a_row_for_each_item(network, video):
    """Deviations of each slot, over all calls that do not fill the stream."""
    recorder = Recorder(["down0.block.norm1"])
    stream = Stream(network, 5, Streaming(TIMESTEPS), executor=recorder)
    layer, found = network.by_name["down0.block.norm1"], []
    for frame in video:
        stream.push(frame)
        found.append(layer.statistics(recorder.records[layer.name].inputs[0])[1])
    profile = calibrate_stream(network, video, 5, Streaming(TIMESTEPS))
    np.testing.assert_allclose(profile.deviation[layer.name], np.mean(found[3:], axis=0), rtol=1e-5)
    assert profile.rows.tolist() == [0, 1, 2] and profile.steps == 3


def test_values_larger_than_those_calibrated_are_not_cut_off():
    """A 3 that moves reaches 1.7 times what a 5 does: without room every frame of it would lose 9 dB."""
    trained, how = zoo.load("unet"), Streaming()
    seen, other = (digit_video(digit, 8, shift=(0, 0.125)) for digit in (3, 5))
    profile = calibrate_stream(trained, other, 5, how)
    figures = streamed(trained, Method.named("closed-int4"), seen, 3, how, profile)
    assert psnr(figures.images, pushed(Stream(trained, 3, how), seen)).mean() > 57  # 61


def test_static_exponents_of_a_stream_are_for_its_references(network, video):
    frames, timesteps = (
        calibrate_stream(network, video, 5, Streaming(TIMESTEPS, reference=reference))
        for reference in ("frames", "timesteps")
    )
    assert frames.overflow["image"] < timesteps.overflow["image"] / 2


def test_no_call_of_a_stream_is_late(network, video, profile):
    """The passes of the last steps are those of a sampling; a stream has no last step."""
    usual, late = (dataclasses.replace(Method.named("closed-int3"), late_steps=late) for late in (0, 1000))
    images = [follow(network, how, video, profile)[0] for how in (usual, late)]
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("name", ["closed-int4", "paper"])
def test_a_stream_with_cached_deep_layers(network, video, name):
    """It follows the dense stream with the same caches, and sends nothing for the deep layers between."""
    how = dataclasses.replace(Method.named(name), norm="current")
    profile = calibrate_stream(network, video[::-1], 5, Streaming(TIMESTEPS, interval=3))
    found, dense, spy, stream = follow(network, how, video, profile, interval=3)
    assert psnr(found, dense).min() > (50 if name == "closed-int4" else 48)
    sent = spy.inputs if name == "closed-int4" else spy.outputs
    inside = "middle.block.relu1" if name == "closed-int4" else network.by_name["middle.block.relu1"].inputs[0]
    assert sorted(step for step, value in sent if value == inside) == [0, 1, 2, 5, 8]


def test_figures_of_a_stream(network, video, profile):
    how = Method.named("closed-int3")
    figures = streamed(network, how, video, 3, Streaming(TIMESTEPS), profile)
    found, *_ = follow(network, how, video, profile)
    np.testing.assert_array_equal(figures.images, found)
    assert 1 < figures.input_bits < 16 and 1 < figures.output_bits < 16 and figures.megabits > 0


# DeepCache -----------------------------------------------------------------------------------------------------------


def every(steps, interval, branch=0):
    return Cache(deepcache.uniform(steps, interval), branch)


@pytest.mark.parametrize("branch", [0, 1])
@pytest.mark.parametrize("name", ["closed-int4", "paper", "fine"])
def test_deltas_of_deep_layers_are_against_the_step_in_which_they_last_ran(network, name, branch):
    """Nothing is lost on the way: the open loop with digits enough and repair is as good as the closed one."""
    how = dataclasses.replace(Method.named("paper" if name == "fine" else name), norm="current")
    if name == "fine":
        fine = {"digit_width": 8, "exponent_policy": "group", "outliers": 0, "flip_repair": True}
        how = dataclasses.replace(how, passes=3, machine=dataclasses.replace(how.machine, **fine))
    sampling = Sampling(network, [3, 8], 7, cache=every(7, 3, branch))
    profile = calibrate(sampling, images=2)
    found = sampling.images(executor(network, how, profile))
    assert psnr(found, sampling.images()).min() > {"closed-int4": 35, "paper": 34, "fine": 48}[name]


def test_every_step_is_a_cache_step_with_interval_1(network):
    how, profile = Method.named("closed-int3"), calibrate(Sampling(network, [0], 4), images=2)
    found, expected = (
        Sampling(network, [1, 2], 4, cache=cache).images(executor(network, how, profile))
        for cache in (every(4, 1), None)
    )
    np.testing.assert_array_equal(found, expected)


def test_what_a_retrieval_step_sends(network):
    """Nothing of the layers inside the branch; and the delta after it spans the steps between."""
    how = dataclasses.replace(Method.named("closed-int4"), early_steps=0, late_steps=0)
    sent = {}
    for interval in (1, 3):
        spy = Spy()
        profile = calibrate(Sampling(network, [0], 6), images=2)
        one = ClosedLoop(network, how, profile, measure=spy)
        Sampling(network, [1, 2], 6, cache=every(6, interval)).images(one)
        sent[interval] = spy
    inside, outside = "middle.block.relu1", "head.relu"
    assert {step for step, name in sent[3].inputs if name == inside} == {0, 3}
    assert {step for step, name in sent[3].inputs if name == outside} == set(range(6))
    spans = [np.abs(sent[interval].inputs[3, inside].lanes).mean() for interval in (1, 3)]
    assert spans[1] > 1.5 * spans[0]


class Watched(OpenLoop):
    """Keeps what layers read, by step and layer."""

    def __call__(self, layer, values):
        self.__dict__.setdefault("seen", {})[self._index, layer.name] = values
        return super().__call__(layer, values)


def test_a_kept_value_has_no_delta(network):
    """Where a retrieval step reads what a cache step made: the raw value is that one, and nothing changed."""
    one = Watched(network, Method.named("paper"), calibrate(Sampling(network, [0], 6), images=2))
    Sampling(network, [1, 2], 6, cache=every(6, 3)).images(one)
    kept = 0
    for (step, name), values in one.seen.items():
        for source, value, made in zip(
            network.by_name[name].inputs, values, one.seen[step - step % 3, name], strict=True
        ):
            if source in one._main and source in network.by_name and (step, source) not in one.seen:
                assert step % 3 and not value.delta.any() and value.raw.any()
                np.testing.assert_array_equal(value.raw, made.raw)
                kept += 1
    assert kept == 4


def test_calibration_with_caching_fills_the_rows_of_skipped_steps(network):
    profile = calibrate(Sampling(network, [0], 6, cache=every(6, 3)), images=2)
    deep, shallow = profile.deviation["middle.block.norm1"], profile.deviation["head.norm"]
    assert len(deep) == len(shallow) == 6
    np.testing.assert_array_equal(deep[[1, 2, 4, 5]], deep[[0, 0, 3, 3]])
    assert not np.array_equal(shallow[0], shallow[1]) and not np.array_equal(deep[0], deep[3])
    plain = calibrate(Sampling(network, [0], 6), images=2)
    assert profile.overflow["middle.block.relu1"] > plain.overflow["middle.block.relu1"]


def test_figures_of_deepcache(network):
    """A run that skips steps sends less, and is farther from the full dense sampling."""
    dense = Sampling(network, [1, 2], 6).images()
    bits, quality = [], []
    for cache in (None, every(6, 3)):
        found = run(Sampling(network, [1, 2], 6, cache=cache), Method.named("closed-int3"), measured=True)
        measure = found.measure
        bits.append(measure.total(measure.inputs).bits + measure.total(measure.outputs).joint)
        quality.append(psnr(found.images, dense).mean())
    assert bits[1] < bits[0] and quality[1] < quality[0]
