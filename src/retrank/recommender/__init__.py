"""The product: retrieve, filter, rank, and one directory that holds it all.

`Recommender` turns a query into a list and is saved as a bundle; `Card` tells what a reader must know of it. `Request`
is a query with rules of its own, `RankedList` its answer where no data frame is wanted, and `Explanation` tells how it
came about; `Rerank` holds business rules: caps, diversity, boosts and exploration. `recommend_to_file` writes the lists
of any number of queries. `update` learns from new events, queries and candidates. `mine_lists` makes the lists that a
ranking model learns from.
"""

from retrank.recommender.bulk import BulkSummary, recommend_to_file
from retrank.recommender.card import Card
from retrank.recommender.explanation import ExplainedCandidate, Explanation
from retrank.recommender.mining import mine_lists
from retrank.recommender.popularity import PopularCandidates
from retrank.recommender.ranked_list import RankedList
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Request
from retrank.recommender.rerank import Boost, Exploration, Rerank
from retrank.recommender.update import update

__all__ = [
    "Boost",
    "BulkSummary",
    "Card",
    "ExplainedCandidate",
    "Explanation",
    "Exploration",
    "PopularCandidates",
    "RankedList",
    "Recommender",
    "Request",
    "Rerank",
    "mine_lists",
    "recommend_to_file",
    "update",
]
