"""`Mixed`: the negatives of several samplers together."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from retrank.sampling.probabilities import Counts
from retrank.sampling.sampler import Negatives, Positives, Sampler

__all__ = ["Mixed"]


@final
class Mixed(Sampler):
    """All negatives of several samplers, in their order.

    The expected count of an id is the sum of the samplers' expected counts of it, whichever drew it: a popular id that
    comes from the batch is corrected for the chance that the uniform sampler would have drawn it, too.

    Args:
        samplers: at least one.

    Raises:
        ConfigError: no sampler, or something else.

    Example:
        >>> import torch, retrank as rr
        >>> sampler = rr.sampling.Mixed([rr.sampling.InBatch(counts=[3, 1]), rr.sampling.Uniform(1, num_ids=4)])
        >>> negatives = sampler(torch.tensor([2, 2, 3, 2]))
        >>> negatives.log_q[:4].exp()  # 4 · 3/4 + 1/2, and 4 · 1/4 + 1/2
        tensor([3.5000, 3.5000, 1.5000, 3.5000])

    Source: mixed negative sampling, Yang et al. (2020), there of a batch and a uniform sample.
    """

    def __init__(self, samplers: Sequence[Sampler]) -> None:
        super().__init__()
        if isinstance(samplers, Sampler) or not all(isinstance(sampler, Sampler) for sampler in samplers):
            raise self._config_error("a list of samplers", repr(samplers), "e.g. [rr.sampling.InBatch()]")
        if not samplers:
            raise self._config_error("at least one sampler", "none", "e.g. [rr.sampling.InBatch()]")
        self.samplers = nn.ModuleList(samplers)

    def grow(self, counts: Counts) -> None:
        """Let each sampler grow; see `Sampler.grow`."""
        for sampler in self.samplers:
            assert isinstance(sampler, Sampler)
            sampler.grow(counts)

    def draw(self, positives: Positives) -> Negatives:
        """Draw from each; see `Sampler.forward`."""
        parts: list[Negatives] = [sampler.draw(positives) for sampler in self.samplers]  # type: ignore[operator]
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        functions = [part.log_q_of for part in parts if part.log_q_of is not None]
        return Negatives(
            torch.cat([part.ids for part in parts]),
            torch.cat(embeddings) if len(embeddings) == len(parts) else None,
            _log_sum(functions) if len(functions) == len(parts) else None,
        )


def _log_sum(functions: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    return lambda ids: torch.stack([function(ids) for function in functions]).logsumexp(0)
