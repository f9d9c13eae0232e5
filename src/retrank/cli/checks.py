"""What a run needs of its configuration and tables, checked before anything is trained."""

import polars as pl

from retrank.cli.config import RunConfig
from retrank.core.errors import ConfigError, DataError
from retrank.features import FeatureSpace, Recent, Seen

__all__ = ["require_features_of_keys", "require_lists_of_positives", "require_order", "require_parts"]


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


def require_lists_of_positives(config: RunConfig, space: FeatureSpace) -> None:
    """Require that what retrieval keeps out of negatives is a history that its query tower reads.

    Args:
        config: the configuration.
        space: its features.

    Raises:
        ConfigError: the tower does not read such a feature, or it holds something else.
    """
    settings = config.retrieval
    if isinstance(settings.remove_known_positives, str):
        kinds = {name: space.features.get(name) for name in (*settings.query, settings.query_residual or "")}
        fitting = [
            name for name, kind in kinds.items() if isinstance(kind, Recent | Seen) and kind.of == settings.candidate[0]
        ]
        if settings.remove_known_positives not in fitting:
            expected = f"true, false or one of {fitting}, the histories that queries are embedded by"
            got = repr(settings.remove_known_positives)
            raise ConfigError(expected, got, "retrieval.remove_known_positives")


def require_order(config: RunConfig) -> None:
    """Require that something tells what came last, if a baseline that needs it is to be served.

    Args:
        config: the configuration.

    Raises:
        ConfigError: nothing does.
    """
    if config.serve == "ease-recent" and config.order is None:
        lacking = "[data] has no time" if config.data.time is None else "[split] is at random"
        raise ConfigError(f"something else, as {lacking}", "'ease-recent'", "serve", "write ease")


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
        where = "split.test" if config.data.test is None else str(config.data.test)
        raise DataError("test interactions that are not in train as well", "none", where, fix)
