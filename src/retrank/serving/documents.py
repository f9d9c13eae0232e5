"""Documents of candidates: what the store says of them beside, or in place of, the catalogue of the bundle."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import msgspec
import polars as pl

from retrank.recommender.recommender import Recommender
from retrank.recommender.request import Key
from retrank.serving.json_values import row_from_json
from retrank.serving.stores.records import Document

__all__ = ["CandidateContent", "candidate_row", "with_documents"]


@final
class CandidateContent(msgspec.Struct, frozen=True):
    """What a document of a candidate holds.

    Args:
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


def with_documents(recommender: Recommender, documents: Sequence[Document]) -> Recommender:
    """Bring documents of candidates into a recommender.

    Args:
        recommender: without them.
        documents: of candidates; of several for one candidate the last counts.

    Returns:
        Another recommender; candidates that were deleted are unavailable.

    Raises:
        DataError: a document does not fit the catalogue.
    """
    if not documents:
        return recommender
    contents = {
        document.key: CandidateContent(available=False)
        if document.content is None
        else msgspec.json.decode(document.content, type=CandidateContent)
        for document in documents
    }
    described = {key: content.features for key, content in contents.items() if content.features is not None}
    rows = {key: candidate_row(recommender, key, features) for key, features in described.items()}
    is_known = dict(zip(rows, (recommender.catalogue.rows(list(rows)) >= 0).tolist(), strict=True))
    if changed := [row for key, row in rows.items() if is_known[key]]:
        recommender = recommender.with_changed_candidates(pl.concat(changed))
    if new := [row for key, row in rows.items() if not is_known[key]]:
        recommender = recommender.with_candidates(pl.concat(new))
    recommender = recommender.with_available([key for key, content in contents.items() if content.available])
    return recommender.with_unavailable([key for key, content in contents.items() if not content.available])
