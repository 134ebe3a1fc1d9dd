import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.sampling.streaming import Stream, Streaming
from golden.diffusion.zoo.moving import blend_video, digit_image, digit_video, moved

pytestmark = pytest.mark.golden


def test_whole_pixels_and_quarter_turns_are_exact():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(moved(image), image, atol=1e-6)
    down = moved(image, (2.0, -1.0))
    np.testing.assert_allclose(down[:, 2:, :-1], image[:, :-2, 1:], atol=1e-6)
    assert (down[:, :2] == -1).all() and (down[:, :, -1] == -1).all()
    np.testing.assert_allclose(moved(image, rotation=90.0), np.rot90(image, axes=(1, 2)), atol=1e-5)
    assert (moved(image, (100.0, -100.0)) == -1).all()


def test_parts_of_a_pixel_are_bilinear():
    image = np.full((1, 4, 4), -1, np.float32)
    image[0, 1, 1] = 1
    expected = np.full((4, 4), -1.0)
    expected[1:3, 1:3] += 2 * np.outer([0.75, 0.25], [0.5, 0.5])
    np.testing.assert_allclose(moved(image, (0.25, 0.5))[0], expected, atol=1e-6)
    # half a pixel out of the picture leaves half of the border
    edge = np.ones((1, 4, 4), np.float32)
    np.testing.assert_allclose(moved(edge, (-0.5, 0.0))[0, :, 0], [1, 1, 1, 0], atol=1e-6)


@pytest.fixture(scope="module")
def video():
    return digit_video(3, 7, shift=(0.0, 0.25), rotation=2.0)


def test_a_digit_moves_evenly(video):
    assert video.shape == (7, 1, 16, 16) and video.dtype == np.float32
    image = digit_image(3)
    np.testing.assert_allclose(video[3], image, atol=1e-6)
    np.testing.assert_allclose(video[5], moved(image, (0.0, 0.5), 4.0), atol=1e-6)
    mass = (video[:, 0] + 1).sum(axis=1)
    centre = (mass * np.arange(16)).sum(axis=1) / mass.sum(axis=1)
    np.testing.assert_allclose(np.diff(centre), 0.25, atol=0.1)


def test_a_digit_becomes_another():
    video = blend_video(3, 5, 5)
    np.testing.assert_array_equal(video[[0, -1]], [digit_image(3), digit_image(5)])
    np.testing.assert_allclose(np.diff(video, axis=0), (video[-1] - video[0])[None].repeat(4, axis=0) / 4, atol=1e-5)


def test_a_streamed_digit_stays_the_digit(video):
    stream = Stream(zoo.load("unet"), 3, Streaming((400, 300, 200, 100)))
    images = [stream.push(frame) for frame in [*video, *video[-1:].repeat(3, axis=0)]][3:]
    found = zoo.load("classifier")(np.stack(images)).argmax(axis=1)
    assert (found == 3).mean() >= 0.8
    # and the images follow the frames
    apart = np.square(np.stack(images)[:, None] - video[None]).mean(axis=(2, 3, 4))
    assert apart[0, 0] < apart[0, 6] and apart[6, 6] < apart[6, 0]
