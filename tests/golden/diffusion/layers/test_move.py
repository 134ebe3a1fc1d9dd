import einops
import numpy as np
import pytest

from golden.diffusion import layers

pytestmark = pytest.mark.golden


def move(pattern, index=0, **sizes):
    return layers.Move("m", ("x",), pattern, sizes, index)


PATTERNS = {
    "b c h w -> b (h w) c": ((2, 3, 4, 6), {}),
    "b (h w) c -> b c h w": ((2, 24, 3), {"h": 4}),
    "b c (h p) (w q) -> b (h w) (c p q)": ((2, 3, 4, 6), {"p": 2, "q": 2}),
    "b (h w) (p q c) -> b c (h p) (w q)": ((2, 6, 12), {"h": 2, "p": 2, "q": 2}),
    "b c f (h p) (w q) -> b f (h w) (c p q)": ((2, 3, 5, 4, 6), {"p": 2, "q": 2}),
    "b f (h w) (p q c) -> b c f (h p) (w q)": ((2, 5, 6, 12), {"h": 2, "p": 2, "q": 2}),
    "b c h w -> b c (h p) (w q)": ((2, 3, 4, 5), {"p": 2, "q": 3}),
    "... t (h c) -> ... h t c": ((2, 3, 5, 6), {"h": 3}),
    "... h t c -> ... t (h c)": ((2, 3, 5, 2), {}),
    "b f t c -> b t f c": ((2, 3, 4, 5), {}),
    "b f t c -> b (f t) c": ((2, 3, 4, 5), {}),
    "b (f t) c -> b f t c": ((2, 12, 5), {"f": 3}),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_patterns_of_the_builders_are_those_of_einops(pattern):
    shape, sizes = PATTERNS[pattern]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    layer = move(pattern, **sizes)
    found = layer(x)
    np.testing.assert_array_equal(found, einops.repeat(x, pattern, **sizes))
    assert found.flags.c_contiguous and layer.shape(shape) == found.shape


@pytest.mark.parametrize("seed", range(40))
def test_any_pattern_is_that_of_einops(seed):
    rng = np.random.default_rng(seed)
    names = list("abcdef"[: rng.integers(2, 7)])
    length = {name: int(rng.integers(1, 4)) for name in names}
    new = dict(zip("pq", rng.integers(1, 4, int(rng.integers(0, 3))).tolist(), strict=False))

    def side(own):
        own, parts = [str(name) for name in rng.permutation(own)], []
        while own:
            count = int(rng.integers(1, 4))
            taken, own = own[:count], own[count:]
            parts.append(taken)
        return parts

    left, right = side(names), side(names + list(new))
    told = new | {name: length[name] for axis in left for name in axis[1:]}
    pattern = " -> ".join(" ".join(f"({' '.join(axis)})" for axis in sides) for sides in (left, right))
    shape = tuple(int(np.prod([length[name] for name in axis])) for axis in left)
    x = rng.standard_normal(shape).astype(np.float32)
    layer = move(pattern, **told)
    np.testing.assert_array_equal(layer(x), einops.repeat(x, pattern, **told), err_msg=f"seed {seed}: {pattern}")
    assert layer.shape(shape) == layer(x).shape


def test_a_part_of_an_axis():
    x = np.arange(24, dtype=np.float32).reshape(2, 2, 6)
    layer = move("... (n c) -> ... c", 2, n=3)
    np.testing.assert_array_equal(layer(x), x[..., 4:])
    assert layer.shape(x.shape) == (2, 2, 2)
    np.testing.assert_array_equal(move("b (n c) w -> b c w", 1, n=2)(x), x[:, 1:])


@pytest.mark.parametrize(
    "pattern, sizes, axis",
    [
        ("b c h w -> b (h w) c", {}, -1),
        ("b (h w) c -> b c h w", {"h": 1}, -3),
        ("b f (h w) (p q c) -> b c f (h p) (w q)", {"h": 1, "p": 1, "q": 1}, -4),
        ("b a -> a b", {}, None),
        ("b c ... -> b c ...", {}, None),
    ],
)
def test_where_channels_go(pattern, sizes, axis):
    assert move(pattern, **sizes).channel_axis == axis


@pytest.mark.parametrize(
    "pattern, sizes, index",
    [
        ("b c", {}, 0),
        ("b (c -> b c", {}, 0),
        ("b c -> b c d", {}, 0),
        ("b c -> b", {}, 0),
        ("b c d -> b", {"c": 2, "d": 2}, 0),
        ("b b -> b", {}, 0),
        ("b (c d) -> b c d", {}, 0),
        ("b c -> b c", {"e": 2}, 0),
        ("b ... -> b", {}, 0),
    ],
)
def test_patterns_that_say_nothing_definite_are_refused(pattern, sizes, index):
    with pytest.raises(ValueError, match=r"^Pattern of layer 'm' must "):
        move(pattern, index, **sizes)


def test_refused_by_name():
    with pytest.raises(ValueError, match=r"^Index of layer 'm' must be a place of the axis it takes, not 3$"):
        move("b (n c) -> b c", 3, n=3)
    with pytest.raises(ValueError, match=r"^Axis \(n c\) of layer 'm' must be a multiple of 3, not 8$"):
        move("b (n c) -> b c", n=3).shape((2, 8))
    with pytest.raises(ValueError, match=r"^Axis \(c\) of layer 'm' must be 3, not 8$"):
        move("b c -> c b", c=3).shape((2, 8))
    with pytest.raises(ValueError, match=r"^Layer 'm' must read values of the axes b c h w, not \(2, 3\)$"):
        move("b c h w -> b (h w) c")(np.zeros((2, 3), np.float32))
