"""STDiT against its formulas, one video, frame and place at a time in float64."""

import dataclasses
import math

import numpy as np
import pytest

from golden.diffusion.networks import Recorder, stored
from golden.diffusion.networks.builder import unallocated
from golden.diffusion.networks.stdit import STDiTConfig, stdit

pytestmark = pytest.mark.golden

TINY = STDiTConfig(
    frames=3, height=4, width=6, channels=16, heads=2, depth=2, text_width=5, tokens=4, space_scale=0.5, time_scale=2.0
)


@pytest.fixture(params=["joint", "alternating"])
def case(request):
    config = dataclasses.replace(TINY, form=request.param)
    rng = np.random.default_rng(5)
    shapes = {name: value.shape for name, value in stdit(config, unallocated).parameters().items()}
    parameters = {}
    for name, shape in shapes.items():
        if not name.endswith("pos_embed.table") and not name.endswith("positions.table"):
            spread = 0.3 if len(shape) == 1 else shape[1] ** -0.5
            parameters[name] = (rng.standard_normal(shape) * spread + ("norm" in name)).astype(np.float32)
    network = stdit(config, stored(parameters))
    inputs = {
        name: rng.standard_normal((2, *shape)).astype(np.float32) if shape else np.array([7.0, 311.0], np.float32)
        for name, shape in network.inputs.items()
    }
    return config, network, {name: value.astype(np.float64) for name, value in parameters.items()}, inputs


