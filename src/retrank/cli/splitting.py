"""How interactions are divided into train and test, and train into what retrieval and what ranking learns from."""

import polars as pl

from retrank.cli.config import RunConfig
from retrank.data import leave_last_split, leave_random_split, random_split, time_split

__all__ = ["described", "split_off"]


def split_off(table: pl.DataFrame, config: RunConfig, size: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off a part as a configuration says.

    Args:
        table: interactions.
        config: says by what.
        size: the part.

    Returns:
        What is left, and the part.

    Raises:
        ConfigError: a size that leaves one side empty.
        DataError: a bad key or time, or no row that can be split off.
    """
    data, split = config.data, config.split
    if split.by == "random":
        return random_split(table, test_size=size, seed=split.seed)
    if data.time is None:
        return leave_random_split(table, query=data.query, test_size=size, seed=split.seed)
    if split.by == "time":
        return time_split(table, time=data.time, test_size=size)
    return leave_last_split(table, query=data.query, time=data.time, test_size=size)


def described(config: RunConfig, size: float) -> str:
    """Say what `split_off` splits off.

    Args:
        config: says by what.
        size: the part.

    Returns:
        Words such as "the last 20% of each query".
    """
    if config.split.by == "random":
        return f"{size:.0%} at random"
    if config.data.time is None:
        return f"{size:.0%} of each query at random"
    return f"the last {size:.0%} of all" if config.split.by == "time" else f"the last {size:.0%} of each query"
