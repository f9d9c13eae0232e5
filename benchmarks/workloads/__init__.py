"""The workloads, one a file. A file is read by every interpreter: libraries are imported inside of its functions."""

NAMES = (
    "two_tower",
    "movielens_evaluation",
    "corpus_evaluation",
    "dlrm",
    "dcn",
    "deep_recommender",
    "ratings",
    "features",
    "loader",
    "startup",
    "serving",
    "scale",
)
