"""Documents of candidates: what the store says of them beside, or in place of, the catalogue of the bundle."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

import msgspec
import polars as pl

from retrank.core.errors import RetrankError
from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.json_values import row_from_json
from retrank.serving.stores.records import Document

__all__ = ["CandidateDocuments", "candidate_row"]

_log = logging.getLogger("retrank.serving")


@final
class CandidateContent(msgspec.Struct, frozen=True):
    """What a document of a candidate holds.

    Attributes:
        features: its columns of the catalogue without the key; None to keep those of the bundle.
        available: whether it may be recommended.
    """

    features: dict[str, Any] | None = None
    available: bool = True


def candidate_row(recommender: Recommender, key: Key, features: Mapping[str, Any]) -> pl.DataFrame:
    """Return a candidate as a row of the catalogue's table.

    Args:
        recommender: whose catalogue.
        key: of the candidate.
        features: its other columns; missing ones are null.

    Raises:
        DataError: an unknown column, or a value that a column cannot hold.
    """
    values = {**features, recommender.candidate: key}
    return row_from_json(values, recommender.candidates.schema, f"candidate {key!r}")


@final
class CandidateDocuments:
    """Documents of candidates, to be brought into a recommender.

    Args:
        documents: one per candidate; of several the last counts.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._contents = {
            document.key: CandidateContent(available=False)
            if document.content is None
            else msgspec.json.decode(document.content, type=CandidateContent)
            for document in documents
        }

    def applied(self, recommender: Recommender) -> tuple[Recommender, int]:
        """Bring them in.

        Args:
            recommender: without them.

        Returns:
            Another recommender, and how many documents do not fit it and were left out, which is logged.
        """
        if not self._contents:
            return recommender, 0
        refused: set[Key] = set()
        rows: dict[Key, pl.DataFrame] = {}
        for key, content in self._contents.items():
            try:
                if content.features is not None:
                    rows[key] = candidate_row(recommender, key, content.features)
            except RetrankError as error:
                _refuse(key, error, refused)
        recommender = _described(recommender, rows, refused)
        keys = [key for key in self._contents if key not in refused]
        is_known = dict(zip(keys, (recommender.catalogue.rows(keys) >= 0).tolist(), strict=True))
        refused |= {key for key in keys if not is_known[key]}
        gone = [key for key in keys if is_known[key] and not self._contents[key].available]
        back = [key for key in keys if is_known[key] and self._contents[key].available]
        return recommender.with_available(back).with_unavailable(gone), len(refused)


def _described(recommender: Recommender, rows: Mapping[Key, pl.DataFrame], refused: set[Key]) -> Recommender:
    """Bring in new and changed candidates, together; one by one where that fails."""
    if not rows:
        return recommender
    is_known = (recommender.catalogue.rows(list(rows)) >= 0).tolist()
    new = [row for row, known in zip(rows.values(), is_known, strict=True) if not known]
    changed = [row for row, known in zip(rows.values(), is_known, strict=True) if known]
    try:
        made = recommender if not changed else recommender.with_changed_candidates(pl.concat(changed))
        return made if not new else made.with_candidates(pl.concat(new))
    except RetrankError as error:
        if len(rows) > 1:
            for key, row in rows.items():
                recommender = _described(recommender, {key: row}, refused)
        else:
            _refuse(next(iter(rows)), error, refused)
        return recommender


def _refuse(key: Key, error: RetrankError, refused: set[Key]) -> None:
    _log.warning("the document of candidate %r does not fit the bundle and is left out: %s", key, error)
    refused.add(key)
