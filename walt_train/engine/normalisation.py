"""Batch normalisation of a network that was read from a bundle, measured so that it can be trained.

What is folded away is a scale and a shift of each channel; what a training needs is the mean and the spread of what
comes in, and the same function said by them. Both follow from looking at pictures: with mean m and variance v of a
channel, scale sqrt(v + eps) and shift b + m compute what the folded layer did, in training as well as afterwards
(Ioffe and Szegedy 2015, the other way round).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_FRESH_NORM = 3.0**-0.5
"""Length of a filter as torch draws it, whatever its size: what a learning rate is made for."""


class _Seen:
    """Sums over everything that came into one normalisation."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """(B, C, H, W)."""
        flat = x.detach().double().transpose(0, 1).flatten(1).cpu()
        self.count += flat.shape[1]
        self.sums += torch.stack([flat.sum(1), flat.square().sum(1)])

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, (C,) each."""
        mean, square = self.sums / self.count
        return mean, (square - mean.square()).clamp(min=0)


@torch.no_grad()
def measure(net: nn.Module, look: Callable[[], object]) -> None:
    """Gives every normalisation the mean and variance of what comes in; what the network computes stays the same.

    Args:
        net: Its layers change; it is left in the mode that it was in.
        look: Runs the network on pictures; it is in eval mode then.
    """
    training = net.training
    net.eval()
    with _watched(net) as seen:
        look()
    net.train(training)
    for chain in net.modules():
        if isinstance(chain, nn.Sequential):
            for convolution, norm in zip(list(chain)[:-1], list(chain)[1:], strict=True):
                if isinstance(norm, nn.BatchNorm2d) and seen[norm].count:
                    _restate(convolution, norm, *seen[norm].moments)  # type: ignore[arg-type]


@contextmanager
def _watched(net: nn.Module) -> Iterator[dict[nn.BatchNorm2d, _Seen]]:
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = {norm: _Seen(norm.num_features) for norm in norms}
    hooks = [norm.register_forward_pre_hook(lambda norm, x: seen[norm].add(x[0])) for norm in norms]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _restate(convolution: nn.Conv2d, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = mean.to(norm.weight), variance.to(norm.weight)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.add_(scale * (mean - norm.running_mean))
    # A filter and its normalisation share a factor. Filters of the length that a fresh one has learn at the pace that
    # the learning rate is made for; a channel that is always the same has no spread to be rescaled.
    length = convolution.weight.flatten(1).norm(dim=1)
    factor = torch.where((length > 0) & (variance > norm.eps), _FRESH_NORM / length.clamp(min=1e-12), 1.0)
    convolution.weight.mul_(factor.view(-1, 1, 1, 1))
    norm.running_mean.copy_(mean * factor)
    norm.running_var.copy_(variance * factor.square())
    norm.weight.copy_(scale / factor * (norm.running_var + norm.eps).sqrt())
