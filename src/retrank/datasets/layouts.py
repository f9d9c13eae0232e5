"""Readers of the file layouts that MovieLens comes in; all give the same tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import polars as pl

from retrank.core.errors import DataError
from retrank.data.checks import require_columns, require_no_nulls, require_rows

__all__ = ["Layout", "Tables", "grouplens_100k", "grouplens_1m", "grouplens_20m", "recbole_100k"]

_GENRES: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

_OCCUPATIONS: Final = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip

_RATING: Final = ("user_id", "movie_id", "rating", "timestamp")
_USER: Final = ("user_id", "age", "gender", "occupation", "zip_code")
_MOVIE: Final = ("movie_id", "movie_title", "genres")


@final
@dataclass(frozen=True)
class Tables:
    """What a layout holds.

    Args:
        ratings: in the order of the file.
        users: None if nothing is known of them.
        movies: one row each.
    """

    ratings: pl.DataFrame
    users: pl.DataFrame | None
    movies: pl.DataFrame


@final
@dataclass(frozen=True)
class Layout:
    """A set of files in one folder, and how to read them.

    Args:
        files: their names.
        read: reads them from a folder.
    """

    files: tuple[str, ...]
    read: Callable[[Path], Tables]


def _read_grouplens_100k(folder: Path) -> Tables:
    unused = ("released", "video_released", "url")
    users = _parse(folder / "u.user", ("user_id", "age", "gender", "occupation", "zip_code"), "|")
    movies = _parse(
        folder / "u.item", ("movie_id", "movie_title", *unused, *_GENRES), "|", encoding="latin-1", may_be_empty=unused
    )
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in _GENRES]
    movies = movies.with_columns(genres=pl.concat_list(flags).list.drop_nulls())
    return _tables(_parse(folder / "u.data", _RATING, "\t"), users, movies)


def _read_recbole_100k(folder: Path) -> Tables:
    users = _parse_atomic(folder / "ml-100k.user", ("user_id", "age", "gender", "occupation", "zip_code"))
    ratings = _parse_atomic(folder / "ml-100k.inter", ("user_id", "item_id", "rating", "timestamp"))
    movies = _parse_atomic(folder / "ml-100k.item", ("item_id", "movie_title", "release_year", "class"))
    title, year = pl.col("movie_title"), pl.col("release_year")
    unknown = year == "unkonwn"  # spelled so in the files, for the one movie without a year
    movies = movies.select(
        movie_id="item_id",
        movie_title=pl.when(unknown).then(title.str.replace("unkonwn", "unknown")).otherwise(title + " (" + year + ")"),
        genres=pl.col("class").str.split(" "),
    )
    ratings = ratings.rename({"item_id": "movie_id"}).with_columns(pl.col("timestamp").cast(pl.Float64))
    return _tables(ratings, users, movies)


def _read_grouplens_1m(folder: Path) -> Tables:
    users = _parse(folder / "users.dat", ("user_id", "gender", "age", "occupation", "zip_code"), "::")
    movies = _parse(folder / "movies.dat", _MOVIE, "::", encoding="latin-1")
    codes = {str(code): name for code, name in enumerate(_OCCUPATIONS)}
    users = users.with_columns(pl.col("occupation").replace_strict(codes, default=None))
    require_no_nulls(users, ["occupation"], str(folder / "users.dat"))
    movies = movies.with_columns(pl.col("genres").str.split("|"))
    return _tables(_parse(folder / "ratings.dat", _RATING, "::"), users, movies)


def _read_grouplens_20m(folder: Path) -> Tables:
    movies = _parse(folder / "movies.csv", _MOVIE, ",", has_header=True)
    movies = movies.with_columns(pl.col("genres").str.split("|").list.filter(pl.element() != "(no genres listed)"))
    return _tables(_parse(folder / "ratings.csv", _RATING, ",", has_header=True), None, movies)


grouplens_100k: Final = Layout(("u.data", "u.item", "u.user"), _read_grouplens_100k)
"""MovieLens-100K as GroupLens gives it."""
recbole_100k: Final = Layout(("ml-100k.inter", "ml-100k.item", "ml-100k.user"), _read_recbole_100k)
"""MovieLens-100K in RecBole's atomic files."""
grouplens_1m: Final = Layout(("ratings.dat", "users.dat", "movies.dat"), _read_grouplens_1m)
"""MovieLens-1M as GroupLens gives it."""
grouplens_20m: Final = Layout(("ratings.csv", "movies.csv"), _read_grouplens_20m)
"""MovieLens-20M as GroupLens gives it."""


def _tables(ratings: pl.DataFrame, users: pl.DataFrame | None, movies: pl.DataFrame) -> Tables:
    """Give every table its columns, types and order."""
    ratings = _cast(ratings, "ratings", {"rating": pl.Float32(), "timestamp": pl.Int64()}).select(_RATING)
    if users is not None:
        users = _cast(users, "users", {"age": pl.Int64()}).select(_USER)
    whole = pl.col("movie_title").str.replace_all(r"\s+", " ").str.strip_chars()
    movies = movies.select("movie_id", whole, "genres").select(
        "movie_id",
        "movie_title",
        title=pl.col("movie_title").str.extract(r"^(.*)\(\d{4}\)").str.strip_chars().fill_null(pl.col("movie_title")),
        year=pl.col("movie_title").str.extract(r"^.*\((\d{4})\)").cast(pl.Int64),
        genres="genres",
    )
    return Tables(ratings, users, movies)


def _cast(table: pl.DataFrame, where: str, types: dict[str, pl.DataType]) -> pl.DataFrame:
    for name, dtype in types.items():
        values = table[name].cast(dtype, strict=False)
        row = values.is_null().arg_max()
        if row is not None and values.null_count():
            got = repr(table[name][row])
            raise DataError(f"a number ({dtype})", got, f"column '{name}', row {row} of {where}")
        table = table.with_columns(values)
    return table


def _parse_atomic(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Read a RecBole file, whose header says `name:type`."""
    with path.open(encoding="utf-8") as file:
        names = [field.partition(":")[0] for field in file.readline().rstrip("\n").split("\t")]
    require_columns(dict.fromkeys(names, pl.String()), columns, str(path))
    table = _parse(path, names, "\t", has_header=True, may_be_empty=sorted(set(names) - set(columns)))
    return table.select(columns)


def _parse(
    path: Path,
    columns: Sequence[str],
    separator: str,
    *,
    encoding: str = "utf-8",
    has_header: bool = False,
    may_be_empty: Sequence[str] = (),
) -> pl.DataFrame:
    """Read a delimited file as text columns."""
    file: Path | bytes = path
    if encoding != "utf-8" or len(separator) > 1:
        file = path.read_bytes().decode(encoding).replace(separator, "\t").encode()
        separator = "\t"
    try:
        table = pl.read_csv(
            file,
            separator=separator,
            has_header=False,
            skip_rows=int(has_header),
            schema=dict.fromkeys(columns, pl.String()),
            quote_char='"' if separator == "," else None,
        )
    except pl.exceptions.PolarsError as error:
        summary = str(error).partition("\n")[0]
        raise DataError(f"{len(columns)} fields per line", summary, str(path)) from error
    require_rows(table, str(path))
    require_no_nulls(table, [name for name in columns if name not in may_be_empty], str(path))
    return table
