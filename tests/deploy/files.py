"""What the files of a deployment say, as values."""

import json
import re
import shlex
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def dockerfile():
    """Return the stages of the Dockerfile, each a list of instructions and what they say."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages = [[]]
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append((name, rest.strip()))
    return stages


def said(stage, name):
    return [rest for instruction, rest in stage if instruction == name]


def environment(stage, **arguments):
    """Return the variables that a stage sets."""
    arguments = {**dict(each.split("=") for each in said(stage, "ARG")), **arguments}
    pairs = dict(pair.split("=", 1) for each in said(stage, "ENV") for pair in each.split())
    return {name: _VARIABLE.sub(lambda found: arguments[found[1]], value) for name, value in pairs.items()}


def health_check(stage):
    """Return the command that tells whether a container is healthy."""
    [check] = said(stage, "HEALTHCHECK")
    return json.loads(check.partition("CMD ")[2])


def compose(**variables):
    """Return `compose.yaml` with its variables filled in, as Compose does, and the names of all of them."""
    names = set()

    def fill(found):
        name, rule, rest = found.groups()
        names.add(name)
        if variables.get(name):
            return variables[name]
        assert rule != "?", f"{name}: {rest}"
        return rest or ""

    text = (ROOT / "compose.yaml").read_text()
    return yaml.safe_load(_VARIABLE.sub(fill, text)), names


def example_environment():
    """Return the variables of `env.example`."""
    lines = (ROOT / "deploy" / "compose" / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def manifests():
    """Return all objects for Kubernetes, by kind and name."""
    found = {}
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            if each["kind"] != "Kustomization":
                key = each["kind"], each["metadata"]["name"]
                assert key not in found, key
                found[key] = each
    return found


def pods(objects):
    """Return the description of each pod, by the kind and name of what makes it."""
    found = {}
    for (kind, name), each in objects.items():
        if kind in ("Deployment", "StatefulSet"):
            found[kind, name] = each["spec"]["template"]
        elif kind == "Pod":
            found[kind, name] = each
        elif kind == "CronJob":
            found[kind, name] = each["spec"]["jobTemplate"]["spec"]["template"]
    return found


def lines_for_the_shell(page):
    """Return the commands in a page's blocks for the shell, as words."""
    lines = "".join(_SHELL.findall(page.read_text())).replace("\\\n", "").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if each]
