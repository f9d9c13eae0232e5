import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.ops.top_k import best_of_block, empty_result, merge, unpack

VALUES = [-np.inf, -3.4e38, -2.5, -1e-40, -0.0, 0.0, 1e-45, 1.0, np.nextafter(np.float32(1), 2), 3.4e38]


def slow_top_k(row, k):
    order = sorted((column for column in range(len(row)) if row[column] > -np.inf), key=lambda c: (-row[c], c))[:k]
    missing = k - len(order)
    return [row[c] for c in order] + [-np.inf] * missing, order + [-1] * missing


@settings(max_examples=200)
@given(st.data())
def test_best_come_by_score_then_row(data):
    width, num_blocks, num_rows = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4)), 3
    values = st.sampled_from(VALUES[: data.draw(st.integers(1, len(VALUES)))])
    flat = data.draw(st.lists(values, min_size=num_rows * width * num_blocks, max_size=num_rows * width * num_blocks))
    scores = np.array(flat, dtype=np.float32).reshape(num_rows, -1)
    k = data.draw(st.integers(1, width * num_blocks))
    packed = empty_result(num_rows, k, torch.device("cpu"))
    for block in range(num_blocks):
        part = torch.from_numpy(scores[:, block * width : (block + 1) * width].copy())
        packed = merge(packed, best_of_block(part, block * width, k))
    got_scores, got_rows = unpack(packed)
    for row in range(num_rows):
        expected_scores, expected_rows = slow_top_k(scores[row], k)
        assert got_rows[row].tolist() == expected_rows
        assert got_scores[row].tolist() == [float(score) for score in expected_scores]


def test_rows_up_to_the_largest_number_survive():
    first = 2**32 - 4
    packed = best_of_block(torch.tensor([[1.0, 2.0, 2.0]]), first, 3)
    assert unpack(merge(empty_result(1, 3, packed.device), packed))[1].tolist() == [[first + 1, first + 2, first]]


def test_scores_survive_bit_by_bit():
    torch.manual_seed(0)
    scores = torch.randn(4, 100) * 10 ** torch.randint(-30, 30, (4, 100))
    got, rows = unpack(merge(empty_result(4, 100, scores.device), best_of_block(scores, 0, 100)))
    assert torch.equal(got, scores.gather(1, rows))
    assert (got.diff(dim=1) <= 0).all()
