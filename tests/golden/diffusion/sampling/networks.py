"""Small networks that several tests sample."""

import dataclasses

from golden.diffusion.networks import Network, UNetConfig, scattered, unet

SMALL = UNetConfig(side=8, widths=(8, 16), attention=(False, True), groups=4, encoding=8, embedding=16)


def random_unet(seed: int = 1, config: UNetConfig = SMALL, null_label: bool = False) -> Network:
    """U-Net of random parameters, none of them zero; with a null label, its table of labels has one more row."""
    built = dataclasses.replace(config, classes=config.classes + null_label)
    network = scattered(unet, built, seed)
    if not null_label:
        return network
    described = network.config | {"classes": config.classes, "null_label": True}
    return Network("guided", network.inputs, network.layers, described)
