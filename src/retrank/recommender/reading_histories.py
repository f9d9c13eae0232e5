"""From the keys that queries bring as their history to what models and rules know them by, for many queries at once."""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl
import torch

from retrank.core.jagged import Jagged
from retrank.data.keys import KeyType, as_key
from retrank.recommender.baseline_parts import AnyParts
from retrank.recommender.brought_histories import BroughtHistories
from retrank.recommender.request import Key

__all__ = ["history_keys", "read_histories"]

_FEW: Final = 32  # keys; a catalogue looks them up one by one
_PLAIN: Final[dict[KeyType, type]] = {"string": str, "integer": int, "boolean": bool}


def history_keys(parts: AnyParts, history: Iterable[Key]) -> list[Key]:
    """Take the keys of a history.

    Args:
        parts: the recommender.
        history: candidate keys.

    Raises:
        DataError: a key of another type, with its position.
        ConfigError: in a process that was forked.
    """
    parts.require_own_process("a query that brings a history")
    keys, kind = list(history), parts.candidates.catalogue.key_type
    if set(map(type, keys)) <= {_PLAIN[kind]} and (kind != "integer" or _fit(keys)):
        return keys
    return [as_key(key, kind, f"history, position {place}") for place, key in enumerate(keys)]


def _fit(keys: Sequence[Key]) -> bool:
    return not keys or (min(keys) >= -(2**63) and max(keys) < 2**63)  # type: ignore[operator]


def read_histories(parts: AnyParts, histories: Sequence[Sequence[Key] | None]) -> BroughtHistories:
    """Look up what queries say that they have done; keys that neither catalogue, log nor models know fall out.

    All are looked up at once: a look-up costs some hundred microseconds, whether of one key or of a thousand.

    Args:
        parts: the recommender.
        histories: of each query what `history_keys` returned, or None if it brings none.
    """
    catalogue, candidates = parts.candidates.catalogue, parts.history.events.candidates
    keys = [key for history in histories for key in history or ()]
    column = pl.Series(catalogue.key, keys, dtype=candidates.dtype)
    rows = catalogue.rows(column if len(keys) > _FEW else keys)
    ids = parts.candidate_ids(rows)
    is_kept, places = rows >= 0, torch.full_like(rows, -1)
    others = (~is_kept).nonzero()[:, 0]
    if len(others) or parts.queries.reads_in_order_of_log:
        places = torch.from_numpy(candidates.find(column))
    if len(others):
        ids[others], is_known = parts.queries.history_ids(column.gather(others.numpy()))
        is_kept[others] = is_known | (places[others] >= 0)
    codes = torch.where(places >= 0, places, len(candidates) + torch.where(rows >= 0, rows, len(catalogue) + ids))
    owners = torch.arange(len(histories)).repeat_interleave(torch.tensor([len(history or ()) for history in histories]))
    lengths = torch.bincount(owners[is_kept], minlength=len(histories))
    is_brought = torch.tensor([history is not None for history in histories])
    return BroughtHistories(is_brought, Jagged.from_lengths(codes[is_kept], lengths), rows[is_kept], ids[is_kept])
