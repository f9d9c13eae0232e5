"""`Model`: what a user subclasses to train something."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError, ShapeError
from retrank.core.penalties import collecting_penalties
from retrank.core.regularized import Regularized
from retrank.data.batches import Batches, require_batches
from retrank.embeddings.embedding_table import EmbeddingTable
from retrank.features.catalogue import Catalogue
from retrank.features.space import FeatureSpace
from retrank.optim.spec import OptimizerSpec
from retrank.training.callbacks import Callback
from retrank.training.clipping import clip_gradients
from retrank.training.device import Precision, autocast, model_device
from retrank.training.evaluation import evaluate, predict
from retrank.training.growth import grow_parts, require_grown
from retrank.training.history import TrainingHistory
from retrank.training.loop import Loop
from retrank.training.options import FitOptions, as_callbacks
from retrank.training.preparation import known_rows
from retrank.training.progress import Progress
from retrank.training.single_rows import explained_single_rows
from retrank.training.trainable import Trainable

__all__ = ["Model"]


class Model(Trainable):
    """A module that knows its loss and can therefore be trained.

    A subclass builds its layers and tasks in `__init__` and defines in `compute_loss` how wrong they are on a batch;
    `fit`, `evaluate` and `predict` do the rest. Metrics of every task inside the model are found and reported, and so
    are penalties: of the weights of layers with a `regularization()`, and what layers add by `rr.core.add_penalty`.

    Example:
        >>> import torch, retrank as rr
        >>> class Line(rr.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.slope = torch.nn.Parameter(torch.zeros(1))
        ...     def forward(self, batch):
        ...         return batch["x"] * self.slope
        ...     def compute_loss(self, batch, training=False):
        ...         return (self(batch) - batch["y"]).square().mean()
        >>> x = torch.arange(8.0)
        >>> loader = rr.data.Loader(rr.Batch({"x": x, "y": 3 * x}), batch_size=4)
        >>> model = Line()
        >>> history = model.fit(loader, optimizer=rr.optim.SGD(lr=0.01), epochs=20, progress=False)
        >>> round(model.slope.item(), 3), round(model.evaluate(loader)["loss"], 3)
        (3.0, 0.0)

    Source: `tfrs.Model`. Differs: reported losses are averages over the rows of the epoch, not those of the last batch.
    """

    @property
    def embedding_parameters(self) -> list[nn.Parameter]:
        """The weights of all embedding tables, whose gradients are row-sparse, each once in module order."""
        return list(dict.fromkeys(module.weight for module in self.modules() if isinstance(module, EmbeddingTable)))

    @property
    def dense_parameters(self) -> list[nn.Parameter]:
        """All other weights, each once in module order; `rr.optim.Composite` gives either kind its optimizer."""
        tables = set(self.embedding_parameters)
        return [parameter for parameter in self.parameters() if parameter not in tables]

    def compute_losses(
        self, batch: Batch, training: bool = False, *, precision: Precision = "float32"
    ) -> dict[str, Tensor]:
        """Compute the loss of a batch and all penalties, for a training loop of your own.

        Args:
            batch: on the model's device.
            training: whether this loss will update the weights.
            precision: of the forward pass.

        Returns:
            Scalars: `loss`, from `compute_loss`; `regularization_loss`, the penalties of weights and those that were
            added in the forward pass; and `total_loss`, their sum, which is what to minimize.

        Raises:
            ShapeError: the loss is no scalar.
            ConfigError: a batch norm in training got a single row.
        """
        with (
            collecting_penalties() as penalties,
            autocast(batch.device, precision),
            explained_single_rows(self, len(batch)),
        ):
            loss = self.compute_loss(batch, training=training)
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise ShapeError(
                "a scalar tensor",
                f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__,
                f"{type(self).__name__}.compute_loss",
                "return the mean loss over the rows",
            )
        loss = loss.float() if loss.dtype in (torch.bfloat16, torch.float16) else loss
        regularization = self.regularization_loss() + penalties.total(loss.device)
        return {"loss": loss, "regularization_loss": regularization, "total_loss": loss + regularization}

    def regularization_loss(self) -> Tensor:
        """Return the sum of the penalties of the weights, a scalar; `compute_losses` adds those of a batch."""
        penalties = [module.regularization() for module in self._regularized()]
        return torch.stack(penalties).sum() if penalties else torch.zeros((), device=model_device(self))

    def grow(self, space: FeatureSpace, catalogue: Catalogue | None = None) -> None:
        """Make room for the new keys of a feature space, in place: train on, and nothing that was learned is lost.

        Embedding tables get rows (see `Table.grow`: parameters stay the same objects, and optimizers of `retrank.optim`
        go on), retrieval models take over how frequent each candidate is, and a `Reranker` has no co-occurrences of new
        candidates. A table of your own is known by the schema that it was built of, or by its name.

        Args:
            space: the model's own space after `FeatureSpace.grow`, or what `FeatureSpace.grown` made of it.
            catalogue: the candidates as the grown space transforms them, for a model that knows candidates; by default
                it keeps those that it has.

        Raises:
            ConfigError: another space, a table that holds the ids of no feature or cannot grow (such as that of a
                quantized model), or a catalogue for a model that takes none.
            DataError: two candidates of the catalogue have the same id.

        Example:
            >>> import polars as pl, retrank as rr
            >>> plays = pl.DataFrame({"user": ["a", "b"], "song": ["x", "y"]})
            >>> space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()})
            >>> schema = space.fit(plays).schema
            >>> model = rr.models.MatrixFactorization(schema["user"], schema["song"], rr.tasks.Retrieval(), dim=4)
            >>> model.grow(space.grow(pl.DataFrame({"user": ["c"], "song": ["x"]})))
            >>> model.query.num_ids, model.candidate.num_ids
            (5, 4)
        """
        require_grown(self, space)
        if catalogue is not None and not any(hasattr(part, "catalogue") for part in self.modules()):
            raise ConfigError("no catalogue, for a model that knows no candidates", repr(catalogue), "Model.grow")

        def nested(part: nn.Module) -> bool:
            if isinstance(part, Model):
                part.grow(space, catalogue)
            return isinstance(part, Model)

        grow_parts(self, space, nested)

    def train_step(
        self, batch: Batch, optimizer: Optimizer, *, precision: Precision = "float32", clip_norm: float | None = None
    ) -> dict[str, Tensor]:
        """Update the weights once.

        Args:
            batch: on the model's device.
            optimizer: of the model's parameters.
            precision: of the forward pass.
            clip_norm: the largest norm of all gradients together; None leaves them alone.

        Returns:
            Scalars `loss`, `regularization_loss` and `total_loss` before the update, on the device.

        Raises:
            ShapeError: the loss is no scalar.
            ConfigError: the loss does not depend on the weights, or a batch norm got a single row.
        """
        optimizer.zero_grad(set_to_none=True)
        losses = self.compute_losses(batch, training=True, precision=precision)
        if not losses["total_loss"].requires_grad:
            raise ConfigError(
                "a loss that depends on the weights",
                "one without gradient",
                f"{type(self).__name__}.compute_loss",
                "do not detach() it or compute it under no_grad()",
            )
        losses["total_loss"].backward()  # type: ignore[no-untyped-call]
        if clip_norm is not None:
            clip_gradients(self.parameters(), clip_norm)
        optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def test_step(self, batch: Batch, *, precision: Precision = "float32") -> dict[str, Tensor]:
        """Measure the losses of a batch and update the metrics.

        Args:
            batch: on the model's device.
            precision: of the forward pass.

        Returns:
            Scalars `loss`, `regularization_loss` and `total_loss`, on the device.
        """
        with torch.no_grad():
            return self.compute_losses(batch, precision=precision)

    def predict_step(self, batch: Batch) -> Any:
        """Return what `predict` collects for a batch: the output of `forward`.

        Args:
            batch: on the model's device.
        """
        return self(batch)

    def fit(
        self,
        batches: Batches,
        *,
        optimizer: OptimizerSpec | None = None,
        epochs: int,
        validation: Batches | None = None,
        validation_every: int = 1,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        callbacks: Sequence[Callback] = (),
        clip_norm: float | None = None,
        precision: Precision = "float32",
        device: str | torch.device = "auto",
        seed: int = 0,
        checkpoint: str | Path | None = None,
        checkpoint_every: int | None = None,
        resume: bool = True,
        progress: bool = True,
    ) -> TrainingHistory:
        """Train.

        With a checkpoint directory, a run that was killed at any step continues there when called again with the same
        arguments, and ends with the same history, and on a CPU with the same weights to the bit. Ctrl-C finishes the
        step, writes a checkpoint, and then raises.

        Args:
            batches: the training data; each pass is an epoch.
            optimizer: how weights are updated, e.g. `rr.optim.Adagrad(lr=0.1)`; by default `default_optimizer()`, which
                ranking models have.
            epochs: passes in total, those of a resumed run included.
            validation: data to evaluate on after an epoch; adds the `val_` values.
            validation_every: after how many epochs; the last one always is.
            schedule: makes a torch learning-rate schedule for the optimizer, e.g. `rr.training.linear_decay(1_000)`; it
                is stepped after every step, so count an epoch as `len(batches)`.
            callbacks: what else happens after an epoch.
            clip_norm: the largest norm of all gradients together; None leaves them alone.
            precision: `"float32"`, or `"bfloat16"` for the forward passes.
            device: where to train, and where the model stays; `"auto"` is CUDA if there is one.
            seed: of dropout and everything else that draws from torch's generators, which are put back afterwards.
            checkpoint: a directory of its own, written after every epoch.
            checkpoint_every: also after every so many steps.
            resume: whether to continue from what the directory holds, or to start over.
            progress: whether to report progress on standard error.

        Returns:
            The numbers of every epoch.

        Raises:
            ConfigError: an argument is not usable, or the checkpoint belongs to another configuration.
            TrainingError: the loss is not finite.
            StorageError: the checkpoint is damaged.
        """
        require_batches(batches, "batches of fit")
        if validation is not None:
            require_batches(validation, "validation of fit")
        options = FitOptions(
            optimizer=self.default_optimizer() if optimizer is None else optimizer,
            epochs=epochs,
            validation_every=validation_every,
            schedule=schedule,
            callbacks=as_callbacks(callbacks),
            clip_norm=clip_norm,
            precision=precision,
            device=device,
            seed=seed,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
        )
        return Loop(self, batches, validation, options).fit()

    def evaluate(
        self, batches: Batches, *, precision: Precision = "float32", progress: bool = False
    ) -> dict[str, float]:
        """Measure losses and metrics, where the model is, without changing it.

        Args:
            batches: the data.
            precision: `"float32"`, or `"bfloat16"` for the forward passes.
            progress: whether to show a bar.

        Returns:
            The metrics by name, then `loss`, `regularization_loss` and `total_loss`, averages over all rows.

        Raises:
            ConfigError: `batches` is no loader.
            DataError: there are no rows.
        """
        require_batches(batches, "batches of evaluate")
        with Progress(enabled=progress, epochs=1, num_rows=known_rows(batches)) as bar:
            bar.begin("evaluate")
            return evaluate(self, batches, precision=precision, after_batch=bar.advance)

    def predict(self, batches: Batches, *, precision: Precision = "float32", progress: bool = False) -> Tensor:
        """Run `forward` over data.

        Args:
            batches: the data.
            precision: `"float32"`, or `"bfloat16"` for the forward passes.
            progress: whether to show a bar.

        Returns:
            The outputs of all batches on the CPU, `(rows, ...)`, in the order of the rows.

        Raises:
            ConfigError: `forward` returns something other than one tensor, or `batches` is no loader, shuffles, or
                leaves out rows.
            DataError: there are no rows.
        """
        require_batches(batches, "batches of predict")
        with Progress(enabled=progress, epochs=1, num_rows=known_rows(batches)) as bar:
            bar.begin("predict")
            return predict(self, batches, precision=precision, after_batch=bar.advance)

    def _regularized(self) -> list[Regularized]:
        # Runs in every step, so it looks at types instead of isinstance with a protocol, and nests no generators.
        found: list[Regularized] = []
        left: list[nn.Module] = [self]
        seen: set[nn.Module] = set()
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += [child for child in module._modules.values() if child is not None][::-1]
                if hasattr(type(module), "regularization") and getattr(module, "l2", None) != 0:
                    found.append(cast(Regularized, module))
        return found
