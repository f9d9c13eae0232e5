"""Lists as tables: rows of the catalogue become keys and details at the public edge.

Columns are indexed, not gathered: `Series.gather` goes through polars' query engine, which takes ten times as long for
a short list, and whose threads do not survive a fork.
"""

from functools import lru_cache

import polars as pl

from retrank.recommender.answers import MODELS, POPULAR, SIMILAR, Answers
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.ranked_list import Stage

__all__ = ["list_with_details", "stage_of", "table_of_lists"]


def list_with_details(parts: AnyParts, answers: Answers) -> pl.DataFrame:
    """Return one list with the columns of the catalogue.

    Args:
        parts: the recommender.
        answers: of one query.

    Returns:
        One row per candidate, best first: `rank` (from 1), the candidate key, `score`, `stage`, and the other columns.
    """
    table, key = parts.candidates.table, parts.candidates.column
    rows, scores = answers.rows[0], answers.scores[0]
    length = int((rows >= 0).sum())  # missing places are at the end
    places = pl.Series(rows[:length].numpy(), dtype=pl.get_index_type())
    columns = [
        _ranks(length),
        table[key][places],
        pl.Series("score", scores[:length].numpy(), dtype=pl.Float32),
        _stages(stage_of(parts, int(answers.origins[0])), length),
    ]
    return pl.DataFrame([*columns, *(column[places] for column in table if column.name != key)])


def table_of_lists(parts: AnyParts, keys: pl.Series, answers: Answers) -> pl.DataFrame:
    """Return the lists of many queries.

    Args:
        parts: the recommender.
        keys: `(queries,)` their keys.
        answers: their lists.

    Returns:
        The query key, the candidate key, `rank`, `score` and `stage`, queries in their order, best first.
    """
    candidates = parts.candidates
    there = answers.rows >= 0
    query, place = there.nonzero(as_tuple=True)
    stages = pl.Series("stage", [stage_of(parts, origin) for origin in (MODELS, SIMILAR, POPULAR)])
    return pl.DataFrame(
        [
            keys[query.numpy()],
            candidates.table[candidates.column][answers.rows[there].numpy()],
            pl.Series("rank", (place + 1).numpy(), dtype=pl.Int64),
            pl.Series("score", answers.scores[there].numpy(), dtype=pl.Float32),
            stages[answers.origins[query].numpy()],
        ]
    )


@lru_cache(maxsize=64)
def _ranks(length: int) -> pl.Series:
    return pl.Series("rank", range(1, length + 1), dtype=pl.Int64)


@lru_cache(maxsize=64)
def _stages(stage: str, length: int) -> pl.Series:
    return pl.Series("stage", [stage] * length, dtype=pl.String)


def stage_of(parts: AnyParts, origin: int) -> Stage:
    """Name the stage that gave the scores of a list.

    Args:
        parts: the recommender.
        origin: of the list, as `Answers` has it.
    """
    if origin != MODELS:
        return "popularity" if origin == POPULAR else "similar"
    return "retrieval" if parts.ranking is None else "ranking"
