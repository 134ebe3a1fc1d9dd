"""A denoiser of digits in PyTorch; see docs/own-network.md."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions with norms, shifted by time, beside a residual."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.shift = nn.Linear(128, width)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, time):
        """Values and time, both float32."""

        h = self.conv1(F.silu(self.norm1(x))) + self.shift(time)[:, :, None, None]
        return x + self.conv2(F.silu(self.norm2(h)))


class Digits(nn.Module):
    """Predicts the noise in images of 8 x 8 pixels."""

    def __init__(self):
        super().__init__()
        self.time1, self.time2, self.label = nn.Linear(32, 128), nn.Linear(128, 128), nn.Embedding(10, 128)
        self.stem, self.block1 = nn.Conv2d(1, 32, 3, padding=1), Block(32)
        self.down, self.block2 = nn.Conv2d(32, 64, 4, stride=2, padding=1), Block(64)
        self.block3, self.up = Block(64), nn.Conv2d(64, 32, 3, padding=1)
        self.join, self.block4 = nn.Conv2d(64, 32, 1, bias=False), Block(32)
        self.norm, self.head = nn.GroupNorm(8, 32), nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, image, timestep, label):
        """The noise in images."""

        angle = timestep[:, None] * 10_000.0 ** (-torch.arange(16) / 16)
        time = self.time1(torch.cat([angle.cos(), angle.sin()], dim=1))
        time = F.silu(self.time2(F.silu(time)) + self.label(label))
        top = self.block1(self.stem(image), time)
        h = self.block3(self.block2(self.down(top), time), time)
        h = self.up(F.interpolate(h, scale_factor=2))
        h = self.block4(self.join(torch.cat([h, top], dim=1)), time)
        return self.head(F.silu(self.norm(h)))
