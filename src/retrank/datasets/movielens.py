"""The MovieLens data sets of GroupLens: 100K, 1M and 20M ratings."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import polars as pl

from retrank.core.errors import DownloadError
from retrank.data.checks import require_no_nulls, require_unique
from retrank.datasets.download import Archive, Download, Wheel, cache_directory
from retrank.datasets.layouts import Layout, Tables, grouplens_1m, grouplens_20m, grouplens_100k, recbole_100k

__all__ = ["MovieLens", "movielens_100k", "movielens_1m", "movielens_20m"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class MovieLens:
    """Ratings of movies, with what is known of users and movies.

    Args:
        name: `"ml-100k"`, `"ml-1m"` or `"ml-20m"`.
        interactions: one row a rating, in the order of the original file: `user_id` (text), `movie_id` (text), `rating`
            (float32, stars), `timestamp` (int64, seconds), then the columns of the user and of the movie.
        queries: one row a user: `user_id`, and where known `age` (int64), `gender` (`"M"`, `"F"`), `occupation`,
            `zip_code`.
        candidates: one row a movie: `movie_id`, `movie_title` (text with the year: `"Toy Story (1995)"`), `title`
            (without), `year` (int64, null where unknown), `genres` (list of text).
    """

    name: str
    interactions: pl.DataFrame
    queries: pl.DataFrame
    candidates: pl.DataFrame

    def __repr__(self) -> str:
        return (
            f"MovieLens({self.name}: {self.interactions.height} ratings, "
            f"{self.queries.height} users, {self.candidates.height} movies)"
        )


@final
@dataclass(frozen=True)
class _Edition:
    name: str
    layouts: tuple[Layout, ...]
    downloads: tuple[Download, ...]
    url: str


def _grouplens(name: str, md5: str, layout: Layout, *others: tuple[Layout, Download]) -> _Edition:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    archive = Archive(url, md5, {f"{name}/{file}": file for file in layout.files})
    layouts = (layout, *(other for other, _ in others))
    return _Edition(name, layouts, (archive, *(download for _, download in others)), url)


_RECBOLE: Final = Wheel(
    "recbole==1.2.1",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    {f"recbole/dataset_example/ml-100k/{file}": file for file in recbole_100k.files},
)
_100K: Final = _grouplens("ml-100k", "0e33842e24a9c977be4e0107933c0723", grouplens_100k, (recbole_100k, _RECBOLE))
_1M: Final = _grouplens("ml-1m", "c4d9eecfca2ab87c1945afe126590906", grouplens_1m)
_20M: Final = _grouplens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", grouplens_20m)


def movielens_100k(root: str | Path | None = None) -> MovieLens:
    """Load MovieLens-100K: 100,000 ratings of 1,682 movies by 943 users, 1997-1998.

    The files are looked for in `RETRANK_DATA` and in the cache (`RETRANK_CACHE`, or `~/.cache/retrank`), in the layout
    of GroupLens or of RecBole, there or in a folder `ml-100k`. If they are not there, they are downloaded into the
    cache from GroupLens, or else taken out of a wheel on the Python package index.

    Args:
        root: look and download here instead.

    Returns:
        The tables; both layouts give the same.

    Raises:
        DownloadError: the files are nowhere and cannot be fetched.
        DataError: the files are damaged.

    Example:
        >>> import retrank as rr
        >>> rr.datasets.movielens_100k()  # doctest: +SKIP
        MovieLens(ml-100k: 100000 ratings, 943 users, 1682 movies)

    Source:
        Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015. The terms of use of
        GroupLens apply to the data.
    """
    return _load(_100K, root)


def movielens_1m(root: str | Path | None = None) -> MovieLens:
    """Load MovieLens-1M: 1,000,209 ratings of 3,883 movies by 6,040 users, 2000-2003.

    `age` is the lower end of the user's age group (1, 18, 25, 35, 45, 50, 56). Found and fetched like `movielens_100k`,
    from GroupLens only.

    Args:
        root: look and download here instead.

    Returns:
        The tables.

    Raises:
        DownloadError: the files are nowhere and cannot be fetched.
        DataError: the files are damaged.

    Source:
        See `movielens_100k`.
    """
    return _load(_1M, root)


def movielens_20m(root: str | Path | None = None) -> MovieLens:
    """Load MovieLens-20M: 20,000,263 ratings of 27,278 movies by 138,493 users, 1995-2015.

    Nothing is known of its users. Found and fetched like `movielens_100k`, from GroupLens only.

    Args:
        root: look and download here instead.

    Returns:
        The tables.

    Raises:
        DownloadError: the files are nowhere and cannot be fetched.
        DataError: the files are damaged.

    Source:
        See `movielens_100k`.
    """
    return _load(_20M, root)


def _load(edition: _Edition, root: str | Path | None) -> MovieLens:
    home = os.environ.get("RETRANK_DATA")
    cache = Path(root).expanduser() if root is not None else cache_directory()
    places = [Path(home).expanduser(), cache] if home and root is None else [cache]
    failures = []
    for place in places:
        if tables := _look(place, edition):
            return _join(edition.name, tables)
    for download in edition.downloads:
        try:
            download.fetch(cache / edition.name)
        except DownloadError as failure:
            failures.append(str(failure))
        else:
            if tables := _look(cache, edition):
                return _join(edition.name, tables)
    layouts = " or ".join(", ".join(layout.files) for layout in edition.layouts)
    raise DownloadError(
        f"{edition.name} ({layouts}) in {' or '.join(map(str, places))}, or a network",
        "no such files, and " + " | ".join(failures),
        edition.name,
        f"download {edition.url} elsewhere, unpack it, and set RETRANK_DATA to the folder that holds {edition.name}",
    )


def _look(place: Path, edition: _Edition) -> Tables | None:
    for folder in (place / edition.name, place):
        for layout in edition.layouts:
            if all((folder / file).is_file() for file in layout.files):
                return layout.read(folder)
    return None


def _join(name: str, tables: Tables) -> MovieLens:
    users = tables.users
    if users is None:
        users = tables.ratings.select("user_id").unique(maintain_order=True)
    interactions = tables.ratings
    for table, key, known in ((users, "user_id", users.columns[-1]), (tables.movies, "movie_id", "movie_title")):
        require_unique(table, key, f"{name}, {key.removesuffix('_id')}s")
        if table.width > 1:
            interactions = interactions.join(table, on=key, how="left", maintain_order="left")
            require_no_nulls(interactions, [known], f"{name}, joined to the ratings by {key}")
    return MovieLens(name, interactions, users, tables.movies)
