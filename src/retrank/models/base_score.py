"""`BaseScore`: the score that a ranking model starts from, so that its weights need not learn how common a click is."""

from collections.abc import Iterable, Iterator
from typing import final

import torch
from torch import Tensor, nn

from retrank.core.batch import Batch
from retrank.models.checks import row_weights
from retrank.tasks.ranking import Ranking as RankingTask

__all__ = ["BaseScore"]


@final
class BaseScore(nn.Module):
    """The log-odds of the labels of the first rows that a model is trained on; 0 before.

    It is found once and never learned: training that goes on later, on other rows, must not shift every score.

    Source: `base_score` of XGBoost.
    """

    score: Tensor
    is_found: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("score", torch.zeros(()))
        self.register_buffer("is_found", torch.tensor(False))
        self.register_load_state_dict_pre_hook(_read_former_state)  # type: ignore[no-untyped-call]

    def forward(self, scores: Tensor) -> Tensor:
        """Add it to scores.

        Args:
            scores: of any shape.

        Returns:
            Of the same shape.
        """
        return scores + self.score

    def find(self, epoch: Iterable[Batch], task: RankingTask, label: str, weight: str | None) -> Iterator[Batch]:
        """Pass on the batches of an epoch, and find the score once they have ended.

        Args:
            epoch: all batches, once.
            task: a loss other than binary cross-entropy leaves the score at 0, and so do labels of one class alone.
            label: the column with the label.
            weight: the column with the weight of each row, None for equal weights.

        Yields:
            The batches.

        Raises:
            DataError: a column is missing.
        """
        clicks = rows = 0.0
        for batch in epoch:
            if isinstance(task.loss, nn.BCEWithLogitsLoss):
                weights = row_weights(batch, weight, "models.Ranking")
                factor = torch.ones(len(batch)) if weights is None else weights.reshape(-1)
                labels = batch[label]
                assert isinstance(labels, Tensor)
                clicks += (labels.reshape(-1).double() * factor.to(labels.device)).sum().item()
                rows += factor.sum().item()
            yield batch
        if 0 < clicks < rows and not self.is_found:
            self.score.fill_(torch.logit(torch.tensor(clicks / rows, dtype=torch.float64)))
            self.is_found.fill_(True)


def _read_former_state(module: BaseScore, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let models that were saved before there was a base score be read: theirs is 0, and is not to be found later."""
    names = (f"{prefix}score", f"{prefix}is_found")
    if not any(name in state for name in names):
        state[names[0]] = torch.zeros_like(module.score)
        state[names[1]] = torch.ones_like(module.is_found)
