"""Bundles on the Hub: its client is there, the server is a folder."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.export import world

import retrank as rr

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def recommender():
    return world.serve("dlrm").with_card(rr.recommender.Card(title="Songs: the best", data="3 plays"))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Keep repositories in a folder, a commit each; what is downloaded is a folder of links, as in the Hub's cache."""
    folder, asked = tmp_path / "server", []

    def create_repo(self, repo_id, **options):
        asked.append(("create", repo_id, options))

    def upload_folder(self, *, repo_id, folder_path, revision, commit_message, delete_patterns):
        assert delete_patterns == "*"
        commit = f"commit{len(list((folder / repo_id).glob('*')))}"
        shutil.copytree(folder_path, folder / repo_id / commit)
        (folder / repo_id / commit / ".gitattributes").write_text("of the server")
        asked.append(("upload", repo_id, {"revision": revision, "message": commit_message, "token": self.token}))
        return SimpleNamespace(oid=commit)

    def snapshot_download(repo_id, *, revision, token):
        commits = sorted((folder / repo_id).iterdir())
        found = commits[-1] if revision is None else folder / repo_id / revision
        links = tmp_path / "cache" / repo_id / found.name
        for file in found.rglob("*"):
            if file.is_file():
                link = links / file.relative_to(found)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
        asked.append(("download", repo_id, {"revision": revision, "token": token}))
        return str(links)

    monkeypatch.setattr(hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return SimpleNamespace(folder=folder, asked=asked)


def test_what_is_pushed_comes_back(recommender, server):
    commit = rr.export.push_to_hub(recommender, "me/songs", private=True, token="secret", message="first")
    loaded = rr.export.from_hub("me/songs", revision=commit, progress=False)
    for user in ("u1", "u2", "stranger"):
        assert loaded.recommend(user).equals(recommender.recommend(user))
    assert loaded.card == recommender.card
    assert server.asked == [
        ("create", "me/songs", {"private": True, "exist_ok": True}),
        ("upload", "me/songs", {"revision": None, "message": "first", "token": "secret"}),
        ("download", "me/songs", {"revision": "commit0", "token": None}),
    ]


def test_the_card_is_the_page_with_the_header_of_the_hub(recommender, server):
    commit = rr.export.push_to_hub(recommender, "me/songs", licence="cc-by-4.0", tags=["films: old", "en"])
    bundle = server.folder / "me/songs" / commit
    page = (bundle / "README.md").read_text()
    assert page.endswith(recommender.card.to_markdown())
    header = hub.ModelCard(page).data.to_dict()
    assert header == {
        "library_name": "retrank", "license": "cc-by-4.0", "tags": ["recommender-system", "films: old", "en"]
    }  # fmt: skip
    assert rr.export.from_hub("me/songs").card == recommender.card


def test_the_latest_commit_is_loaded_unless_one_is_named(recommender, server):
    first = rr.export.push_to_hub(recommender, "me/songs")
    rr.export.push_to_hub(recommender.without_ranking(), "me/songs")
    assert rr.export.from_hub("me/songs").ranking is None
    assert rr.export.from_hub("me/songs", revision=first).ranking is not None


@pytest.mark.parametrize("name", ["retrieval.safetensors", "README.md", "config.json"])
def test_a_file_that_was_changed_is_refused(recommender, server, name):
    commit = rr.export.push_to_hub(recommender, "me/songs")
    file = server.folder / "me/songs" / commit / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(rr.errors.StorageError):
        rr.export.from_hub("me/songs")


def test_code_in_a_repository_is_not_executed(recommender, server):
    commit = rr.export.push_to_hub(recommender, "me/songs")
    for name in ("retrank.py", "__init__.py", "conftest.py", "modeling.py"):
        Path(server.folder, "me/songs", commit, name).write_text("raise SystemExit('executed')\n")
    rr.export.from_hub("me/songs")


def test_a_missing_extra_is_named(recommender, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: rr.export.push_to_hub(recommender, "me/songs"), lambda: rr.export.from_hub("me/songs")):
        with pytest.raises(rr.errors.MissingExtraError, match=r"retrank\[hub\]"):
            call()
