"""The files of a deployment agree with each other and with what the service really has."""

import http.server
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tests.command_line import parsed
from tests.deploy.files import (
    KUBERNETES,
    ROOT,
    compose,
    dockerfile,
    environment,
    example_environment,
    health_check,
    lines_for_the_shell,
    manifests,
    pods,
    said,
)
from typer.main import get_command

import retrank as rr
from retrank.cli.main import app
from retrank.core.native.families import FAMILIES
from retrank.serving import Settings
from retrank.serving.front import _OPEN
from retrank.serving.hot_routes import hot_routes
from retrank.serving.launching import _SECONDS
from retrank.serving.status_routes import status_routes

BUILD, IMAGE = dockerfile()[1:]
OBJECTS = manifests()
PODS = pods(OBJECTS)
VARIABLE = re.compile(r"\bRETRANK_\w+")


def is_route(path):
    """Say whether the service has a route that needs no key."""
    return path in {route.path for route in status_routes(None).routes} & _OPEN


def command(variables, arguments, entrypoint=("retrank", "serve")):
    """Return the values of the options with which a container runs."""
    assert entrypoint[0] == "retrank"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RETRANK_SERVE_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        return parsed([*entrypoint[1:], *arguments])


# The image.


def test_what_is_copied_exists_and_is_not_left_out():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    [first, second] = [each.split() for each in said(BUILD, "COPY")]
    for source in (*first[:-1], *second[:-1]):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
    assert {line[1:] for line in ignored if line[0] == "!"} == {*first[:-1], *second[:-1]}


def test_what_the_build_needs_of_the_project_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for each in said(BUILD, "COPY") for source in each.split()[:-1]}
    assert {"pyproject.toml", "constraints.txt", project["project"]["readme"]} <= copied
    assert (
        set(project["project"]["license-files"]) | set(project["tool"]["setuptools"]["packages"]["find"]["where"])
        <= copied
    )


def test_the_image_has_the_extras_that_it_needs():
    [line] = [each for each in said(BUILD, "RUN") if "pip install" in each]
    extras = set(re.search(r'"\.\[(.*)\]"', line)[1].split(","))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "postgres"} <= extras <= declared.keys()


def test_the_compiler_stays_behind():
    assert "g++" in said(BUILD, "RUN")[0]
    assert not any(word in each for each in said(IMAGE, "RUN") for word in ("apt", "pip"))
    moved = [each.removeprefix("--from=build ").split() for each in said(IMAGE, "COPY")]
    assert moved == [["/opt/retrank", "/opt/retrank"], ["/opt/kernels", "/opt/kernels"]]
    # Links of a virtual environment lead to the same interpreter in both.
    assert said(BUILD, "FROM")[0].split()[0] == said(IMAGE, "FROM")[0]


def test_the_kernels_are_built_for_the_family_for_which_they_are_used():
    families = {each for stage in (BUILD, IMAGE) for each in said(stage, "ARG") if each.startswith("NATIVE_FOR")}
    [family] = [each.partition("=")[2] for each in families]
    assert family in FAMILIES
    assert environment(IMAGE)["RETRANK_NATIVE_FOR"] == family
    [line] = [each for each in said(BUILD, "RUN") if "native" in each]
    assert 'RETRANK_NATIVE_FOR="${NATIVE_FOR}"' in line
    folder = environment(IMAGE)["XDG_CACHE_HOME"]
    assert f"XDG_CACHE_HOME={folder} " in line
    assert f"chmod -R a+rX {folder}" in line


