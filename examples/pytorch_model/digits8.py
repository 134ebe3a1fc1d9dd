"""The model of model.py in Driftless, layer by layer; see docs/own-network.md."""

from safetensors.numpy import load_file

from golden.diffusion import Builder, Network, layers, stored


def block(b, name, x, time, width):
    """Layers of a Block."""

    h = b.activation(f"{name}.silu1", b.group_norm(f"{name}.norm1", x, width, 8), "silu")
    h = b.convolution(f"{name}.conv1", h, width, width)
    shift = b.linear(f"{name}.shift", time, 128, width)
    h = b.add(layers.AddChannel, f"{name}.shifted", h, shift)
    h = b.activation(f"{name}.silu2", b.group_norm(f"{name}.norm2", h, width, 8), "silu")
    h = b.convolution(f"{name}.conv2", h, width, width)
    return b.add(layers.Add, name, x, h)


def network():
    """The whole model, with the weights in the current folder."""

    b = Builder(stored(load_file("digits8.safetensors")))
    time = b.add(layers.TimeEncoding, "encoding", "timestep", channels=32)
    time = b.activation("time1.silu", b.linear("time1", time, 32, 128), "silu")
    time = b.linear("time2", time, 128, 128)
    label = b.add(layers.Embedding, "label.row", "label", weight=b.source("label.weight", (10, 128)))
    time = b.activation("time.silu", b.add(layers.Add, "time", time, label), "silu")
    top = block(b, "block1", b.convolution("stem", "image", 1, 32), time, 32)
    h = b.convolution("down", top, 32, 64, 4, stride=2, padding=1)
    h = block(b, "block3", block(b, "block2", h, time, 64), time, 64)
    h = b.convolution("up", b.upsample("larger", h), 64, 32)
    h = b.convolution("join", b.add(layers.Concat, "both", h, top), 64, 32, 1, bias=False)
    h = b.group_norm("norm", block(b, "block4", h, time, 32), 32, 8)
    b.convolution("head", b.activation("head.silu", h, "silu"), 32, 1)
    return Network("digits8", {"image": (1, 8, 8), "timestep": (), "label": ()}, b.layers)
