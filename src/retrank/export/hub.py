"""Bundles on the Hugging Face Hub, or on a server like it."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from retrank.core.extras import optional
from retrank.core.files import storage_errors, write_text
from retrank.core.manifest import MANIFEST, parse_manifest, write_manifest
from retrank.core.snapshots import read_manifest
from retrank.recommender import Card, Recommender

__all__ = ["from_hub", "push_to_hub"]


def push_to_hub(
    recommender: Recommender,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    licence: str | None = None,
    tags: Sequence[str] = (),
    message: str = "Upload a bundle of retrank",
    token: str | None = None,
) -> str:
    """Upload a recommender as a bundle, in one commit that replaces what the repository held.

    The card becomes the page of the repository.

    Args:
        recommender: any.
        repo_id: `OWNER/NAME`; the repository is made if it is missing.
        private: whether others must not see a repository that is made now; None for what the owner's settings say.
        revision: the branch; None for the main one.
        licence: of the bundle, as the Hub writes it, e.g. `"apache-2.0"`; it says what others may do with what was
            learned from your data. None says nothing.
        tags: words by which others find it, beside `recommender-system`.
        message: of the commit.
        token: of the account; None for the one that this machine is logged in with.

    Returns:
        The id of the commit, which `from_hub` takes as `revision`.

    Raises:
        ConfigError: a model that cannot be described in JSON.
        MissingExtraError: the extra `hub` is not installed.
    """
    api = optional("huggingface_hub", extra="hub").HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        recommender.save(bundle)
        payload = read_manifest(bundle)
        write_text(bundle / "README.md", _page(recommender.card, licence, tags))
        write_manifest(bundle, payload)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=bundle, revision=revision, commit_message=message, delete_patterns="*"
        )
    return str(commit.oid)


def from_hub(
    repo_id: str, *, revision: str | None = None, token: str | None = None, progress: bool = True
) -> Recommender:
    """Download a bundle and read it: every file is checked against the bundle's checksums, and nothing is executed.

    Args:
        repo_id: `OWNER/NAME`.
        revision: a commit, tag or branch; None for the main branch. Others may change a branch and a tag: only the id
            of a commit says what you get.
        token: of the account; None for the one that this machine is logged in with, if any.
        progress: whether to show on a terminal that reading takes longer than a second.

    Returns:
        The recommender that was pushed.

    Raises:
        MissingExtraError: the extra `hub` is not installed.
        StorageError: a file is missing, damaged or of another version; or a model's class is not known here.
    """
    hub = optional("huggingface_hub", extra="hub")
    stored = Path(hub.snapshot_download(repo_id, revision=revision, token=token))
    with tempfile.TemporaryDirectory() as scratch, storage_errors(stored):
        # The cache holds links, and the server adds a file of its own: a bundle must have neither.
        manifest = parse_manifest((stored / MANIFEST).read_bytes(), f"{repo_id}, {MANIFEST}")
        for name in (MANIFEST, *manifest.files):
            copy = Path(scratch) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored / name, copy)
        return Recommender.load(scratch, progress=progress)


def _page(card: Card, licence: str | None, tags: Sequence[str]) -> str:
    """Return the card with the header that the Hub reads; a text in JSON is one in YAML."""
    header = ["---", "library_name: retrank"]
    header += [] if licence is None else [f"license: {json.dumps(licence)}"]
    header += ["tags:", *(f"- {json.dumps(tag)}" for tag in dict.fromkeys(["recommender-system", *tags])), "---", ""]
    return "\n".join([*header, card.to_markdown()])
