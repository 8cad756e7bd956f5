"""Multi-formation (Kim et al., IDC, ICML 2022): one stored image holds factor × factor smaller ones.

Shapes: n stored images, K channels, H×W pixels, f the factor.
"""

import torch.nn.functional as F
from torch import Tensor


def expand(images: Tensor, factor: int) -> Tensor:
    """Cut stored images [n, K, H, W] into sub-images and up-sample each to H×W; returns [n·factor², K, H, W].

    The sub-images of one stored image stay together, so images sorted by class remain sorted. A side that factor does
    not divide is up-sampled first. Differentiable; ``factor`` 1 returns the images themselves.
    """
    if factor == 1:
        return images
    n, k, h, w = images.shape
    rows, columns = -(-h // factor), -(-w // factor)
    if (rows * factor, columns * factor) != (h, w):
        images = F.interpolate(images, size=(rows * factor, columns * factor), mode="bilinear", align_corners=False)
    cut = images.view(n, k, factor, rows, factor, columns).permute(0, 2, 4, 1, 3, 5)
    return F.interpolate(cut.reshape(-1, k, rows, columns), size=(h, w), mode="bilinear", align_corners=False)


def expand_labels(labels: Tensor, factor: int) -> Tensor:
    """Labels [n] or [n, C] for what ``expand`` returns: [n·factor²] or [n·factor², C]."""
    return labels.repeat_interleave(factor**2, dim=0)
