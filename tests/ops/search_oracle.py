"""What the tests of searches share: lists to draw, and a search in NumPy."""

import numpy as np

from retrank.core.jagged import Jagged

SIZES = [1, 2, 7, 8, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 63, 64, 65, 167, 168, 169, 170, 401]
"""Numbers of candidates around the widths of panels."""


def whole_numbers(rng, rows, dim):
    return rng.integers(-2, 3, (rows, dim)).astype(np.float32)


def draw_lists(rng, num_rows, num_candidates):
    """Unsorted, with repeats, some of them all there is."""
    lists = [rng.integers(num_candidates, size=rng.choice([0, 1, 2, 40, 300])) for _ in range(num_rows)]
    return [rng.permutation(num_candidates) if rng.random() < 0.1 else some for some in lists]


def jagged(lists):
    return None if lists is None else Jagged.from_lists([list(map(int, row)) for row in lists])


def slow_best(queries, candidates, k, excluded=None, allowed=None):
    """Sort all candidates in float64 by score, then row: `(score, row)` for each place of each query."""
    scores = queries.astype(np.float64) @ candidates.T.astype(np.float64)
    found = []
    for query, values in enumerate(scores):
        left = set(range(len(values))) if allowed is None else set(map(int, allowed[query]))
        left -= set() if excluded is None else set(map(int, excluded[query]))
        found.append(sorted((-values[row], row) for row in left)[:k])
    return [[(-score, row) for score, row in best] for best in found]
