"""The classifier of the zoo."""

import dataclasses
from dataclasses import dataclass

from golden.common.checked import Checked, Count
from golden.diffusion import layers as kinds
from golden.diffusion.networks.builder import Builder, check_multiple
from golden.diffusion.networks.graph import Network
from golden.diffusion.networks.sources import Source


@dataclass(frozen=True)
class ClassifierConfig(Checked, label="Classifier {}"):
    """Shape of a small convolutional classifier.

    Parameters
    ----------
    side, channels, classes : int
        As in `UNetConfig`.
    widths : tuple of int
        Channels of each stage (convolution, norm, ReLU); all but the first halve height and width.
    groups : int
        Groups of every GroupNorm; divides every width.
    """

    side: Count = 16
    channels: Count = 1
    classes: Count = 10
    widths: tuple[Count, ...] = (16, 32, 64)
    groups: Count = 8

    def check_together(self) -> None:
        """Groups divide widths."""
        if not self.widths:
            raise ValueError("Classifier widths must name at least one convolution, not ()")
        for width in self.widths:
            check_multiple("Classifier widths", width, self.groups, "groups")


def classifier(config: ClassifierConfig, source: Source, name: str = "classifier") -> Network:
    """Build the classifier: input ``image`` as of the U-Net, output logits float32 ``(batch, classes)``.

    The value of the layer ``features``, ``(batch, widths[-1])``, is what distances between sets of images are measured
    on.
    """
    b = Builder(source)
    h, width_in = "image", config.channels
    for index, width in enumerate(config.widths):
        h = b.convolution(f"stage{index}.conv", h, width_in, width, stride=1 if index == 0 else 2)
        h = b.group_norm(f"stage{index}.norm", h, width, config.groups)
        h = b.add(kinds.ReLU, f"stage{index}.relu", h)
        width_in = width
    h = b.add(kinds.Mean, "features", h)
    b.linear("logits", h, width_in, config.classes)
    image = (config.channels, config.side, config.side)
    return Network(name, {"image": image}, b.layers, dataclasses.asdict(config))
