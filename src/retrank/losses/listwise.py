"""Listwise losses: the order of a whole list at once."""

from typing import ClassVar, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from retrank.core.errors import ConfigError
from retrank.losses.list_loss import ListLoss
from retrank.losses.reduction import Reduction

__all__ = ["ApproxNDCGLoss", "LambdaLoss", "ListMLELoss", "ListwiseSoftmaxLoss"]

_MAX_GRADE: Final = 100.0  # gains of 2^100 and their sums stay finite in float32
_WEIGHTINGS: Final = ("lambdarank", "ndcg_loss2", "ndcg_loss2++")
_PLUS_PLUS: Final = 10.0  # the paper's mu: how much NDCG-Loss2 counts against LambdaRank in NDCG-Loss2++


@final
class ListMLELoss(ListLoss):
    """-log probability of the order by labels, when items are drawn one by one by the softmax of their scores.

    Each list's loss is Σᵢ log Σ_{j ≥ i} exp(sⱼ - sᵢ), i and j running over the list in descending order of labels;
    equal labels keep their order in the list. There is one entry per list.

    Args:
        temperature: scores are divided by it.
        reduction: `"mean"` over lists, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.zeros(1, 3), torch.tensor([[2.0, 0.0, 1.0]])
        >>> rr.losses.ListMLELoss()(scores, labels)  # log 3 + log 2 + log 1
        tensor(1.7918)

    Source: Xia et al. (2008), "Listwise approach to learning to rank". Keras-RS adds 1e-10 inside of the logarithm,
        which distorts lists whose scores span more than 20; here the sums stay in logarithms.
    """

    def __init__(self, *, temperature: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(temperature, reduction)

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        # Invalid items go first: then no sum over the rest of the list contains them.
        order = labels.where(valid, torch.inf).argsort(dim=1, descending=True, stable=True)
        scores, valid = scores.gather(1, order), valid.gather(1, order)
        rest = scores.flip(1).logcumsumexp(dim=1).flip(1)
        return (rest - scores).where(valid, 0).sum(dim=1)


@final
class ListwiseSoftmaxLoss(ListLoss):
    """Cross-entropy between each list's labels, divided by their sum, and the softmax of its scores.

    A list without a label above 0 has no loss. There is one entry per list.

    Args:
        temperature: scores are divided by it.
        reduction: `"mean"` over lists, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 3.0, -1.0]])
        >>> rr.losses.ListwiseSoftmaxLoss()(scores, labels)  # log 3: the fourth is padding
        tensor(1.0986)

    Source: Cao et al. (2007), ListNet, with the labels' shares in place of their softmax, as in Bruch et al. (2019).
    """

    def __init__(self, *, temperature: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(temperature, reduction)

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        log_total = _log_sum_exp(scores, valid)
        total = labels.sum(dim=1)
        return ((log_total[:, None] - scores) * labels).sum(dim=1) / total.where(total > 0, 1)


@final
class ApproxNDCGLoss(ListLoss):
    """1 - NDCG, where an item's rank is the smooth count 1 + Σⱼ sigmoid((sⱼ - sᵢ) / temperature).

    The gain is 2^label - 1, the discount 1 / log2(1 + rank). A list without a label above 0 has no loss. There is one
    entry per list. Memory grows with the square of the lists' length.

    Args:
        temperature: the smaller, the closer to NDCG, and the smaller most gradients.
        reduction: `"mean"` over lists, `"sum"` or `"none"`.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[9.0, 1.0, 5.0]]), torch.tensor([[2.0, 0.0, 1.0]])
        >>> loss = rr.losses.ApproxNDCGLoss()(scores, labels)
        >>> round(loss.item(), 4)
        0.0

    Source: Qin et al. (2010), "A general approximation framework"; Bruch et al. (2019) for the temperature.
    """

    max_label: ClassVar[float] = _MAX_GRADE

    def __init__(self, *, temperature: float = 0.1, reduction: Reduction = "mean") -> None:
        super().__init__(temperature, reduction)

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        above = torch.sigmoid(scores[:, None, :] - scores[:, :, None]).where(valid[:, None, :], 0)
        ranks = above.sum(dim=2) + 0.5  # an item is half above itself
        gain, best = torch.exp2(labels) - 1, _best_dcg(labels)
        ndcg = (gain / torch.log2(1 + ranks)).sum(dim=1) / best.where(best > 0, 1)
        return (1 - ndcg).where(best > 0, 0)


@final
class LambdaLoss(ListLoss):
    """Pairwise logistic loss, each pair weighted by what swapping it would do to NDCG.

    Each list's loss is Σ wᵢⱼ log(1 + exp(sⱼ - sᵢ)) over the pairs with labelᵢ > labelⱼ. With gains
    (2^label - 1) / best DCG, discounts D(r) = 1 / log2(1 + r) and the current ranks r, which get no gradient, the
    weight is |gainᵢ - gainⱼ| times

    - `"lambdarank"`: |D(rᵢ) - D(rⱼ)|, what a swap changes;
    - `"ndcg_loss2"`: |D(|rᵢ - rⱼ|) - D(|rᵢ - rⱼ| + 1)|, a tighter bound of NDCG;
    - `"ndcg_loss2++"`: the first plus ten times the second.

    A list without a label above 0 has no loss. There is one entry per list. Equal scores keep their order in the list.
    Memory grows with the square of the lists' length.

    Args:
        weighting: one of these.
        k: only pairs count of which at least one item now ranks among the first k; None for all pairs.
        temperature: scores are divided by it.
        reduction: `"mean"` over lists, `"sum"` or `"none"`.

    Raises:
        ConfigError: an unknown weighting or reduction, a k below 1, a temperature that is not above 0.

    Example:
        >>> import torch, retrank as rr
        >>> scores, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
        >>> rr.losses.LambdaLoss("lambdarank")(scores, labels)  # (1 - 1 / log2(3)) * log 2
        tensor(0.2558)

    Source: Wang et al. (2018), "The LambdaLoss Framework for Ranking Metric Optimization", in natural logarithms;
        Burges (2010) for LambdaRank.
    """

    max_label: ClassVar[float] = _MAX_GRADE

    def __init__(
        self,
        weighting: Literal["lambdarank", "ndcg_loss2", "ndcg_loss2++"] = "ndcg_loss2++",
        *,
        k: int | None = None,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(temperature, reduction)
        if weighting not in _WEIGHTINGS:
            raise ConfigError(f"a weighting among {list(_WEIGHTINGS)}", repr(weighting), "LambdaLoss")
        if k is not None and k < 1:
            raise ConfigError("k of at least 1, or None", str(k), "LambdaLoss", "None takes all pairs")
        self.weighting, self.k = weighting, k

    def _losses(self, scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        best = _best_dcg(labels)[:, None]
        gain = (torch.exp2(labels) - 1) / best.where(best > 0, 1)
        counts = (labels[:, :, None] > labels[:, None, :]) & valid[:, :, None] & valid[:, None, :]
        ranks = _ranks(scores.detach(), valid)
        if self.k is not None:
            counts &= torch.minimum(ranks[:, :, None], ranks[:, None, :]) <= self.k
        weight = (gain[:, :, None] - gain[:, None, :]).abs() * self._swap(ranks)
        losses = weight * F.softplus(scores[:, None, :] - scores[:, :, None])
        return losses.where(counts, 0).sum(dim=(1, 2))

    def _swap(self, ranks: Tensor) -> Tensor:
        discount = 1 / torch.log2(1 + ranks)
        swapped = (discount[:, :, None] - discount[:, None, :]).abs()
        if self.weighting == "lambdarank":
            return swapped
        apart = (ranks[:, :, None] - ranks[:, None, :]).abs().clamp(min=1)  # an item is no pair with itself
        bound = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
        return bound if self.weighting == "ndcg_loss2" else swapped + _PLUS_PLUS * bound


def _log_sum_exp(scores: Tensor, valid: Tensor) -> Tensor:
    """Return `(batch,)` log Σ exp(score) of the valid items; 0 for a list without any."""
    some = valid.any(dim=1)
    kept = scores.masked_fill(~valid & some[:, None], -torch.inf)  # a row of -inf alone would have NaN gradients
    return kept.logsumexp(dim=1).where(some, 0) if scores.shape[1] else scores.new_zeros(len(scores))


def _best_dcg(labels: Tensor) -> Tensor:
    """Return `(batch,)` DCG of the order by labels; items of label 0 gain nothing at any rank."""
    ranks = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return ((torch.exp2(labels.sort(dim=1, descending=True).values) - 1) / torch.log2(1 + ranks)).sum(dim=1)


def _ranks(scores: Tensor, valid: Tensor) -> Tensor:
    """Return `(batch, list)` ranks from 1 on by descending score, as floats; ties in list order, invalid items last."""
    order = scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).to(scores) + 1
