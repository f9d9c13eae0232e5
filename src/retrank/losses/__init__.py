"""Losses: averaged over rows, lists or items, so that the learning rate does not depend on the batch size.

- Among all columns: `softmax_cross_entropy`.
- On a positive and its sampled negatives, with a mask of those that are valid: `cross_entropy`, `bpr`, `bpr_max`,
  `top1`, `top1_v2`, `top1_max`, `logistic` and `hinge`.
- On lists of candidates, with masks, weights and a temperature: pair by pair `PairwiseHingeLoss`,
  `PairwiseLogisticLoss`, `PairwiseSoftZeroOneLoss` and `PairwiseMeanSquaredError`; the whole list at once
  `ListMLELoss`, `ListwiseSoftmaxLoss`, `ApproxNDCGLoss` and `LambdaLoss`.
- On single logits: `WeightedBCELoss` and `FocalLoss`.

Where a tensor is meant, a NumPy array means the same.
"""

from retrank.losses.list_loss import ListLoss
from retrank.losses.listwise import ApproxNDCGLoss, LambdaLoss, ListMLELoss, ListwiseSoftmaxLoss
from retrank.losses.pairwise import (
    PairwiseHingeLoss,
    PairwiseLogisticLoss,
    PairwiseLoss,
    PairwiseMeanSquaredError,
    PairwiseSoftZeroOneLoss,
)
from retrank.losses.pointwise import FocalLoss, PointwiseLoss, WeightedBCELoss
from retrank.losses.sampled import bpr, bpr_max, cross_entropy, hinge, logistic, top1, top1_max, top1_v2
from retrank.losses.softmax import softmax_cross_entropy

__all__ = [
    "ApproxNDCGLoss",
    "FocalLoss",
    "LambdaLoss",
    "ListLoss",
    "ListMLELoss",
    "ListwiseSoftmaxLoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseLoss",
    "PairwiseMeanSquaredError",
    "PairwiseSoftZeroOneLoss",
    "PointwiseLoss",
    "WeightedBCELoss",
    "bpr",
    "bpr_max",
    "cross_entropy",
    "hinge",
    "logistic",
    "softmax_cross_entropy",
    "top1",
    "top1_max",
    "top1_v2",
]
