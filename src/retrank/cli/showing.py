"""`Showing`: in the end of a run, one query beside what is recommended to it."""

from typing import final

import polars as pl
from rich.console import Console

from retrank.cli.config import RunConfig
from retrank.cli.output import table_of
from retrank.cli.tables import Tables
from retrank.cli.values import cast
from retrank.core.errors import ConfigError
from retrank.recommender import Recommender
from retrank.recommender.conditions import condition

__all__ = ["Showing"]


@final
class Showing:
    """One query, its last interactions and its recommendations.

    It is made before training, so that nothing can be wrong with it afterwards.

    Args:
        config: says in its part `show` which query, interactions and columns.
        tables: what the run has read.
        wanted: the key of another query, as typed.

    Raises:
        ConfigError: the query is unknown, the condition is not one on interactions, or a column is missing.
    """

    def __init__(self, config: RunConfig, tables: Tables, wanted: str | None) -> None:
        self._config, self._tables = config, tables
        known = tables.queries[config.data.query]
        place = "[show] query" if wanted is None else "--show"
        asked = config.show.query if wanted is None else wanted
        self.key = known[0] if asked is None else cast(str(asked), known.dtype, place)
        """The key of the query."""
        if not (known == self.key).any():
            raise ConfigError(f"a known {config.data.query}, such as {known[0]!r}", repr(self.key), place)
        self._columns = tables.candidates.columns if config.show.columns is None else config.show.columns
        if unknown := [name for name in self._columns if name not in tables.candidates.columns]:
            raise ConfigError(f"columns of {tables.candidates.columns}", str(unknown), "[show] columns")
        self._last = self._interactions()

    def show(self, recommender: Recommender, console: Console) -> None:
        """Print the query's last interactions, and what it is recommended.

        Args:
            recommender: makes the list.
            console: where to print.
        """
        query = self._config.data.query
        last = "" if self._config.order is None else " last"
        kind = "what" if self._config.show.liked is None else f"where {self._config.show.liked}: what"
        console.print(table_of(self._last.select(self._columns), f"{kind} {query} {self.key} chose{last}"))
        lists = recommender.recommend({query: self.key}, k=10)
        rest = [name for name in self._columns if name != recommender.candidate]
        shown = lists.select("rank", recommender.candidate, "score", *rest)
        console.print(table_of(shown, f"what we recommend to {query} {self.key}"))

    def _interactions(self) -> pl.DataFrame:
        data, liked = self._config.data, self._config.show.liked
        own = self._tables.train.filter(pl.col(data.query) == self.key)
        if liked is not None:
            try:
                own = own.filter(condition(liked, "[show] liked"))
            except pl.exceptions.PolarsError as error:
                got = f"{liked!r}: {str(error).strip().splitlines()[0]}"
                raise ConfigError("a condition on interactions", got, "[show] liked") from error
        order = self._config.order
        return (own if order is None else own.sort(order, descending=True, maintain_order=True)).head(5)
