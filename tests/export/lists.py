"""Whether a runner gives the lists of a recommender: the same scores within 1e-5, and the same keys but for ties."""

import numpy as np

__all__ = ["same_list"]


def same_list(wanted, found, tolerance=1e-5):
    scores = np.array([item["score"] for item in found])
    if len(wanted) != len(found) or (len(wanted) and wanted["stage"].to_list() != [item["stage"] for item in found]):
        return False
    expected = wanted["score"].to_numpy()
    if len(found) and np.abs(expected - scores).max() > tolerance:
        return False
    keys = wanted.to_series(1).to_list()
    return all(
        found[place]["key"] == key
        or any(
            abs(expected[place] - expected[near]) <= 2 * tolerance
            for near in (place - 1, place + 1)
            if 0 <= near < len(keys)
        )
        for place, key in enumerate(keys)
    )
