"""How many ids there are, and whether as many can be drawn."""

from retrank.core.errors import ConfigError
from retrank.core.schema import NUM_SPECIAL_IDS
from retrank.sampling.sampler import CandidateTable

__all__ = ["check_num_negatives", "known_num_ids"]


def check_num_negatives(num_negatives: int, num_ids: int | None, unique: bool, where: str) -> None:
    """Raise unless so many negatives can be drawn.

    Args:
        num_negatives: how many to draw.
        num_ids: padding and unknown included, or None if not yet known.
        unique: whether no id may come twice.
        where: the sampler, for the message.

    Raises:
        ConfigError: they cannot.
    """
    if num_negatives < 1 or (num_ids is not None and num_ids <= NUM_SPECIAL_IDS):
        raise ConfigError(
            f"num_negatives >= 1 and num_ids > {NUM_SPECIAL_IDS} (padding and unknown)",
            f"num_negatives={num_negatives}, num_ids={num_ids}",
            where,
        )
    if unique and num_ids is not None and num_negatives > num_ids - NUM_SPECIAL_IDS:
        raise ConfigError(
            f"at most {num_ids - NUM_SPECIAL_IDS} unique negatives, all candidates there are",
            str(num_negatives),
            where,
            "draw fewer, or draw with unique=False",
        )


def known_num_ids(num_ids: int | None, table: CandidateTable | None, where: str) -> int:
    """Return how many ids there are.

    Args:
        num_ids: as the sampler was built, or None.
        table: of the call, or None.
        where: the sampler, for the message.

    Returns:
        The number, padding and unknown included.

    Raises:
        ConfigError: neither is given, or the table is too small for what would be drawn.
    """
    if num_ids is None and table is None:
        raise ConfigError(
            "num_ids, or a table", "neither", where, "build it with num_ids=..., or call it with table=..."
        )
    if num_ids is not None and table is not None and table.num_ids < num_ids:
        raise ConfigError(
            f"a table of at least {num_ids} ids", str(table.num_ids), where, "use one vocabulary for both"
        )
    if num_ids is None:
        assert table is not None
        return table.num_ids
    return num_ids
