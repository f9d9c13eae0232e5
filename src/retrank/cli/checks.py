"""What a run needs of its configuration and tables, checked before anything is trained."""

from typing import Final

import polars as pl

from retrank.cli.config import RunConfig
from retrank.core.errors import ConfigError, DataError
from retrank.features import FeatureSpace

__all__ = ["RECENT", "require_features_of_keys", "require_parts", "require_past"]

RECENT: Final = "recent"
"""The column that the entry `recent` of the data part makes."""


def require_features_of_keys(config: RunConfig, space: FeatureSpace) -> None:
    """Require that each tower's first feature is the one that identifies a query or a candidate.

    Args:
        config: the configuration.
        space: its features.

    Raises:
        ConfigError: it reads another column, or there is no such feature.
    """
    for part in ("query", "candidate"):
        names, key = getattr(config.retrieval, part), getattr(config.data, part)
        if space.columns(names[:1]) != [key]:
            raise ConfigError(
                f"a feature of the column '{key}' in the first place",
                str(names),
                f"retrieval.{part}",
                f"put the one that identifies a {part} first",
            )


def require_past(config: RunConfig, space: FeatureSpace, interactions: pl.DataFrame) -> None:
    """Require that the column of each interaction's past is made exactly if it is read and not there.

    Args:
        config: the configuration.
        space: its features.
        interactions: the table as it was read.

    Raises:
        ConfigError: it would be made over another column or for nothing, or is missing.
    """
    is_made, is_there = config.data.recent is not None, RECENT in interactions.columns
    is_read = RECENT in space.columns()
    if is_made and is_there:
        raise ConfigError(
            f"tables without a column '{RECENT}'", "one", "data.recent", "rename the column, or drop the entry"
        )
    if is_made and not is_read:
        fix = f'add one, e.g. [features.{RECENT}] with kind = "Recent", or drop the entry'
        raise ConfigError(f"a feature that reads the column '{RECENT}'", "none", "data.recent", fix)
    if is_read and not (is_made or is_there):
        fix = "write e.g. recent = 50 there, to have it made of each interaction's past"
        raise ConfigError(f"a column '{RECENT}'", f"the columns {interactions.columns}", "[data]", fix)


def require_parts(config: RunConfig, test: pl.DataFrame, parts: dict[str, pl.DataFrame]) -> None:
    """Require that the splits left something to learn from and something to test on.

    Args:
        config: the configuration.
        test: the test part.
        parts: name to rows of each part of train that a model learns from; `train` is the whole.

    Raises:
        DataError: a part is empty, or the test part repeats train.
    """
    fix = "change [split], or bring more interactions"
    for name, part in parts.items():
        if part.is_empty():
            raise DataError("interactions to learn from", "none", f"the part '{name}' of the interactions", fix)
    if test.join(parts["train"], on=[config.data.query, config.data.candidate], how="anti").is_empty():
        raise DataError("test interactions that are not in train as well", "none", "split.test", fix)
