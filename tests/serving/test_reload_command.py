"""`retrank reload` and workers that go over to a new bundle, as they are run."""

import pytest
from tests.command_line import retrank
from tests.recommender.song_world import KNOWN, serve
from tests.serving.running import Load, ask, service

pytestmark = pytest.mark.slow  # each starts processes that load torch


@pytest.fixture(scope="module")
def recommenders():
    return [serve("baseline"), serve("two towers")]


def test_all_workers_go_over_while_requests_go_on(recommenders, tmp_path):
    bundle = tmp_path / "bundle"
    recommenders[0].save(bundle)
    with service(bundle, "--workers", 2, "--no-log-requests") as one:
        one.heard("a worker is ready")
        loads = [Load(one.url) for _ in range(4)]
        for load in loads:
            load.start()
        versions = [one.start["version"]]
        for turn in range(1, 6):
            recommenders[turn % 2].save(bundle)
            result = retrank("reload", bundle)
            assert result.returncode == 0, result.stderr
            assert "answers from it" in result.stdout
            versions.append(one.heard("reloaded")["bundle"])
            assert one.lines[-1]["workers"] == 2
        assert "has it already" in retrank("reload", bundle).stdout
        for load in loads:
            load.stop.set()
        for load in loads:
            load.join()
            assert not load.failures
            assert {status for status, _ in load.answers} == {200}
        right = [{key: recommender.recommend(key)["song"].to_list() for key in KNOWN} for recommender in recommenders]
        of_version = {versions[0]: right[0], versions[1]: right[1]}
        assert versions == versions[:2] * 3  # a bundle that is saved again is the same
        for _, answer in (one for load in loads for one in load.answers):
            assert [item["key"] for item in answer["items"]] == of_version[answer["bundle"]][answer["query"]]
        assert {answer["bundle"] for load in loads for _, answer in load.answers} == set(versions)


def test_a_damaged_bundle_is_refused_and_said(recommenders, tmp_path):
    bundle = tmp_path / "bundle"
    recommenders[0].save(bundle)
    with service(bundle, "--workers", 2, "--watch") as one:
        one.heard("a worker is ready")
        recommenders[1].save(tmp_path / "other")
        file = bundle / "candidates.parquet"
        content = bytearray((tmp_path / "other" / "candidates.parquet").read_bytes())
        content[40] ^= 1
        file.write_bytes(content)
        (bundle / "manifest.json").write_bytes((tmp_path / "other" / "manifest.json").read_bytes())
        assert "refused" in one.heard("is refused")["message"]  # --watch has seen it
        result = retrank("reload", bundle)
        assert result.returncode == 2
        assert "the old bundle stays in use" in result.stderr
        for _ in range(6):
            status, state = ask(one.url, "/readyz")
            assert (status, state["bundle"]) == (200, one.start["version"])
            assert "reload_error" in state
        text = ask(one.url, "/metrics")[1].decode()
        assert 'retrank_reloads_total{result="refused"} 2.0' in text  # by --watch and by the command, not by worker
