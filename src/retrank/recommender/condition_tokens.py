"""The words of a condition in SQL: cut out in one pass over the text."""

import re
from typing import Final, Literal, NamedTuple, final

__all__ = ["NoConditionError", "Token", "TokenKind", "tokens_of"]

TokenKind = Literal["number", "text", "quoted", "name", "sign", "end"]
"""What a word is: `quoted` is a name in double quotes, which is never a keyword."""

# No repetition within a repetition: the time is that of reading the text once.
_WORD: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<name>[^\W\d]\w*)
      | (?P<sign><=|>=|<>|!=|[=<>+\-*/%(),])
    """,
    re.VERBOSE,
)


@final
class NoConditionError(ValueError):
    """A text is no condition; the message says why and where.

    Args:
        reason: what is wrong.
        place: at which character, from 0; None for the text as a whole.
    """

    def __init__(self, reason: str, place: int | None = None) -> None:
        super().__init__(reason if place is None else f"at character {place + 1}: {reason}")


@final
class Token(NamedTuple):
    """A word of a condition.

    Args:
        kind: what it is.
        text: without quotes; names as they are written.
        place: of its first character.
    """

    kind: TokenKind
    text: str
    place: int

    @property
    def keyword(self) -> str:
        """A name that is not in quotes or a sign, in capitals; else nothing."""
        return self.text.upper() if self.kind in ("name", "sign") else ""

    @property
    def shown(self) -> str:
        """What a message calls it."""
        return "the end" if self.kind == "end" else f"'{self.text[:40]}'"


def tokens_of(text: str) -> list[Token]:
    """Cut a condition into words.

    Args:
        text: the condition.

    Returns:
        Its words, and one of kind "end".

    Raises:
        NoConditionError: a character that no word has, or quotes that do not end.

    Example:
        >>> from retrank.recommender.condition_tokens import tokens_of
        >>> [token.text for token in tokens_of("title <> 'It''s' and year>=1990")]
        ['title', '<>', "It's", 'and', 'year', '>=', '1990', '']
    """
    tokens, place = [], 0
    while place < len(text):
        found = _WORD.match(text, place)
        if found is None:
            unended = text[place] in "'\""
            raise NoConditionError("quotes that do not end" if unended else f"unexpected {text[place]!r}", place)
        kind = found.lastgroup
        if kind in ("text", "quoted"):
            quote = found.group()[0]
            tokens.append(Token(kind, found.group()[1:-1].replace(2 * quote, quote), place))  # type: ignore[arg-type]
        elif kind != "space":
            tokens.append(Token(kind, found.group(), place))  # type: ignore[arg-type]
        place = found.end()
    return [*tokens, Token("end", "", len(text))]
