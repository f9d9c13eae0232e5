"""Losses: pure functions on scores, averaged over rows so that the learning rate does not depend on the batch size.

`softmax_cross_entropy` picks one column among many.
"""

from retrank.losses.softmax import softmax_cross_entropy

__all__ = ["softmax_cross_entropy"]
