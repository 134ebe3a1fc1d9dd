import matplotlib.image
import numpy as np
import pytest

from golden.diffusion.zoo.pictures import grid, visible, write_png

pytestmark = pytest.mark.golden


def test_images_are_drawn_as_they_are():
    for channels in (1, 3):
        images = np.random.default_rng(0).uniform(-1, 1, (4, channels, 2, 2))
        shown, columns, note = visible(images)
        assert shown is images and columns == 10 and note == ""


def test_latents_become_colours():
    latents = np.zeros((2, 4, 2, 2), np.float32)
    latents[0, 1, 0, 0], latents[1, 3] = -5.0, 9.0
    shown, _, note = visible(latents)
    assert shown.shape == (2, 3, 2, 2) and shown[0, 1, 0, 0] == -1 and np.abs(shown).sum() == 1
    assert note == "latents of 4 channels, the first 3 over 5"
    shown, _, note = visible(np.zeros((1, 2, 2, 2), np.float32))
    assert shown.shape == (1, 1, 2, 2) and not shown.any() and note == "latents of 2 channels, the first 1 over 1"


def test_frames_of_a_video_stand_in_a_row(tmp_path):
    video = np.zeros((2, 4, 3, 2, 2), np.float32)
    video[1, 0, 2] = 1.0  # second video, last frame: red
    shown, columns, note = visible(video)
    assert columns == 3 and note == "latents of 4 channels, the first 3 over 1, frames of a video in a row"
    sheet = grid(shown, columns, scale=1, gap=1)
    assert sheet.shape == (2 * 3 + 1, 3 * 3 + 1, 3)
    assert sheet[4, 7].tolist() == [255, 128, 128] and sheet[1, 1].tolist() == [128, 128, 128]
    write_png(tmp_path / "a.png", sheet)
    np.testing.assert_allclose(matplotlib.image.imread(tmp_path / "a.png"), sheet / 255, atol=1e-6)
