"""Tuning: what shares its passes, what effects say, that choices are the best at their price, what is reached."""

import itertools

import numpy as np
import pytest

from golden.diffusion import layers, zoo
from golden.diffusion.differential import tune as tuning
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.run import run
from golden.diffusion.differential.tune import effects, operand_sets, tune
from golden.diffusion.networks import Network
from golden.diffusion.sampling import Sampling
from tests.golden.diffusion.differential.networks import f32
from tests.golden.diffusion.sampling.networks import random_unet

pytestmark = pytest.mark.golden


def test_operand_sets_of_attention():
    """Queries, keys and values read one tensor; scores read two of what they make, the mix one and the softmax."""
    rng = np.random.default_rng(0)

    def linear(name, source):
        return layers.Linear(name, (source,), weight=f32(rng.standard_normal((6, 6))), bias=f32(np.zeros(6)))

    found = [
        *(linear(name, "image") for name in ("q", "k", "v")),
        layers.MatMul("s", ("q", "k"), transposed=True),
        layers.Softmax("p", ("s",)),
        layers.MatMul("m", ("p", "v")),
        linear("o", "m"),
    ]
    network = Network("attention", {"image": (5, 6), "timestep": ()}, found, {})
    sets = {one.readers: (one.elements, one.macs) for one in operand_sets(Sampling(network, 1, 2))}
    plain = 5 * 6 * 6
    assert sets == {
        ("q", "k", "v"): (30, 3 * plain),
        ("s",): (60, 2 * 5 * 5 * 6),
        ("m",): (25 + 30, 2 * 5 * 5 * 6),
        ("o",): (30, plain),
    }


@pytest.fixture(scope="module")
def sampling():
    return Sampling(random_unet(), [3, 8], 12)


@pytest.fixture(scope="module")
def measured(sampling):
    return effects(sampling, Method.named("closed-int3"))


def test_effects_add_up_to_the_error_of_one_pass_everywhere(sampling, measured, monkeypatch):
    sets = operand_sets(sampling)
    assert set(measured) == {one.readers[0] for one in sets}
    table = np.array(list(measured.values()))
    assert table.shape == (len(sets), 3) and (table >= 0).all() and (table.max(axis=1) > 0).mean() > 0.9
    images = sampling.example(2, 1_000_037)
    dense, base = images.images(), Method.named("closed-int3")
    coarse, fine = (
        np.mean((run(images, tuning._method(base, {"*": count}, {"*": 16})).images - dense) ** 2) for count in (1, 4)
    )
    assert 0.2 < table.sum() / (coarse - fine) < 5  # all at once they are no longer small
    monkeypatch.setattr(tuning, "run", None)
    assert effects(sampling, base) == measured  # kept


def problem(rng, sets=2, products=2):
    """Choices with costs and errors of chance, small enough to try all of them."""
    made = object.__new__(tuning._Problem)
    halves = 4.0 ** -np.arange(3)
    made._pass_error = rng.uniform(0, 1, (sets, 3, 1)) * halves
    made._pass_cost = rng.uniform(0, 1, (sets, 3, 1)) * np.arange(1, 4)
    made._bit_error = rng.uniform(0, 1, (products, 1)) * halves
    made._bit_cost = rng.uniform(0, 1, (products, 1)) * np.arange(1, 4)
    return made


def test_no_other_choice_is_cheaper_and_better(fresh_seed):
    rng = np.random.default_rng(fresh_seed)
    for _ in range(5):
        one = problem(rng)
        errors = np.concatenate([one._pass_error.reshape(-1, 3), one._bit_error])
        costs = np.concatenate([one._pass_cost.reshape(-1, 3), one._bit_cost])
        every = np.array(list(itertools.product(range(3), repeat=len(errors))))
        rows = np.arange(len(errors))
        error, cost = errors[rows, every].sum(axis=1), costs[rows, every].sum(axis=1)
        for aim in (error.min() * 1.5, np.median(error), error.max() * 0.9):
            found = one.cheapest(aim)
            assert found.error <= aim
            assert not ((error < found.error * (1 - 1e-9)) & (cost < found.cost * (1 - 1e-9))).any()
            # and no single choice less would do: another price would have found it
            assert found.cost <= cost[error <= aim].min() + (costs[:, 1:] - costs[:, :-1]).max()
        assert one.cheapest(error.min() / 2).error == pytest.approx(error.min())


def test_a_method_reaches_its_target_and_takes_no_more_than_it_needs(sampling):
    """Images of random weights scatter by several dB."""
    found = {target: tune(sampling, target) for target in (38, 46, 95)}
    cost = {}
    for target in (38, 46):
        assert found[target].reached and target < found[target].tuning < target + 8
        measure = run(sampling, found[target].method, measured=True).measure
        cost[target] = measure.total(measure.inputs).bits + measure.total(measure.outputs).joint
    assert cost[38] < 0.9 * cost[46]
    assert not found[95].reached and 50 < found[95].checking < 95


def test_another_machine_is_refused(sampling):
    with pytest.raises(ValueError, match=r"^digit_width must be 3 or 4, not 5$"):
        tune(sampling, 40, digit_width=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dit", "unet-silu"])
def test_a_network_without_gains_reaches_fifty(name):
    """Other weights than those that ship, and layers of other names."""
    rng, known = np.random.default_rng(1), zoo.load(name)
    names = {layer.name: f"layer{number}" for number, layer in enumerate(known.layers)}
    found = []
    for layer in known.layers:
        values = vars(layer) | {"name": names[layer.name], "inputs": tuple(names.get(one, one) for one in layer.inputs)}
        for key, value in layer.parameters().items():
            values[key] = f32(value * (1 + 0.03 * rng.standard_normal(value.shape)))
        fields = type(layer).__dataclass_fields__
        found.append(type(layer)(**{key: value for key, value in values.items() if key in fields}))
    network = Network("foreign", known.inputs, found, known.config)
    assert tune(Sampling(network, [0], 50), 50).checking > 49