@pytest.mark.parametrize("works", [True, False])
def test_a_build_without_kernels_is_none(works):
    [line] = [each for each in said(BUILD, "RUN") if "native" in each]
    script = re.search(r'python -c "(.*)"', line)[1]
    if works and rr.core.native.library() is None:
        pytest.skip("no C++ compiler")
    family = {} if works else {"RETRANK_NATIVE_FOR": "no-such-family"}
    source = {"PYTHONPATH": str(Path(rr.__file__).parents[1])}
    inherited = {name: value for name, value in os.environ.items() if name != "RETRANK_NATIVE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=False,
        env={**inherited, **source, **family},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is works
    assert works or "no-such-family" in done.stderr


def test_it_runs_as_nobody_in_particular():
    assert said(IMAGE, "USER") == ["10001:10001"]
    names = [name for name, _ in IMAGE]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "--owner=10001 --group=10001" in " ".join(said(IMAGE, "RUN"))


def test_the_image_serves_the_bundle_that_is_named():
    [entrypoint] = said(IMAGE, "ENTRYPOINT")
    options = command(environment(IMAGE), ["/bundles/movies"], json.loads(entrypoint))
    assert (str(options["bundle"]), options["host"], options["port"]) == ("/bundles/movies", "0.0.0.0", 8000)
    assert said(IMAGE, "EXPOSE") == [str(options["port"])]
    assert said(IMAGE, "STOPSIGNAL") == ["SIGTERM"]
    [volume] = said(IMAGE, "VOLUME")
    assert options["store"].startswith(f"{volume}/")
    assert environment(IMAGE)["RETRANK_CACHE"].startswith(f"{volume}/")


class Ready(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if is_route(self.path) else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_healthy_while_requests_may_come(status, code, monkeypatch):
    handler = type("Handler", (Ready,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            program, *arguments = health_check(IMAGE)
            assert program == "python"
            variables = {**os.environ, "RETRANK_SERVE_PORT": str(server.server_port)}
            done = subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, check=False)
        finally:
            server.shutdown()
    assert done.returncode == code


def test_a_container_is_not_healthy_where_nobody_listens():
    _, *arguments = health_check(IMAGE)
    variables = {**os.environ, "RETRANK_SERVE_PORT": "1"}
    done = subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, check=False)
    assert done.returncode == 1


# All variables.


@pytest.mark.parametrize(
    "path",
    [ROOT / "Dockerfile", ROOT / "compose.yaml", *sorted(KUBERNETES.rglob("*.yaml"))],
    ids=lambda path: path.name,
)
def test_variables_of_retrank_exist(path):
    options = {each.envvar for each in get_command(app).commands["serve"].params}
    sources = "\n".join(each.read_text() for each in (ROOT / "src").rglob("*.py"))
    for name in VARIABLE.findall(path.read_text()):
        if name.startswith("RETRANK_SERVE_"):
            assert name in options
        else:
            assert f'"{name}"' in sources


# Compose.

COMPOSE, COMPOSE_VARIABLES = compose(POSTGRES_PASSWORD="secret")
OURS = {name: each for name, each in COMPOSE["services"].items() if "retrank" in each["image"]}


def test_the_example_of_variables_is_complete():
    example = example_environment()
    assert COMPOSE_VARIABLES - {"IMAGE"} == example.keys()
    assert compose(**{**example, "POSTGRES_PASSWORD": "secret"})[0] == COMPOSE


def test_a_password_must_be_set():
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD"):
        compose()


def test_nothing_is_named_that_is_not_there():
    for name, service in COMPOSE["services"].items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in COMPOSE["services"], name
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in COMPOSE["services"][other] or other in OURS, name
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or source == "./runs" or (ROOT / source).is_file(), volume


def test_the_database_is_out_of_reach_from_outside():
    services = COMPOSE["services"]
    assert COMPOSE["networks"]["back"]["internal"] is True
    assert services["postgres"]["networks"] == services["update"]["networks"] == ["back"]
    assert [name for name, service in services.items() if "ports" in service] == ["balancer"]
    assert "back" not in services["balancer"]["networks"]


def test_containers_cannot_change_what_they_run():
    for service in (*OURS.values(), COMPOSE["services"]["balancer"]):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert all("/tmp" in service["tmpfs"] for service in OURS.values())  # where the supervisor has its files


def test_replicas_serve_what_is_configured():
    service = OURS["retrank"]
    assert service["deploy"]["replicas"] == 2
    variables = {name: str(value) for name, value in service["environment"].items()}
    options = command({**environment(IMAGE), **variables}, [])
    assert str(options["bundle"]) == "/bundles/quickstart"
    assert options["watch"] is True
    assert options["store"] == "postgresql://retrank@postgres/retrank"
    assert "./runs:/bundles:ro" in service["volumes"]
    assert service["build"]["args"].keys() <= {each.partition("=")[0] for each in said(BUILD, "ARG")}
    assert float(service["stop_grace_period"].rstrip("s")) > _SECONDS


def test_the_database_is_the_one_that_is_asked():
    postgres = COMPOSE["services"]["postgres"]["environment"]
    assert postgres["POSTGRES_PASSWORD"] == OURS["retrank"]["environment"]["PGPASSWORD"]
    for service in OURS.values():
        url = service["environment"]["RETRANK_SERVE_STORE"]
        assert url == f"postgresql://{postgres['POSTGRES_USER']}@postgres/{postgres['POSTGRES_DB']}"


def test_the_update_learns_into_the_bundle_that_is_served():
    update, served = OURS["update"], OURS["retrank"]["environment"]
    options = command({}, update["command"], update["entrypoint"])
    assert str(options["bundle"]) == served["RETRANK_SERVE_BUNDLE"]
    assert options["store"] == served["RETRANK_SERVE_STORE"]
    assert "./runs:/bundles" in update["volumes"]
    assert update["profiles"]


def test_the_balancer_finds_the_replicas_that_are_ready():
    text = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text()
    [(name, port)] = re.findall(r"server-template replica \d+ (\S+):(\d+)$", text, re.MULTILINE)
    assert name in OURS
    assert port == environment(IMAGE)["RETRANK_SERVE_PORT"]
    [path] = re.findall(r"option httpchk GET (\S+)$", text, re.MULTILINE)
    assert is_route(path)
    [listens] = re.findall(r"^    bind :(\d+) ", text, re.MULTILINE)
    assert COMPOSE["services"]["balancer"]["ports"] == [f"127.0.0.1:8000:{listens}"]
    [events] = re.findall(r"disable-l7-retry if \{ path_beg (\S+) \}", text)
    assert events in {route.path for route in hot_routes(SimpleNamespace(settings=Settings()))}


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_the_balancer_understands_its_configuration():
    command = ["haproxy", "-c", "-f", str(ROOT / "deploy" / "compose" / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Kubernetes.


def test_all_files_are_applied_but_the_secrets():
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    names = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert {*listed["resources"], "kustomization.yaml", "secret.template.yaml"} == names
    assert len(set(listed["resources"])) == len(listed["resources"])
    assert {image["name"] for image in listed["images"]} == {"retrank"}
    assert ("Namespace", listed["namespace"]) in OBJECTS
    secrets = [each for (kind, _), each in OBJECTS.items() if kind == "Secret"]
    by_hand = [*secrets, OBJECTS["Pod", "copy"]]
    assert {each["metadata"]["namespace"] for each in by_hand} == {listed["namespace"]}


@pytest.mark.parametrize("place", PODS, ids=str)
def test_pods_may_do_nothing_that_they_need_not(place):
    pod = PODS[place]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        if container["image"].partition(":")[0] == "retrank":
            assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in said(
                IMAGE, "USER"
            )


@pytest.mark.parametrize("place", PODS, ids=str)
def test_what_a_pod_names_is_there(place):
    pod = PODS[place]["spec"]
    claims = {each["metadata"]["name"] for each in OBJECTS[place]["spec"].get("volumeClaimTemplates", ())}
    volumes = {each["name"]: each for each in pod.get("volumes", ())}
    for volume in volumes.values():
        for kind, key, name in (
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
            ("Secret", "secret", "secretName"),
        ):
            assert key not in volume or (kind, volume[key][name]) in OBJECTS
    for container in pod["containers"]:
        ports = {each["name"] for each in container.get("ports", ())}
        assert {each["name"] for each in container["volumeMounts"]} == volumes.keys() | claims
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in container.get(probe, {}):
                assert is_route(container[probe]["httpGet"]["path"])
                assert container[probe]["httpGet"]["port"] in ports
        for source in container.get("envFrom", ()):
            assert ("ConfigMap", source["configMapRef"]["name"]) in OBJECTS
        for each in container.get("env", ()):
            if "valueFrom" in each:
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["key"] in OBJECTS["Secret", reference["name"]]["stringData"]


def variables_in(container):
    """Return the environment of a container but for its secrets."""
    found = dict(environment(IMAGE))
    for source in container.get("envFrom", ()):
        found |= OBJECTS["ConfigMap", source["configMapRef"]["name"]]["data"]
    return found | {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}


def test_replicas_serve_what_the_map_says():
    [container] = PODS["Deployment", "retrank"]["spec"]["containers"]
    options = command(variables_in(container), container.get("args", []))
    assert options["port"] == container["ports"][0]["containerPort"]
    assert options["watch"] is True
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert mounts[str(options["bundle"].parent)]["readOnly"] is True
    [keys] = [each for each in PODS["Deployment", "retrank"]["spec"]["volumes"] if each["name"] == "keys"]
    secret = OBJECTS["Secret", keys["secret"]["secretName"]]
    assert options["keys"].name in secret["stringData"]
    assert str(options["keys"].parent) in mounts
    assert "/tmp" in mounts


def test_the_nightly_job_learns_into_the_bundle_that_is_served():
    [served] = PODS["Deployment", "retrank"]["spec"]["containers"]
    [container] = PODS["CronJob", "retrank-update"]["spec"]["containers"]
    variables = variables_in(container)
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], each) for each in container["args"]]
    options = command({}, arguments, container["command"])
    assert str(options["bundle"]) == variables_in(served)["RETRANK_SERVE_BUNDLE"]
    assert options["store"] == variables_in(served)["RETRANK_SERVE_STORE"]
    [mount] = [each for each in container["volumeMounts"] if each["mountPath"] == str(options["bundle"].parent)]
    assert not mount.get("readOnly")
    assert OBJECTS["CronJob", "retrank-update"]["spec"]["concurrencyPolicy"] == "Forbid"


def test_a_pod_has_time_to_end():
    pod = PODS["Deployment", "retrank"]["spec"]
    [container] = pod["containers"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][0] == "sleep"
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # Meanwhile the balancers hear that it is going, which takes them no longer than to hear that it is not ready.
    assert pod["terminationGracePeriodSeconds"] > pause + _SECONDS


def test_selectors_find_what_they_are_for():
    labels = {place: template["metadata"].get("labels", {}) for place, template in PODS.items()}
    ours = {("Deployment", "retrank"), ("CronJob", "retrank-update")}

    def found(selector):
        return {place for place, has in labels.items() if selector.items() <= has.items()}

    service, postgres = ("Deployment", "retrank"), ("StatefulSet", "postgres")
    assert found(OBJECTS["Service", "retrank"]["spec"]["selector"]) == {service}
    assert found(OBJECTS["Service", "postgres"]["spec"]["selector"]) == {postgres}
    assert found(OBJECTS["PodDisruptionBudget", "retrank"]["spec"]["selector"]["matchLabels"]) == {service}
    for place in (service, postgres):
        assert found(OBJECTS[place]["spec"]["selector"]["matchLabels"]) == {place}
    policies = {name: each["spec"] for (kind, name), each in OBJECTS.items() if kind == "NetworkPolicy"}
    assert found(policies["retrank"]["podSelector"]["matchLabels"]) == ours
    assert found(policies["postgres"]["podSelector"]["matchLabels"]) == {postgres}
    [asks] = policies["postgres"]["ingress"][0]["from"]
    assert found(asks["podSelector"]["matchLabels"]) == ours


def test_as_many_replicas_as_the_load_needs():
    scaler = OBJECTS["HorizontalPodAutoscaler", "retrank"]["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) in PODS
    assert "replicas" not in OBJECTS["Deployment", "retrank"]["spec"]  # else each apply takes back what it has set
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]


def test_the_store_is_the_server_beside_it():
    store = OBJECTS["ConfigMap", "retrank"]["data"]["RETRANK_SERVE_STORE"]
    [container] = PODS["StatefulSet", "postgres"]["spec"]["containers"]
    has = {each["name"]: each.get("value") for each in container["env"]}
    assert store == f"postgresql://{has['POSTGRES_USER']}@postgres/{has['POSTGRES_DB']}"


def test_no_secret_is_filled_in():
    for (kind, _), each in OBJECTS.items():
        if kind == "Secret":
            assert all("<" in value for value in each["stringData"].values())


# The page.


@pytest.mark.parametrize("words", lines_for_the_shell(ROOT / "docs" / "deployment.md"), ids=" ".join)
def test_the_lines_of_the_page_mean_something_that_is_there(words):
    program, *rest = words
    if program == "retrank":
        command({}, rest, ["retrank"])
    elif words[:2] == ["docker", "run"]:
        place = rest.index("retrank", 1 + (rest.index("--entrypoint") + 1 if "--entrypoint" in rest else 0))
        entrypoint = ["retrank"] if "--entrypoint" in rest else json.loads(said(IMAGE, "ENTRYPOINT")[0])
        command(environment(IMAGE), rest[place + 1 :], entrypoint)
    elif program == "kubectl":
        for before, path in itertools.pairwise(rest):
            if before in ("--filename", "--kustomize"):
                assert (ROOT / path).exists()
            if before == "--namespace":
                assert ("Namespace", path) in OBJECTS
        if "generic" in rest:
            secret = OBJECTS["Secret", rest[rest.index("generic") + 1]]
            [literal] = [each for each in rest if each.startswith("--from-literal=")]
            assert literal.split("=")[1] in secret["stringData"]
        if "cp" in rest:
            pod, _, target = rest[-1].partition(":")
            assert ("Pod", pod) in OBJECTS
            assert target == OBJECTS["ConfigMap", "retrank"]["data"]["RETRANK_SERVE_BUNDLE"]
    elif program == "cp" and rest[0] != "-r":
        assert (ROOT / rest[0]).exists()
