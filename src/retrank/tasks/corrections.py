"""The corrections of retrieval scores as modules, for models that are put together from parts."""

from typing import final

from torch import Tensor, nn

from retrank.core.arguments import check_number
from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.tensors import as_tensor
from retrank.losses.checks import checked
from retrank.tasks.logits import correct_log_q, mine_hard_negatives, remove_accidental_hits

__all__ = ["HardNegativeMining", "RemoveAccidentalHits", "SamplingProbabilityCorrection"]


@final
class HardNegativeMining(Configurable, nn.Module):
    """`mine_hard_negatives` as a module.

    Args:
        num_hard_negatives: how many negatives to keep, at least 1; all if there are fewer.

    Raises:
        ConfigError: fewer than 1.

    Example:
        >>> import torch, retrank as rr
        >>> mine = rr.tasks.HardNegativeMining(2)
        >>> mine(torch.tensor([[1.0, 5.0, 3.0, 4.0]]), torch.tensor([2]))
        (tensor([[3., 5., 4.]]), tensor([0]))

    Source: `HardNegativeMining` of TensorFlow Recommenders and Keras-RS, which keep the positive alone for 0.
    """

    def __init__(self, num_hard_negatives: int) -> None:
        super().__init__()
        if num_hard_negatives < 1:
            raise ConfigError(
                "at least 1 hard negative",
                str(num_hard_negatives),
                "HardNegativeMining",
                "without the module all negatives stay",
            )
        self.num_hard_negatives = num_hard_negatives

    def forward(self, scores: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the positive and the hardest negatives.

        Args:
            scores: `(..., columns)`.
            positives: `(...)` int64 column of each row's positive.

        Returns:
            Scores with the positive in column 0, and the new positives, all 0.
        """
        return mine_hard_negatives(scores, positives, self.num_hard_negatives)


@final
class RemoveAccidentalHits(Configurable, nn.Module):
    """`remove_accidental_hits` as a module.

    Example:
        >>> import torch, retrank as rr
        >>> rr.tasks.RemoveAccidentalHits()(torch.zeros(1, 3), torch.tensor([7, 8, 7]), torch.tensor([0]))
        tensor([[0., 0., -inf]])

    Source: `RemoveAccidentalHits` of TensorFlow Recommenders and Keras-RS; the latter's leaves all scores in place.
    """

    def forward(self, scores: Tensor, candidate_ids: Tensor, positives: Tensor) -> Tensor:
        """Remove columns that hold the positive candidate again.

        Args:
            scores: `(..., columns)`.
            candidate_ids: `(columns,)`, or of the scores' shape, integers.
            positives: `(...)` int64 column of each row's positive.

        Returns:
            `(..., columns)` with -inf where a column was removed.
        """
        return remove_accidental_hits(scores, candidate_ids, positives)


@final
class SamplingProbabilityCorrection(Configurable, nn.Module):
    """`correct_log_q` as a module, for probabilities instead of their logarithms.

    Args:
        epsilon: smaller probabilities are raised to it, so that an id that was never counted keeps a finite score.

    Raises:
        ConfigError: an epsilon that is not in (0, 1].

    Example:
        >>> import torch, retrank as rr
        >>> correct = rr.tasks.SamplingProbabilityCorrection()
        >>> correct(torch.zeros(1, 2), torch.tensor([0.5, 0.25])).exp()
        tensor([[2., 4.]])

    Source: `SamplingProbabilityCorrection` of Keras-RS, `SamplingProbablityCorrection` of TensorFlow Recommenders.
    """

    def __init__(self, *, epsilon: float = 1e-6) -> None:
        super().__init__()
        check_number(epsilon, "epsilon", "SamplingProbabilityCorrection", above=0, most=1)
        self.epsilon = epsilon

    def forward(self, scores: Tensor, probability: Tensor) -> Tensor:
        """Subtract the logarithm of each candidate's sampling probability.

        Args:
            scores: `(..., columns)`.
            probability: `(columns,)`, or of the scores' shape, from 0 to 1.

        Returns:
            The scores' shape.

        Raises:
            ShapeError: `probability` is of another shape.
            DataError: a number outside of [0, 1]; on a GPU its scores become NaN instead.
        """
        where = "SamplingProbabilityCorrection"
        probability = as_tensor(probability, "probability", where)
        probability = checked(probability, 0, 1, expected="probabilities", where=where, name="probability")
        return correct_log_q(scores, probability.clamp(min=self.epsilon).log())
