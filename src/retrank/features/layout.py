"""`Layout`: which columns and features the features and crosses of a space are made of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, final

import torch

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError
from retrank.features.cross import Cross
from retrank.features.fitting import column_of
from retrank.features.kinds import Feature

__all__ = ["Layout"]


@final
class Layout(NamedTuple):
    """The features and crosses of a space by name.

    Attributes:
        features: kind of each feature.
        crosses: each cross.
    """

    features: Mapping[str, Feature]
    crosses: Mapping[str, Cross]

    @property
    def names(self) -> list[str]:
        """The names of all features, then of all crosses."""
        return [*self.features, *self.crosses]

    def select(self, features: Sequence[str] | None) -> list[str]:
        """Return names of features and crosses, all by default.

        Raises:
            ConfigError: an unknown name, or one text instead of a list.
        """
        if features is None:
            return self.names
        if isinstance(features, str):
            raise ConfigError("a list of names", repr(features), "features", f"write [{features!r}]")
        for name in features:
            if name not in self.features and name not in self.crosses:
                raise ConfigError(f"some of {self.names}", f"'{name}'", "features")
        return list(features)

    def parts(self, names: Iterable[str]) -> list[str]:
        """Return the features that features and crosses are made of, each once."""
        crossed = ((self.crosses[name].features if name in self.crosses else (name,)) for name in names)
        return list(dict.fromkeys(name for parts in crossed for name in parts))

    def column(self, name: str) -> str:
        """Return the table column that a feature reads."""
        return column_of(name, self.features[name])

    def columns(self, names: Iterable[str]) -> list[str]:
        """Return the distinct table columns that features and crosses read."""
        return list(dict.fromkeys(map(self.column, self.parts(names))))

    def combine(self, made: Mapping[str, Column], names: Sequence[str]) -> Batch:
        """Make a batch of transformed parts.

        Args:
            made: the transformed features by name; all that `parts(names)` lists.
            names: the features and crosses of the batch.

        Returns:
            One column per name.
        """
        return Batch({name: made[name] if name in self.features else self._crossed(name, made) for name in names})

    def _crossed(self, name: str, made: Mapping[str, Column]) -> Column:
        cross = self.crosses[name]
        return cross.combine([torch.as_tensor(made[part]) for part in cross.features])
