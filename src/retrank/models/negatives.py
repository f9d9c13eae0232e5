"""The `negatives` of a retrieval model, as its users may write them."""

from collections.abc import Mapping
from typing import Final, Literal

from retrank.core.errors import ConfigError
from retrank.models.catalogue_negatives import CatalogueNegatives
from retrank.models.in_batch_negatives import InBatchNegatives
from retrank.models.negative_source import NegativeSource
from retrank.models.sampled_negatives import SampledNegatives
from retrank.sampling.sampler import Sampler

__all__ = ["Negatives", "as_negative_source"]

Negatives = NegativeSource | Sampler | Literal["in_batch", "catalogue"]
"""A source of negatives, the name of one without arguments, or a sampler."""

_NAMED: Final[Mapping[str, NegativeSource]] = {"in_batch": InBatchNegatives(), "catalogue": CatalogueNegatives()}


def as_negative_source(negatives: Negatives, where: str) -> NegativeSource:
    """Return the source that is meant.

    Args:
        negatives: a source; `"in_batch"` or `"catalogue"` for `InBatchNegatives()` or `CatalogueNegatives()`; or a
            sampler for `SampledNegatives`.
        where: the model, for messages.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(negatives, NegativeSource):
        return negatives
    if isinstance(negatives, Sampler):
        return SampledNegatives(negatives)
    if not isinstance(negatives, str) or negatives not in _NAMED:
        raise ConfigError(
            f"one of {list(_NAMED)}, a NegativeSource or a sampler", repr(negatives), where, "choose one of them"
        )
    return _NAMED[negatives]
