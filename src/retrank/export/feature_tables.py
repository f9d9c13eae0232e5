"""What a runner needs to know of features: the kind of each and what it learned, in JSON."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from retrank.core.errors import ConfigError
from retrank.core.files import write_json
from retrank.features import (
    BagOfWords,
    Bucketized,
    CandidateLists,
    Categorical,
    CategoricalList,
    Discretized,
    Feature,
    FeatureSpace,
    Hashed,
    Log,
    Normalized,
    Passthrough,
    Recent,
    Rescaled,
    Seen,
    Text,
    TimestampPart,
    VocabularyFeature,
)

__all__ = ["write_features"]

_KINDS: Final[frozenset[type[Feature]]] = frozenset(
    {
        *(BagOfWords, Bucketized, Categorical, CategoricalList, Discretized, Hashed, Log, Normalized, Passthrough),
        *(Recent, Rescaled, Seen, Text, TimestampPart),
    }
)
"""Those that `runner_features` knows."""


def write_features(folder: Path, space: FeatureSpace, names: Sequence[str]) -> None:
    """Write what `runner_features.Features` reads.

    Args:
        folder: of the features; it is made.
        space: the fitted features.
        names: those to write, and crosses.

    Raises:
        ConfigError: a kind of feature that the runner does not know.
    """
    layout = space.layout
    vocabularies: dict[str, str] = {}
    features = {name: _described(space, name, folder, vocabularies) for name in layout.parts(names)}
    crosses = {name: layout.crosses[name].to_json() for name in names if name in layout.crosses}
    write_json(folder / "features.json", {"features": features, "crosses": crosses})


def _described(space: FeatureSpace, name: str, folder: Path, vocabularies: dict[str, str]) -> dict[str, Any]:
    kind = space[name]
    if type(kind) not in _KINDS:
        known = sorted(known.__name__ for known in _KINDS)
        raise ConfigError(
            f"features of the kinds {known}", f"'{name}', {kind!r}", "export", "serve it by retrank itself"
        )
    parameters = inspect.signature(type(kind)).parameters.values()
    defaults = {own.name: own.default for own in parameters if own.default is not inspect.Parameter.empty}
    state = kind.state()
    described = {
        **defaults,
        **kind.config,
        **state.values,
        "kind": type(kind).__name__,
        "name": name,
        "columns": space.columns([name]),
        "can_grow": kind.can_grow,
    }
    if isinstance(kind, Text | BagOfWords):
        ngrams, inverse = described["ngrams"], state.frames.get("inverse_frequencies")
        lengths = [1] if ngrams is None else ngrams
        described["ngrams"] = lengths if isinstance(lengths, list) else list(range(1, lengths + 1))
        described["inverse_frequencies"] = None if inverse is None else inverse.to_series().to_list()
        described.setdefault("max_length", None)
    owner = kind.of if isinstance(kind, CandidateLists) else name
    with_words = space[owner]
    if isinstance(with_words, VocabularyFeature | BagOfWords):
        described["vocabulary"] = vocabularies.setdefault(owner, f"vocabulary-{len(vocabularies)}.json")
        described["key_type"] = with_words.vocabulary.key_type
        write_json(folder / described["vocabulary"], with_words.vocabulary.keys.to_list())
    return described
