"""The card of a bundle: on what it was trained, how it was split, and how good it was."""

from dataclasses import asdict, dataclass, field
from typing import Any, NotRequired, Self, final

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from retrank.core.values import checked

__all__ = ["Card"]


@with_config(ConfigDict(extra="forbid"))
class _Values(TypedDict):
    title: str
    data: NotRequired[str]
    split: NotRequired[str]
    models: NotRequired[str]
    metrics: NotRequired[str]
    limits: NotRequired[str]
    facts: NotRequired[dict[str, Any]]


@final
@dataclass(frozen=True)
class Card:
    """What a reader must know before using a recommender.

    Args:
        title: one line.
        data: the data set, its size and origin.
        split: how training and test were separated.
        models: what was trained, with its main settings.
        metrics: a Markdown table of how good it was, beside baselines.
        limits: what it should not be used for, or is known to do badly.
        facts: any further JSON-able facts, e.g. seed and version.

    Example:
        >>> import retrank as rr
        >>> print(rr.recommender.Card(title="Songs", data="3 plays").to_markdown())
        # Songs
        <BLANKLINE>
        ## Data
        <BLANKLINE>
        3 plays
        <BLANKLINE>

    Source: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
    """

    title: str
    data: str = ""
    split: str = ""
    models: str = ""
    metrics: str = ""
    limits: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Return the card as Markdown; empty parts are left out."""
        lines = [f"# {self.title}", ""]
        for name in ("data", "split", "models", "metrics", "limits"):
            if text := getattr(self, name):
                lines += [f"## {name.capitalize()}", "", text, ""]
        if self.facts:
            lines += ["## Facts", "", *(f"- {name}: {value}" for name, value in self.facts.items()), ""]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str = "card") -> Self:
        """Build a card from `to_dict`.

        Args:
            values: what `to_dict` returned.
            where: the file, for messages.

        Returns:
            An equal card.

        Raises:
            StorageError: other values.
        """
        return cls(**checked(values, _Values, where))
