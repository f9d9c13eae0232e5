"""Recommendations from an exported recommender, by ONNX Runtime, NumPy and the standard library alone.

    from runner import Runner

    runner = Runner("path/of/the/export")
    for item in runner.recommend({"user_id": "42"}, k=5):
        print(item["key"], item["score"])

A copy of this module and of `runner_features` stands in every export; nothing here imports retrank.
"""

import importlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np

from retrank.export.runner_features import Features, Lists, Value, kind_of_value, stands_for, take_key

__all__ = ["Runner", "onnx_program"]

_NUM_SPECIAL: Final = 2
_WEIGHTS: Final = ".weights"
_PAIRS: Final = ("retrieval_score", "retrieval_rank", "is_standard")

Arrays = dict[str, np.ndarray]
RunProgram = Callable[[Arrays], np.ndarray]
"""From the inputs of a program by name to its output."""


def onnx_program(directory: Path, name: str) -> RunProgram:
    """Load a program of an export in ONNX Runtime.

    Args:
        directory: of the export.
        name: of the program, such as `"query_tower"`.

    Returns:
        The program.
    """
    onnxruntime = importlib.import_module("onnxruntime")  # which another engine does without
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what an optimizer says of shapes is for its authors
    options.intra_op_num_threads = 1  # of a query: more would wait for each other, and spin
    session = onnxruntime.InferenceSession(
        str(directory / "programs" / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: np.asarray(session.run(None, inputs)[0])


class _Found(NamedTuple):
    scores: np.ndarray
    rows: np.ndarray


class _Asked(NamedTuple):
    """A query, looked up: its features, the rows it has seen, and whether it can be embedded."""

    features: dict[str, Value]
    seen: np.ndarray
    is_usable: bool


@final
class Runner:
    """Retrieves, filters and ranks as the recommender did that was exported.

    Candidates are searched exactly, whatever index the recommender has.

    Args:
        directory: of the export.
        load: loads a program by the directory and its name; another engine may take the place of ONNX Runtime.
    """

    def __init__(self, directory: str | Path, load: Callable[[Path, str], RunProgram] = onnx_program) -> None:
        folder = Path(directory)
        self._about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        if self._about["format"] != "retrank.export" or self._about["version"] != 1:
            raise ValueError(f"expected an export of version 1, got {self._about['format']} {self._about['version']}")
        self._features = Features(folder / "features")
        self._inputs: dict[str, list[dict[str, Any]]] = self._about["programs"]
        self._embed = load(folder, "query_tower")
        self._rank = load(folder, "ranking") if "ranking" in self._inputs else None
        keys = json.loads((folder / "candidates" / "keys.json").read_text(encoding="utf-8"))
        self.candidates: list[Any] = keys
        self._row_of = {key: row for row, key in enumerate(keys)}
        self._vectors = np.load(folder / "candidates" / "vectors.npy")
        self._available = np.load(folder / "candidates" / "available.npy")
        self._counts = np.load(folder / "candidates" / "counts.npy")
        self._popular = np.argsort(-self._counts, kind="stable")
        self._of_candidates = _load(folder / "candidates" / "features.npz")
        known = json.loads((folder / "queries" / "keys.json").read_text(encoding="utf-8"))
        self._place_of = {key: place for place, key in enumerate(known)}
        self._of_queries = _load(folder / "queries" / "features.npz")

    def recommend(
        self,
        query: Mapping[str, Any] | str | int,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] = (),
    ) -> list[dict[str, Any]]:
        """Recommend to one query.

        Args:
            query: its key alone, or with feature values that are new or have changed, by column name.
            k: the length of the list; shorter where fewer candidates are allowed.
            exclude_seen: leave out what the query interacted with, also what it brings as recent candidates.
            allow: the only candidate keys that may be recommended.
            deny: candidate keys that must not be recommended.

        Returns:
            The candidates, best first: `key`, `score` and `stage`, which one gave the score.

        Raises:
            ValueError: k below 1, or a query that is not what it must be.
        """
        if k < 1:
            raise ValueError(f"expected k >= 1, got {k}")
        asked, k = self._look_up(query), min(k, len(self.candidates))
        allowed, unseen = self._available.copy(), self._available.copy()
        unseen[asked.seen] = False
        if allow is not None:
            allowed[:] = False
            rows = self._rows(allow)
            allowed[rows] = self._available[rows]
        allowed[self._rows(deny)] = False
        is_standard = exclude_seen and np.array_equal(allowed, self._available)
        allowed &= unseen | (not exclude_seen)
        if not asked.is_usable:
            rows = self._popular[allowed[self._popular]][:k]
            return self._listed(_Found(self._counts[rows].astype(np.float32), rows), k, "popularity")
        scores = self._vectors @ self._embedding(asked.features)
        if self._rank is None:
            return self._listed(_best(scores, allowed, k), k, "retrieval")
        depth = min(self._about["num_retrieved"], len(self.candidates))
        found = _best(scores, allowed, max(k, depth))
        standard = _Found(*(part[:depth] for part in (found if is_standard else _best(scores, unseen, depth))))
        return self._listed(self._ranked(asked.features, found, standard), k, "ranking")

    def embed(self, query: Mapping[str, Any] | str | int) -> np.ndarray:
        """Embed one query, to be compared with the vectors of candidates wherever those are.

        Args:
            query: as in `recommend`.

        Returns:
            `(dim,)` float32; the score of a candidate is the dot product of this and its vector.

        Raises:
            ValueError: a query that is not what it must be, or of which nothing is known.
        """
        asked = self._look_up(query)
        if not asked.is_usable:
            raise ValueError(f"expected a query of which something is known, got {query!r}")
        return self._embedding(asked.features)

    def _embedding(self, features: Mapping[str, Value]) -> np.ndarray:
        inputs = {own["name"]: _padded(own["name"], features) for own in self._inputs["query_tower"]}
        embedding: np.ndarray = self._embed(inputs)[0]
        return embedding

    def _look_up(self, query: Mapping[str, Any] | str | int) -> _Asked:
        about, stored = self._about, self._of_queries
        given = dict(query) if isinstance(query, Mapping) else {about["query"]: query}
        unknown = [name for name in given if name != about["query"] and name not in about["column_kinds"]]
        if unknown or about["query"] not in given:
            raise ValueError(
                f"expected '{about['query']}' and columns of {list(about['column_kinds'])}, got {list(given)}"
            )
        key = take_key(given.pop(about["query"]), about["query_key_type"])
        place = self._place_of.get(
            key, len(self._place_of)
        )  # the last row is that of a query of which nothing is known
        is_known = bool(stored["is_known"][place])
        brought = self._brought(given)
        if not is_known:
            given = {about["query"]: key}
        usable = is_known or bool(brought) or (about["reads_history"] and bool(stored["has_events"][place]))
        for column in about["required_columns"]:
            usable &= column in brought or (is_known and not stored[f"is_absent:{column}"][place])
        columns = {**brought, about["query"]: key} if not is_known else brought
        parts: dict[str, Value] = {}
        tells = False
        for name, kind in self._features.kinds.items():
            values = [columns.get(column) for column in kind["columns"]]
            there = [value is not None for value in values]
            if any(there) and not all(there):
                raise ValueError(f"expected {kind['columns']} together, or none of them, got a part of them")
            if all(there):
                parts[name] = self._features.transform(name, values)
                is_new_key = kind["columns"][0] == about["query"] and not kind["can_grow"]
                told = not is_new_key and _is_telling(parts[name])
            else:
                parts[name] = _row(stored, name, place)
                told = bool(stored[f"tells:{name}"][place])
            tells |= told and name in about["telling"]
        crossed = {name: self._features.cross(name, parts) for name in self._features.crosses}
        return _Asked({**parts, **crossed}, self._seen(place, brought), usable and (tells or not about["telling"]))

    def _brought(self, given: Mapping[str, Any]) -> dict[str, Any]:
        brought = {}
        for name, value in given.items():
            if value is None or (isinstance(value, float) and math.isnan(value)):
                continue
            trained = self._about["column_kinds"][name]
            if not stands_for(kind_of_value(value), trained):
                raise ValueError(f"column '{name}' of the query: expected {trained}, as in training, got {value!r}")
            brought[name] = value
        return brought

    def _seen(self, place: int, brought: Mapping[str, Any]) -> np.ndarray:
        first, last = self._of_queries["seen:offsets"][place : place + 2]
        lists = [brought[column] for column in self._about["list_columns"] if column in brought]
        keys = [key for keys in lists for key in keys if key is not None]
        return np.concatenate([self._of_queries["seen:values"][first:last], self._rows(keys)])

    def _rows(self, keys: Iterable[Any]) -> np.ndarray:
        taken = (take_key(key, self._about["candidate_key_type"]) for key in keys)
        return np.array([self._row_of[key] for key in taken if key in self._row_of], dtype=np.int64)

    def _ranked(self, features: Mapping[str, Value], found: _Found, standard: _Found) -> _Found:
        assert self._rank is not None
        if not len(found.rows):
            return found
        num = len(standard.rows)
        both = found if np.array_equal(found.rows[:num], standard.rows) else _Found(
            *(np.concatenate(pair) for pair in zip(standard, found, strict=True))
        )  # fmt: skip
        pairs = {
            "retrieval_score": both.scores,
            "retrieval_rank": np.searchsorted(-both.scores[:num], -both.scores),
            "is_standard": np.arange(len(both.rows)) < num,
        }
        inputs = {}
        for own in self._inputs["ranking"]:
            name, is_of_candidates = own["name"], "candidates" in own["shape"]
            if name in _PAIRS:
                inputs[name] = pairs[name][None]
            elif is_of_candidates:
                inputs[name] = _padded_rows(self._of_candidates, name, both.rows)[None]
            else:
                inputs[name] = _padded(name, features)
        scores = self._rank(inputs)[0][-len(found.rows) :]
        order = np.argsort(-scores, kind="stable")
        return _Found(scores[order], found.rows[order])

    def _listed(self, found: _Found, k: int, stage: str) -> list[dict[str, Any]]:
        best = zip(found.rows[:k].tolist(), found.scores[:k].tolist(), strict=True)
        return [{"key": self.candidates[row], "score": score, "stage": stage} for row, score in best]


def _best(scores: np.ndarray, allowed: np.ndarray, k: int) -> _Found:
    """Return the k best allowed rows, equal scores in the order of the rows."""
    rows = np.flatnonzero(allowed)
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    rows = rows[np.argsort(-scores[rows], kind="stable")][:k]
    return _Found(scores[rows], rows)


def _load(file: Path) -> Arrays:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _row(arrays: Arrays, name: str, row: int) -> Value:
    if f"column:{name}" in arrays:
        return arrays[f"column:{name}"][row : row + 1]
    first, last = arrays[f"offsets:{name}"][row : row + 2]
    weights = arrays.get(f"weights:{name}")
    return Lists(arrays[f"values:{name}"][first:last], None if weights is None else weights[first:last])


def _padded(name: str, features: Mapping[str, Value]) -> np.ndarray:
    """Return a row as a program takes it; a list has at least one place, and id 0 fills it."""
    own = features[name.removesuffix(_WEIGHTS) if name not in features else name]
    if not isinstance(own, Lists):
        return own
    values = own.ids if name in features else np.ones(len(own.ids)) if own.weights is None else own.weights
    dtype = np.int64 if name in features else np.float32
    padded: np.ndarray = np.pad(values, (0, max(1 - len(values), 0))).astype(dtype)
    return padded[None]


def _padded_rows(arrays: Arrays, name: str, rows: np.ndarray) -> np.ndarray:
    """Return rows of stored columns as a program takes them."""
    if f"column:{name}" in arrays:
        return np.asarray(arrays[f"column:{name}"][rows])
    is_weights = f"values:{name}" not in arrays
    name = name.removesuffix(_WEIGHTS) if is_weights else name
    values, offsets = arrays[f"{'weights' if is_weights else 'values'}:{name}"], arrays[f"offsets:{name}"]
    lengths = offsets[rows + 1] - offsets[rows]
    places = np.arange(max(int(lengths.max(initial=0)), 1))
    is_there = places < lengths[:, None]
    padded = np.zeros(is_there.shape, dtype=values.dtype)
    padded[is_there] = values[(offsets[rows, None] + places)[is_there]]
    return padded


def _is_telling(value: Value) -> bool:
    ids = value.ids if isinstance(value, Lists) else value
    return ids.dtype != np.int64 or bool((ids >= _NUM_SPECIAL).any())
