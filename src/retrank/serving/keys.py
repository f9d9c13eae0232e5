"""API keys: only their digests are known, and comparing takes the same time whatever is sent."""

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final

from retrank.core.errors import ConfigError, StorageError

__all__ = ["digest_of", "is_known_key", "new_key", "read_key_hashes"]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def new_key() -> str:
    """Return a random key, to be given to a client once; 32 bytes of chance need no slow hash."""
    return f"rk_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    """Return the SHA-256 digest of a key, in hex.

    Args:
        key: what a client sends.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def is_known_key(key: str, digests: frozenset[str]) -> bool:
    """Tell whether a key is one of those that are accepted.

    Args:
        key: what a client sent.
        digests: of the accepted keys.
    """
    sent, is_known = digest_of(key), False
    for digest in digests:  # all of them, so that the time tells nothing
        is_known |= hmac.compare_digest(sent, digest)
    return is_known


def read_key_hashes(path: Path) -> frozenset[str]:
    """Read the digests of the accepted keys.

    Args:
        path: a file with one digest a line; text after a space is a note, lines that begin with # are left out.

    Raises:
        StorageError: the file cannot be read.
        ConfigError: a line that is no digest, or none at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError("a file of digests", f"{type(error).__name__}: {error}", str(path)) from error
    found = set()
    for number, line in enumerate(lines, 1):
        digest = line.split()[0].lower() if line.split() else ""
        if not digest or digest.startswith("#"):
            continue
        if not _DIGEST.fullmatch(digest):
            fix = "make keys with `retrank key`, which prints the digest"
            raise ConfigError("64 hexadecimal digits, a SHA-256 digest", repr(line[:16]), f"{path}, line {number}", fix)
        found.add(digest)
    if not found:
        raise ConfigError("at least one digest", "none", str(path), "leave the option out to let everybody in")
    return frozenset(found)
