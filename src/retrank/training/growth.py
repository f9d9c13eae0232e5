"""What of a model is sized by a feature space, and how it follows a space that has grown."""

from collections.abc import Callable, Iterator

from torch import nn

from retrank.core.config import Configurable
from retrank.core.errors import ConfigError
from retrank.core.schema import Schema
from retrank.embeddings.embeddings import Embeddings
from retrank.embeddings.table import Table
from retrank.features.categorical import VocabularyFeature
from retrank.features.space import FeatureSpace

__all__ = ["grow_parts", "require_grown"]


def grow_parts(module: nn.Module, space: FeatureSpace, nested: Callable[[nn.Module], bool]) -> None:
    """Grow the tables of a module, and let it hold the grown space in place of the one that it was built with.

    Args:
        module: a model.
        space: the grown space.
        nested: grows a module that knows how to itself, and says whether it was one.

    Raises:
        ConfigError: a table that holds the ids of no feature of the space, or cannot grow.
    """
    _hold(module, space)
    for child in module.children():
        if nested(child):
            continue
        if isinstance(child, Embeddings):
            child.grow(space.schema)
        elif isinstance(child, Table):
            child.grow(max(child.num_ids, _num_ids(child, space.schema)))
        else:
            grow_parts(child, space, nested)


def require_grown(module: nn.Module, space: FeatureSpace) -> None:
    """Refuse a space in which a key has another id than in the space that a module was built with.

    Args:
        module: a model.
        space: the space that is to take its place.

    Raises:
        ConfigError: a vocabulary that has not merely grown, or is missing.
    """
    for held in {id(held): held for part in module.modules() for _, held in _spaces(part)}.values():
        for name, kind in held.features.items():
            if not isinstance(kind, VocabularyFeature) or held is space:
                continue
            new = space.features.get(name)
            old_keys = kind.vocabulary.keys
            if not isinstance(new, VocabularyFeature) or not new.vocabulary.keys.head(len(old_keys)).equals(old_keys):
                raise ConfigError(
                    "the space of the model, grown",
                    f"another, in which the keys of '{name}' have other ids",
                    f"{type(module).__name__}.grow",
                    "use FeatureSpace.grow or grown, which keep all ids",
                )


def _num_ids(table: Table, schema: Schema) -> int:
    for name in (table.column, table.name):
        known = None if name is None else schema.get(name)
        if known is not None and known.num_ids is not None:
            return known.num_ids
    raise ConfigError(
        f"a table of one of the features {[name for name, column in schema.items() if column.num_ids]}",
        f"'{table.name}'",
        "Model.grow",
        "size it by the schema of its feature, or define grow() in your model",
    )


def _spaces(module: nn.Module) -> Iterator[tuple[str, FeatureSpace]]:
    """Yield the spaces that a module holds: its attributes, and the recorded arguments of its constructor."""
    yield from ((name, held) for name, held in vars(module).items() if isinstance(held, FeatureSpace))
    if isinstance(module, Configurable):
        recorded = module.recorded_arguments().items()
        yield from ((name, held) for name, held in recorded if isinstance(held, FeatureSpace))


def _hold(module: nn.Module, space: FeatureSpace) -> None:
    for name in {name for name, _ in _spaces(module)}:
        if name in vars(module):
            setattr(module, name, space)
        if isinstance(module, Configurable) and name in module.recorded_arguments():
            module.record_shared(**{name: space})
