"""Small networks that several tests sample."""

import dataclasses

import numpy as np

from golden.diffusion.networks import Network, UNetConfig, initial, stored, unet

SMALL = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)


def random_weights(build, config, seed: int) -> Network:
    """A network of random parameters, none of them zero."""
    rng = np.random.default_rng(seed)
    start = build(config, initial(0)).parameters()
    return build(config, stored({name: rng.standard_normal(value.shape) * 0.2 for name, value in start.items()}))


def random_unet(seed: int = 1, config: UNetConfig = SMALL, null_label: bool = False) -> Network:
    """U-Net of random parameters, none of them zero; with a null label, its table of labels has one more row."""
    built = dataclasses.replace(config, classes=config.classes + null_label)
    network = random_weights(unet, built, seed)
    if not null_label:
        return network
    described = network.config | {"classes": config.classes, "null_label": True}
    return Network("guided", network.inputs, network.layers, described)
