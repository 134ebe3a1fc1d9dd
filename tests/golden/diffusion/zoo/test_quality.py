import math
import re

import numpy as np
import pytest

from golden.diffusion import zoo
from golden.diffusion.sampling import Sampling
from golden.diffusion.zoo.quality import Statistics, frechet, psnr, ssim

pytestmark = pytest.mark.golden


@pytest.fixture
def rng():
    return np.random.default_rng(30)


def spread(rng, features):
    root = rng.standard_normal((features, features))
    return Statistics(rng.standard_normal(features), root @ root.T)


def test_statistics_against_loops(rng):
    features = rng.standard_normal((7, 3)).astype(np.float32)
    found = Statistics.of(features)
    mean = [sum(float(row[i]) for row in features) / 7 for i in range(3)]
    for i, j in np.ndindex(3, 3):
        total = sum((float(row[i]) - mean[i]) * (float(row[j]) - mean[j]) for row in features)
        assert found.covariance[i, j] == pytest.approx(total / 6)
    np.testing.assert_allclose(found.mean, mean)


def test_statistics_survive_a_file(rng, tmp_path):
    statistics = spread(rng, 5)
    statistics.save(tmp_path / "s.npz")
    again = Statistics.load(tmp_path / "s.npz")
    assert again.mean.dtype == again.covariance.dtype == np.float32
    np.testing.assert_array_equal(again.covariance, statistics.covariance.astype(np.float32))
    assert abs(frechet(again, statistics)) < 1e-4


def test_frechet_of_diagonal_covariances_by_hand():
    a = Statistics(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 9.0, 0.0]))
    b = Statistics(np.array([1.0, 0.0, 3.0]), np.diag([1.0, 16.0, 25.0]))
    # means 0 + 4 + 9; deviations (2 - 1)^2 + (3 - 4)^2 + (0 - 5)^2
    assert frechet(a, b) == pytest.approx(13 + 1 + 1 + 25)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_against_the_eigenvalues_of_the_product(rng):
    for features in (1, 2, 9):
        a, b = spread(rng, features), spread(rng, features)
        eigenvalues = np.linalg.eigvals(a.covariance @ b.covariance).real
        expected = sum((x - y) ** 2 for x, y in zip(a.mean, b.mean, strict=True))
        expected += sum(a.covariance[i, i] + b.covariance[i, i] for i in range(features))
        expected -= 2 * sum(math.sqrt(max(value, 0)) for value in eigenvalues)
        assert frechet(a, b) == pytest.approx(expected) and frechet(b, a) == pytest.approx(expected)


def test_frechet_of_few_images_does_not_fail(rng):
    """A covariance of fewer images than features is singular."""
    a, b = (Statistics.of(rng.standard_normal((4, 12))) for _ in range(2))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6) and frechet(a, b) > 0.1


def test_psnr_against_loops(rng):
    images, references = rng.uniform(-1, 1, (2, 3, 2, 4, 5)).astype(np.float32)
    found = psnr(images, references)
    for index in range(3):
        error = 0.0
        for place in np.ndindex(2, 4, 5):
            error += (float(images[index][place]) - float(references[index][place])) ** 2
        assert found[index] == pytest.approx(10 * math.log10(4 / (error / 40)))
    assert psnr(images[:1], images[:1]).tolist() == [math.inf]
    # an error of a tenth of the range everywhere
    assert psnr(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 0.2))[0] == pytest.approx(20)


def test_ssim_against_loops(rng):
    images = rng.uniform(-1, 1, (2, 1, 8, 9)).astype(np.float32)
    references = np.clip(images + rng.normal(0, 0.3, images.shape), -1, 1).astype(np.float32)
    found = ssim(images, references)
    for index in range(2):
        places = []
        for top in range(2):
            for left in range(3):
                x, y = (
                    [float(v) for v in image[index, 0, top : top + 7, left : left + 7].ravel()]
                    for image in (images, references)
                )
                mx, my = sum(x) / 49, sum(y) / 49
                vx, vy = sum((v - mx) ** 2 for v in x) / 49, sum((v - my) ** 2 for v in y) / 49
                both = sum((v - mx) * (w - my) for v, w in zip(x, y, strict=True)) / 49
                c1, c2 = 0.02**2, 0.06**2
                places.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
        assert found[index] == pytest.approx(sum(places) / 6)
        assert 0 < found[index] < 1
    np.testing.assert_allclose(ssim(images, images), 1)


def test_refusals(rng):
    image = np.zeros((2, 1, 8, 8))
    for measure in (psnr, ssim):
        message = "Images and references must have one shape (count, channels, ..., height, width), not "
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            measure(image, image[:1])
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            measure(image[0], image[0])
    with pytest.raises(ValueError, match=r"^Images must have at least 7 x 7 pixels, not \(6, 8\)$"):
        ssim(image[:, :, :6], image[:, :, :6])
    with pytest.raises(ValueError, match=r"^Statistics must be of 2 features both, not 2 and 3$"):
        frechet(spread(rng, 2), spread(rng, 3))
    with pytest.raises(ValueError, match=r"^Features must have the shape \(at least 2 images, features\), not \(1, "):
        Statistics.of(np.zeros((1, 3)))


def test_features_are_the_pooled_last_stage(rng):
    images = rng.uniform(-1, 1, (300, 1, 16, 16)).astype(np.float32)
    found = zoo.features(images)
    assert found.shape == (300, 64) and found.dtype == np.float32
    network = zoo.load("classifier")
    value = images[297:299]
    for layer in network.layers[:-2]:
        value = layer(value)
    np.testing.assert_allclose(found[297:299], value.sum(axis=(2, 3)) / (4 * 4), rtol=1e-4, atol=1e-5)
    logits = found @ network.by_name["logits"].weight.T + network.by_name["logits"].bias
    np.testing.assert_array_equal(zoo.classify(images), logits.argmax(axis=1))
    with pytest.raises(ValueError, match=r"^Images must be at least one, not 0$"):
        zoo.features(images[:0])


def test_distance_to_the_real_digits_tells_noise_from_digits(rng):
    real = zoo.digits()
    assert real.mean.shape == (64,) and real.covariance.shape == (64, 64)
    assert np.array_equal(real.covariance, real.covariance.T) and np.linalg.eigvalsh(real.covariance).min() > -1e-6
    drawn = Sampling(zoo.load("unet"), np.arange(60) % 10, 10, seed=3).images()
    noise = rng.uniform(-1, 1, drawn.shape).astype(np.float32)
    near, far = (frechet(real, zoo.statistics(images)) for images in (drawn, noise))
    assert 0 < 5 * near < far
