"""EfficientNetV2-M (Tan & Le 2021) in torch.nn, with random weights."""

from __future__ import annotations

from torch import Tensor, nn

# Fused or not, expansion, stride, input and output channels, blocks.
STAGES = (
    (True, 1, 1, 24, 24, 3),
    (True, 4, 2, 24, 48, 5),
    (True, 4, 2, 48, 80, 5),
    (False, 4, 2, 80, 160, 7),
    (False, 6, 1, 160, 176, 14),
    (False, 6, 2, 176, 304, 18),
    (False, 6, 1, 304, 512, 5),
)


def conv(
    wide: int, narrow: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Module:
    """Convolution, batch norm and SiLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(wide, narrow, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(narrow, eps=1e-3),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if act else nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that sees all of them."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, squeezed, 1), nn.SiLU(),
            nn.Conv2d(squeezed, width, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x * self.gate(x)
        return made


class Block(nn.Module):
    """An inverted bottleneck, its expansion and depthwise step fused into one convolution or not."""

    def __init__(self, fused: bool, expand: int, stride: int, wide: int, narrow: int) -> None:
        super().__init__()
        inner = wide * expand
        if fused and expand == 1:
            layers = [conv(wide, narrow, 3, stride)]
        elif fused:
            layers = [conv(wide, inner, 3, stride), conv(inner, narrow, 1, act=False)]
        else:
            layers = [
                conv(wide, inner, 1), conv(inner, inner, 3, stride, groups=inner),
                SqueezeExcite(inner, wide // 4), conv(inner, narrow, 1, act=False),
            ]  # fmt: skip
        self.main = nn.Sequential(*layers)
        self.residual = stride == 1 and wide == narrow

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.main(x)
        return x + made if self.residual else made


def efficientnet_v2_m() -> nn.Module:
    """A stem, seven stages of 57 blocks, a head: 54.1 million weights."""
    blocks: list[nn.Module] = []
    for fused, expand, stride, wide, narrow, repeats in STAGES:
        for i in range(repeats):
            blocks.append(Block(fused, expand, stride if i == 0 else 1, wide if i == 0 else narrow, narrow))
    head = [conv(512, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(conv(3, 24, 3, 2), *blocks, *head)
