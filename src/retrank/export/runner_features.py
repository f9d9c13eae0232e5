"""Raw features as ids and numbers, by the standard library and NumPy alone: a copy stands beside each exported runner.

The kinds are those of `retrank.features`, of which each function here repeats what one makes of a value.
"""

import datetime as dt
import json
import math
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np

__all__ = ["Features", "Lists", "kind_of_value", "stands_for", "take_key"]

_WORD: Final = 8
_MASK: Final = 2**64 - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_UNKNOWN: Final = 1
_NUM_SPECIAL: Final = 2
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
# What Unicode calls white space; `str.split` splits at four control characters besides.
_SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_SPACE: Final = re.compile(f"[{_SPACES}]+")
_PUNCTUATION: Final = re.compile(r"[!-/:-@\[-`{-~]")
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PARTS: Final[dict[str, Callable[[Any], int]]] = {
    "minute": lambda time: int(time.minute),
    "hour": lambda time: int(time.hour),
    "weekday": lambda time: int(time.weekday()),
    "hour_of_week": lambda time: int(time.weekday() * 24 + time.hour),
    "day": lambda time: int(time.day - 1),
    "month": lambda time: int(time.month - 1),
    "quarter": lambda time: int((time.month - 1) // 3),
}


@final
class Lists(NamedTuple):
    """One list of ids: `(length,)` int64, and float32 weights or None."""

    ids: np.ndarray
    weights: np.ndarray | None


Value = np.ndarray | Lists
"""What a feature makes of one row: `(1,)` int64, a list of ids, or `(1,)` or `(1, width)` float32."""


@final
class Features:
    """The features of a query, read from the files of an export.

    Args:
        folder: `features` of the export.
    """

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        self.kinds: dict[str, dict[str, Any]] = content["features"]
        self.crosses: dict[str, dict[str, Any]] = content["crosses"]
        files = {kind["vocabulary"] for kind in self.kinds.values() if "vocabulary" in kind}
        self._vocabularies: dict[str, dict[Any, int]] = {
            file: {key: _NUM_SPECIAL + place for place, key in enumerate(_json(folder / file))} for file in files
        }

    def transform(self, name: str, values: Sequence[Any]) -> Value:
        """Transform one row.

        Args:
            name: the feature.
            values: of the columns that it reads; none is None.

        Returns:
            What models take.

        Raises:
            ValueError: a value that the feature refuses.
        """
        kind = self.kinds[name]
        vocabulary = self._vocabularies.get(kind.get("vocabulary", ""), {})
        try:
            return _TRANSFORMS[kind["kind"]](kind, values, vocabulary)
        except ValueError as error:
            raise ValueError(f"column '{kind['columns'][0]}' of the query: {error}") from error

    def cross(self, name: str, parts: Mapping[str, Value]) -> np.ndarray:
        """Combine the ids of a row.

        Args:
            name: the cross.
            parts: the features by name.

        Returns:
            `(1,)` int64.
        """
        cross, hashed = self.crosses[name], _salt(name)
        for part in cross["features"]:
            ids = parts[part]
            assert isinstance(ids, np.ndarray)
            hashed = _mix(_mix(hashed) + int(ids[0]))
        return np.array([hashed % cross["bins"] + _NUM_SPECIAL])


def kind_of_value(value: Any) -> str:
    """Name what kind of value something is; those of one kind can stand for each other.

    Args:
        value: a Python or NumPy value.

    Raises:
        ValueError: a value of no kind that a column holds.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        kinds = {kind_of_value(one) for one in value} - {"nothing"}
        if len(kinds) > 1:
            raise ValueError(f"expected a list of values of one type, got {value!r}")
        return f"list of {kinds.pop() if kinds else 'nothing'}"
    if isinstance(value, dt.datetime):
        return "datetime" if value.tzinfo is None else "datetime with time zone"
    kinds_of = {str: "text", bool: "flag", int: "number", float: "number", Decimal: "number", dt.date: "date"}
    if type(value) not in kinds_of:
        raise ValueError(f"expected a value that a table can hold, got {value!r}")
    return kinds_of[type(value)]


def stands_for(asked: str, trained: str) -> bool:
    """Say whether values of one kind can stand for those of another; see `kind_of_value`.

    Args:
        asked: the kind of what is asked with.
        trained: the kind of what was trained on.
    """
    if asked == trained or "nothing" in (asked, trained):
        return True
    both = asked.startswith("list of ") and trained.startswith("list of ")
    return both and stands_for(asked.removeprefix("list of "), trained.removeprefix("list of "))


def take_key(value: Any, expected: str) -> Any:
    """Take one key.

    Args:
        value: a string, an integer or a boolean.
        expected: the type that was trained on: `"string"`, `"integer"` or `"boolean"`.

    Returns:
        The key as Python's own type.

    Raises:
        ValueError: another type, or an integer beyond 64 bits.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if type(value) is not {"string": str, "integer": int, "boolean": bool}[expected]:
        raise ValueError(f"expected a key of type {expected}, got {value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"expected an integer key of 64 bits, got {value}")
    return value


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _id(kind: Mapping[str, Any], key: Any, vocabulary: Mapping[Any, int]) -> int:
    return _UNKNOWN if key is None else vocabulary.get(take_key(key, kind["key_type"]), _UNKNOWN)


def _categorical(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:
    return np.array([_id(kind, values[0], vocabulary)])


def _categorical_list(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:
    keys = values[0]
    if isinstance(keys, str):
        if kind["separator"] is None:
            raise ValueError(f"expected a list of keys, got {keys!r}")
        keys = [key for text in keys.split(kind["separator"]) if (key := text.strip(_SPACES))]
    ids = _ids_of(kind, keys, vocabulary)
    if len(values) == 1:
        return Lists(ids, None)
    weights = np.array(values[1], dtype=np.float64)
    if len(weights) != len(ids) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"expected {len(ids)} weights of at least 0, one a key, got {values[1]!r}")
    return Lists(ids, _float32(weights))


def _ids_of(kind: Mapping[str, Any], keys: Any, vocabulary: Mapping[Any, int]) -> np.ndarray:
    if not kind_of_value(keys).startswith("list of "):
        raise ValueError(f"expected a list of keys, got {keys!r}")
    if kind["nulls"] == "error" and any(key is None for key in keys):
        raise ValueError("expected no null in a list, got one")
    return np.array([_id(kind, key, vocabulary) for key in keys], dtype=np.int64)


def _recent(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:
    keys = values[0] if kind["length"] is None else list(values[0])[-kind["length"] :]
    ids = _ids_of(kind, keys, vocabulary)
    later = np.arange(len(ids) - 1, -1, -1, dtype=np.float64)
    weights = np.exp(-kind["decay"] * later) * (1.0 + later) ** -kind["power"]
    return Lists(ids, weights.astype(np.float32))


def _seen(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:
    return Lists(_ids_of(kind, values[0], vocabulary), None)


def _hashed(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    key, salt = take_key(values[0], kind["key_type"]), _salt(kind["name"])
    hashed = _hash_text(key, salt) if isinstance(key, str) else _mix(int(key) + salt)
    return np.array([hashed % kind["bins"] + _NUM_SPECIAL])


def _binned(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    place = np.searchsorted(kind["boundaries"], _number(values[0], kind["fill"]), side="right")
    return np.array([_NUM_SPECIAL + int(place)])


def _rescaled(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    return _float32(np.array([_number(values[0], kind["fill"]) * kind["scale"] + kind["offset"]]))


def _normalized(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    number = _number(values[0], kind["fill"], _FLOAT32_MAX)
    return _float32(np.array([(number - kind["mean"]) / (math.sqrt(kind["variance"]) or 1.0)]))


def _log(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    number = _number(values[0], kind["fill"])
    if number < 0:
        raise ValueError(f"expected a number >= 0, got {number:g}")
    return _float32(np.array([np.log1p(number)]))


def _passthrough(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    is_list = kind_of_value(values[0]).startswith("list of ")
    numbers = [_number(one, kind["fill"]) for one in (values[0] if is_list else [values[0]])]
    if len(numbers) != kind["width"]:
        raise ValueError(f"expected {kind['width']} numbers per row, got {len(numbers)}")
    made = _float32(np.array(numbers, dtype=np.float64))
    return made if kind["width"] == 1 else made.reshape(1, -1)


def _number(value: Any, fill: float | None, limit: float = math.inf) -> float:
    number = math.nan if value is None else float(value)
    if not math.isfinite(number):
        if fill is None:
            raise ValueError(f"expected a finite number, got {value!r}")
        number = fill
    if abs(number) > limit:
        raise ValueError(f"expected a number that float32 can hold, got {number:g}")
    return number


def _float32(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        made = numbers.astype(np.float32)
    if not np.isfinite(made).all():
        raise ValueError(f"expected numbers that float32 can hold, got {numbers.tolist()}")
    return made


def _words(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Lists:
    text = values[0]
    if not isinstance(text, str):
        raise ValueError(f"expected a text, got {text!r}")
    if kind["standardize"] in ("lower", "lower_and_strip_punctuation"):
        text = text.lower()
    if kind["standardize"] in ("strip_punctuation", "lower_and_strip_punctuation"):
        text = _PUNCTUATION.sub("", text)
    words = [word for word in _SPACE.split(text) if word]
    grams = [" ".join(words[first : first + n]) for n in kind["ngrams"] for first in range(len(words) - n + 1)]
    ids = [vocabulary.get(gram, _UNKNOWN) for gram in grams[: kind["max_length"]]]
    if kind["inverse_frequencies"] is None:
        return Lists(np.array(ids, dtype=np.int64), None)
    distinct = list(dict.fromkeys(ids))
    weights = [ids.count(one) * kind["inverse_frequencies"][one] for one in distinct]
    return Lists(np.array(distinct, dtype=np.int64), np.array(weights, dtype=np.float64).astype(np.float32))


def _bag_of_words(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:
    ids, weights = _words(kind, values, vocabulary)
    made = np.zeros((1, len(vocabulary) + 1), dtype=np.float32)
    for place, one in enumerate(ids - _UNKNOWN):
        amount = 1.0 if weights is None else weights[place]
        made[0, one] = made[0, one] + 1 if kind["output"] == "count" else amount
    return made


def _timestamp(kind: Mapping[str, Any], values: Sequence[Any], vocabulary: Mapping[Any, int]) -> Value:  # noqa: ARG001
    value, clock = values[0], kind["clock"]
    found = kind_of_value(value)
    expected = {"no zone": ("date", "datetime"), "numbers": ("number", "flag"), None: (found,)}
    if found not in expected.get(clock, ("datetime with time zone",)):
        raise ValueError(f"expected times as in training ({clock}), got {value!r}")
    if found == "datetime with time zone" and clock is not None:
        value = value.astimezone(zoneinfo.ZoneInfo(clock))
    elif found == "date" and "hour" in kind["part"] + ("hour" if kind["part"] == "minute" else ""):
        raise ValueError(f"expected a datetime, got a date, which has no hour: {value!r}")
    elif found in ("number", "flag"):
        seconds = math.floor(value // _PER_SECOND[kind["unit"]])
        try:
            value = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)  # UTC, as it reads
        except OverflowError:
            raise ValueError(f"expected a time in the years 1 to 9999, got {value!r}") from None
    return np.array([_PARTS[kind["part"]](value) + _NUM_SPECIAL])


def _mix(value: int) -> int:
    """SplitMix64; see `retrank.features.hashing`."""
    mixed = (value + _GOLDEN) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def _hash_text(text: str, salt: int) -> int:
    encoded = text.encode()
    words = [int.from_bytes(encoded[first : first + _WORD], "little") for first in range(0, len(encoded), _WORD)]
    total = sum(_mix(word ^ _mix(place)) for place, word in enumerate(words))
    return _mix(_mix(total + len(encoded)) + salt)


def _salt(name: str) -> int:
    return _hash_text(name, 0)


_TRANSFORMS: Final[dict[str, Callable[[Mapping[str, Any], Sequence[Any], Mapping[Any, int]], Value]]] = {
    "BagOfWords": _bag_of_words,
    "Bucketized": _binned,
    "Categorical": _categorical,
    "CategoricalList": _categorical_list,
    "Discretized": _binned,
    "Hashed": _hashed,
    "Log": _log,
    "Normalized": _normalized,
    "Passthrough": _passthrough,
    "Recent": _recent,
    "Rescaled": _rescaled,
    "Seen": _seen,
    "Text": _words,
    "TimestampPart": _timestamp,
}
