"""The outcome of a comparison: a frame to compute with, a table to read, a plot to look at."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import polars as pl
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from retrank.core.errors import ConfigError
from retrank.core.extras import optional

__all__ = ["Report"]

_CELL: Final = len(".123–.456 ")


@final
class Report:
    """Metrics of several systems with intervals and paired tests.

    Args:
        frame: one row per system and metric: `system`, `metric`, `mean`, `low`, `high` (95% over queries),
            `difference` to the reference with `difference_low`, `difference_high` and `p_value`, `num_seeds` and
            `seed_std` (of the mean, null for a single seed).
        reference: the system the differences refer to.
        num_queries: how many queries were averaged.

    Example:
        >>> import polars as pl, retrank as rr
        >>> train = pl.DataFrame({"user": list("aab"), "song": list("xyx")})
        >>> report = rr.evaluate(
        ...     {"popularity": rr.baselines.Popularity()}, train, pl.DataFrame({"user": ["b"], "song": ["y"]}), ks=[1])
        >>> report.systems, report.num_queries, report.value("popularity", "ndcg@1")
        (['popularity'], 1, 1.0)
    """

    def __init__(self, frame: pl.DataFrame, *, reference: str, num_queries: int) -> None:
        self.frame, self.reference, self.num_queries = frame, reference, num_queries

    @property
    def systems(self) -> list[str]:
        """The names of the systems, in the order given."""
        return self.frame["system"].unique(maintain_order=True).to_list()

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, e.g. `ndcg@10`."""
        return self.frame["metric"].unique(maintain_order=True).to_list()

    def value(self, system: str, metric: str, field: str = "mean") -> float:
        """Return one number.

        Args:
            system: a name of `systems`.
            metric: a name of `metrics`.
            field: a column of `frame`.

        Returns:
            The number.

        Raises:
            ConfigError: there is no such system, metric or field, or the field holds no number, as the spread over
                seeds of a single one.
        """
        row = self.frame.filter(pl.col("system") == system, pl.col("metric") == metric)
        if row.is_empty() or field not in row.columns:
            raise ConfigError(
                f"a system of {self.systems} and a metric of {self.metrics}",
                f"{system!r}, {metric!r}, {field!r}",
                "Report.value",
            )
        number = row[field][0]
        if not isinstance(number, int | float):
            raise ConfigError(
                "a number",
                "null: it has a single seed" if number is None else repr(number),
                f"{field} of '{system}'",
                "evaluate several seeds as a list" if number is None else "look into Report.frame",
            )
        return float(number)

    def table(self, metrics: Sequence[str] | None = None, *, console: Console | None = None) -> None:
        """Print the means, their intervals below; a star marks p < 0.05 against the reference.

        Metrics that do not fit beside each other are printed in several tables.

        Args:
            metrics: which to show; those at the smallest k by default.
            console: where to print; standard output by default.

        Raises:
            ConfigError: an unknown metric.
        """
        console = console or Console()
        smallest = min(int(name.split("@")[1]) for name in self.metrics)
        shown = list(metrics or [name for name in self.metrics if name.endswith(f"@{smallest}")])
        title = f"{self.num_queries:,} queries, 95% intervals, * p < 0.05 against {self.reference}"
        console.print(title, markup=False, highlight=False, style="italic")
        wide = console.options.update(width=10_000)
        for num_tables in range(1, len(shown) + 1):
            size = math.ceil(len(shown) / num_tables)
            tables = [self._table(shown[start : start + size]) for start in range(0, len(shown), size)]
            if all(Measurement.get(console, wide, table).maximum <= console.width for table in tables):
                break
        for table in tables:
            console.print(table)

    def _table(self, metrics: Sequence[str]) -> Table:
        table = Table()
        table.add_column("system", overflow="fold")
        for metric in metrics:
            header = metric if len(metric) <= _CELL else metric.replace("@", "\n@")
            table.add_column(Text(header), justify="right")
        for system in self.systems:
            table.add_row(Text(system), *(self._cell(system, metric) for metric in metrics))
        return table

    def _cell(self, system: str, metric: str) -> Text:
        mean, low, high, p_value = (self.value(system, metric, f) for f in ("mean", "low", "high", "p_value"))
        star = "*" if system != self.reference and p_value < 0.05 else " "
        interval = "–".join(f"{end:.3f}".removeprefix("0") for end in (low, high))
        return Text.assemble(f"{mean:.4f}{star}\n", (f"{interval} ", "dim"))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {"reference": self.reference, "num_queries": self.num_queries, "rows": self.frame.to_dicts()}

    def to_markdown(self, metrics: Sequence[str] | None = None) -> str:
        """Return a Markdown table of means and 95% intervals.

        Args:
            metrics: which to show; all by default.

        Returns:
            Lines of Markdown.
        """
        shown = list(metrics or self.metrics)
        lines = ["| system | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
        for system in self.systems:
            cells = (
                "{:.4f} ({:.4f}–{:.4f})".format(*(self.value(system, metric, f) for f in ("mean", "low", "high")))
                for metric in shown
            )
            lines.append(f"| {system} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def plot(self, path: str | Path, metrics: Sequence[str] | None = None) -> None:
        """Draw the means with their intervals, one panel a metric.

        Args:
            path: the image file; its ending says the format.
            metrics: which to draw; the first four by default.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        matplotlib = optional("matplotlib", extra="plot")
        matplotlib.use("Agg")
        pyplot = optional("matplotlib.pyplot", extra="plot")
        shown = list(metrics or self.metrics[:4])
        height = 1.2 + 0.35 * len(self.systems)
        figure, axes = pyplot.subplots(1, len(shown), figsize=(3.2 * len(shown), height), sharey=True, squeeze=False)
        places = range(len(self.systems))
        for axis, metric in zip(axes[0], shown, strict=True):
            rows = self.frame.filter(pl.col("metric") == metric)
            mean = rows["mean"].to_numpy()
            spread = [mean - rows["low"].to_numpy(), rows["high"].to_numpy() - mean]
            axis.errorbar(mean, places, xerr=spread, fmt="o", capsize=3)
            axis.set_title(metric)
            axis.grid(axis="x", alpha=0.3)
        axes[0][0].set_yticks(places, self.systems)
        axes[0][0].invert_yaxis()
        figure.tight_layout()
        figure.savefig(path)
        pyplot.close(figure)