class Formulas:
    """One item of the batch; x is ``frames x places x channels``."""

    def __init__(self, config, parameters):
        self.config, self.p = config, parameters

    def linear(self, name, x):
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def mlp(self, name, x):
        h = self.linear(f"{name}.fc1", x)
        return self.linear(f"{name}.fc2", h / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))))

    def embed(self, name, number):
        angles = [number * 10000 ** (-i / 128) for i in range(128)]
        h = self.linear(f"{name}.mlp.0", np.array([math.cos(a) for a in angles] + [math.sin(a) for a in angles]))
        return self.linear(f"{name}.mlp.2", h / (1 + np.exp(-h)))

    @staticmethod
    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    @staticmethod
    def sines(width, position):
        angles = [position * 10000 ** (-2 * i / width) for i in range(width // 2)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    def attention(self, query, key, value):
        """Heads one after another, for one sequence of queries and one of keys."""
        out = np.empty(query.shape)
        wide = query.shape[-1] // self.config.heads
        for head in range(self.config.heads):
            part = slice(head * wide, (head + 1) * wide)
            for row, q in enumerate(query[:, part]):
                scores = np.exp(key[:, part] @ q / math.sqrt(wide))
                out[row, part] = scores / scores.sum() @ value[:, part]
        return out

    def rms(self, name, x):
        heads = x.reshape(len(x), self.config.heads, -1)
        normal = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-6) * self.p[f"{name}.weight"]
        return normal.reshape(x.shape)

    def turned(self, x):
        out = np.empty(x.shape)
        wide = x.shape[1] // self.config.heads
        for token, channel in np.ndindex(len(x), x.shape[1] // 2):
            pair = channel % (wide // 2)
            z = complex(*x[token, 2 * channel : 2 * channel + 2]) * np.exp(1j * token * 10000 ** (-2 * pair / wide))
            out[token, 2 * channel : 2 * channel + 2] = z.real, z.imag
        return out

    def row(self, name, x, temporal):
        """Self-attention of one sequence of tokens."""
        query, key, value = np.split(self.linear(f"{name}.qkv", x), 3, axis=1)
        if self.config.form == "alternating":
            query, key = self.rms(f"{name}.q_norm", query), self.rms(f"{name}.k_norm", key)
            if temporal:
                query, key = self.turned(query), self.turned(key)
        return self.linear(f"{name}.proj", self.attention(query, key, value))

    def along(self, name, x, temporal):
        if temporal:
            return np.stack([self.row(name, x[:, place], True) for place in range(x.shape[1])], axis=1)
        return np.stack([self.row(name, frame, False) for frame in x])

    def cross(self, name, x, text):
        key, value = np.split(self.linear(f"{name}.kv_linear", text), 2, axis=1)
        out = [self.attention(self.linear(f"{name}.q_linear", frame), key, value) for frame in x]
        return self.linear(f"{name}.proj", np.stack(out))

    def block(self, name, x, time, text, temporal, positions=None):
        table = self.p[f"{name}.scale_shift_table.table"]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = np.split(table + time, 6)
        x = x + gate * self.along(f"{name}.attn", self.normal(x) * (1 + scale) + shift, temporal)
        if self.config.form == "joint":
            seen = x if positions is None else x + positions
            x = x + gate * self.along(f"{name}.attn_temp", seen, True)
        x = x + self.cross(f"{name}.cross_attn", x, text)
        return x + gate_mlp * self.mlp(f"{name}.mlp", self.normal(x) * (1 + scale_mlp) + shift_mlp)

    def __call__(self, video, timestep, text, fps=None):
        config, size = self.config, self.config.patch
        rows, columns = config.height // size, config.width // size
        time = self.embed("t_embedder", float(timestep))
        if fps is not None:
            time = time + self.embed("fps_embedder", float(fps))
        vectors = self.linear("t_block.1", time / (1 + np.exp(-time)))
        text = self.mlp("y_embedder.y_proj", text.astype(np.float64))
        x = np.empty((config.frames, rows * columns, config.channels))
        stretch = (1, 1) if fps is None else (2 / rows, 2 / columns)  # round(sqrt(2 * 3)) is 2
        for t, i, j in np.ndindex(config.frames, rows, columns):
            patch = video[:, t, size * i : size * i + size, size * j : size * j + size]
            place = self.sines(config.channels // 2, j * stretch[1] / config.space_scale)
            place += self.sines(config.channels // 2, i * stretch[0] / config.space_scale)
            x[t, i * columns + j] = (
                self.linear("x_embedder.proj", np.moveaxis(patch, 0, -1).ravel().astype(np.float64)) + place
            )
        order = [self.sines(config.channels, t / config.time_scale) for t in range(config.frames)]
        for index in range(config.depth):
            if config.form == "joint":
                positions = np.array(order)[:, None] if index == 0 else None
                x = self.block(f"blocks.{index}", x, vectors, text, False, positions)
            else:
                x = self.block(f"spatial_blocks.{index}", x, vectors, text, False)
                x = self.block(f"temporal_blocks.{index}", x, vectors, text, True)
        shift, scale = np.split(self.p["final_layer.scale_shift_table.table"] + np.tile(time, 2), 2)
        x = self.linear("final_layer.linear", self.normal(x) * (1 + scale) + shift)
        out = np.empty((config.channels_out, config.frames, config.height, config.width))
        for t, i, j in np.ndindex(config.frames, config.height, config.width):
            token = x[t, i // size * columns + j // size]
            out[:, t, i, j] = token.reshape(2, size, size, -1)[:, i % size, j % size].ravel()
        return out


def test_against_the_formulas(case):
    config, network, parameters, inputs = case
    formulas = Formulas(config, parameters)
    expected = np.stack([formulas(*(value[item] for value in inputs.values())) for item in range(2)])
    got = network(*inputs.values())
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_shapes_are_those_of_the_values(case):
    _, network, _, inputs = case
    recorder = Recorder()
    network(*inputs.values(), executor=recorder)
    shapes = network.shapes(2)
    assert all(record.output.shape == shapes[name] for name, record in recorder.records.items())


def test_positions_in_time_enter_the_first_block_only(case):
    config, network, _, _ = case
    names = [layer.name for layer in network.layers if layer.name.endswith("attn_temp.positions")]
    assert names == (["blocks.0.attn_temp.positions"] if config.form == "joint" else [])
    rotary = [layer.name for layer in network.layers if layer.kind == "rotary"]
    assert len(rotary) == (0 if config.form == "joint" else 2 * config.depth)
    assert all(name.startswith("temporal_blocks.") for name in rotary)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"form": "v1"}, r"STDiT form must be joint or alternating, not 'v1'"),
        ({"depth": 0}, r"STDiT depth must be at least 1, not 0"),
        ({"width": 7}, r"STDiT width must be a multiple of patch 2, not 7"),
        ({"channels": 18}, r"STDiT channels must be a multiple of 4, not 18"),
        ({"heads": 3}, r"STDiT channels must be a multiple of twice heads, 6, not 16"),
        ({"time_scale": 0.0}, r"STDiT time_scale must be above 0, not 0\.0"),
    ],
)
def test_rules(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dataclasses.replace(TINY, **change)
