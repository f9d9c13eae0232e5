"""The product: retrieve, filter, rank, and one directory that holds it all.

`Recommender` turns a query into a list and is saved as a bundle; `Card` tells what a reader must know of it.
`mine_lists` makes the lists that a ranking model learns from.
"""

from retrank.recommender.bundle import Bundle, read_bundle, write_bundle
from retrank.recommender.card import Card
from retrank.recommender.filters import allowed_rows
from retrank.recommender.mining import mine_lists
from retrank.recommender.queries import QueryTable
from retrank.recommender.recommender import Recommender
from retrank.recommender.stages import by_popularity, rank, retrieve

__all__ = [
    "Bundle",
    "Card",
    "QueryTable",
    "Recommender",
    "allowed_rows",
    "by_popularity",
    "mine_lists",
    "rank",
    "read_bundle",
    "retrieve",
    "write_bundle",
]
