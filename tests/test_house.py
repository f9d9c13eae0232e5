"""The rules of the house: imports point downward, never in a circle; what is public is listed and documented."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import retrank

ROOT = Path(retrank.__file__).parent
ROWS = {
    "openmp": -1,
    "core": 0,
    **dict.fromkeys(("data", "ops"), 1),
    **dict.fromkeys(("embeddings", "layers", "losses", "optim", "sampling"), 2),
    **dict.fromkeys(("tasks", "features", "index", "datasets"), 3),
    **dict.fromkeys(("training", "metrics"), 4),
    **dict.fromkeys(("baselines", "models"), 5),
    **dict.fromkeys(("recommender", "evaluation"), 6),
    **dict.fromkeys(("export", "serving"), 7),
    "cli": 8,
    "__main__.py": 9,
}
MODULES = sorted(ROOT.rglob("*.py"))
SOURCES = sorted([*MODULES, *ROOT.rglob("*.cpp"), *ROOT.rglob("*.h")])
PACKAGES = sorted(p.name for p in ROOT.iterdir() if (p / "__init__.py").exists())
SUBPACKAGES = sorted(p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in ROOT.glob("*/*/**/__init__.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            if node.module == "retrank":
                yield from ((node, f"retrank.{alias.name}") for alias in node.names)
            else:
                yield node, node.module


def test_every_package_has_a_row():
    assert set(PACKAGES) <= ROWS.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downward(path):
    if path == ROOT / "__init__.py":
        return
    own = path.relative_to(ROOT).parts[0]
    for node, module in imported_modules(ast.parse(path.read_text())):
        if not module.startswith("retrank"):
            continue
        assert module != "retrank", f"line {node.lineno}: import from the package that defines it"
        other = module.split(".")[1]
        assert other == own or ROWS[other] < ROWS[own], f"line {node.lineno}: {own} must not import {other}"


def test_only_operations_ask_for_kernels():
    asking = {
        name_of(path)
        for path in MODULES
        if path.relative_to(ROOT).parts[0] not in ("core", "ops")
        and any(module.startswith("retrank.core.native") for _, module in imported_modules(ast.parse(path.read_text())))
    }
    assert not asking


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_hides_inside_a_function(path):
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [n.lineno for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not hidden, f"lines {hidden}: import at the top, or through core.optional"


def imports_within(package):
    """Map each module of a package to those that it imports; a package's own `__init__` is a module like any other."""
    paths = {
        f"retrank.{name_of(path).removesuffix('.py').replace('/', '.')}".removesuffix(".__init__"): path
        for path in (ROOT / package).rglob("*.py")
    }
    graph = {}
    for name, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):  # in `if TYPE_CHECKING` too
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(
                    m if (m := f"{node.module}.{alias.name}") in paths else node.module for alias in node.names
                )
        graph[name] = found & paths.keys()
    return graph


def cycle_in(graph):
    """Return the modules that remain when those that import none of the others are taken away, again and again."""
    graph = dict(graph)
    while leaves := [name for name, imported in graph.items() if not imported & graph.keys()]:
        for name in leaves:
            del graph[name]
    return sorted(graph)


def test_a_cycle_of_modules_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
    assert cycle_in({"a": {"a"}}) == ["a"]


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_of_a_package_do_not_import_each_other_in_a_circle(package):
    graph = imports_within(package)
    assert len(graph) > 1
    assert cycle_in(graph) == []


@pytest.mark.parametrize("package", ["", *PACKAGES, *SUBPACKAGES])
def test_all_is_sorted_and_complete(package):
    module = importlib.import_module(f"retrank.{package}".rstrip("."))
    assert module.__doc__
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    bound = {
        alias.asname or alias.name
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert bound == set(module.__all__)


def public_modules():
    for info in pkgutil.walk_packages([str(ROOT)], "retrank."):
        yield importlib.import_module(info.name)


def public_objects():
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
                yield pytest.param(value, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("module", [pytest.param(m, id=m.__name__) for m in public_modules()])
def test_modules_say_what_they_hold(module):
    assert module.__doc__
    if not module.__name__.endswith("__main__"):
        assert hasattr(module, "__all__")


def documented_parameters(value):
    function = value.__init__ if inspect.isclass(value) else value
    if inspect.isclass(value) and "__init__" not in vars(value) and not hasattr(value, "__dataclass_fields__"):
        return []
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("value", list(public_objects()))
def test_docstrings_have_their_shape(value):
    text = inspect.getdoc(value)
    assert text, "has no docstring"
    summary = text.splitlines()[0]
    assert summary.endswith("."), "the first line is one sentence"
    is_error = inspect.isclass(value) and issubclass(value, Exception | Warning)
    is_protocol = getattr(value, "_is_protocol", False)
    parameters = [] if is_error or is_protocol else documented_parameters(value)
    if parameters:
        assert "Args:" in text, "arguments are described"
    for parameter in parameters:
        assert f"{parameter}:" in text, f"argument '{parameter}' is described"
    for name, method in vars(value).items() if inspect.isclass(value) and not is_error else ():
        function = getattr(method, "__func__", method)
        if inspect.isfunction(function) and not name.startswith("_"):
            assert inspect.getdoc(getattr(value, name)), f"method {name} has a docstring"


@pytest.mark.parametrize("value", [p for p in public_objects() if inspect.isclass(p.values[0])])
def test_classes_are_abstract_or_final(value):
    if issubclass(value, Exception | Warning) or value.__name__ in ("Configurable", "Model"):
        return
    is_abstract = inspect.isabstract(value) or getattr(value, "_is_protocol", False)
    assert is_abstract != getattr(value, "__final__", False)


def test_no_module_has_a_name_that_says_nothing():
    vague = {"base", "common", "helpers", "misc", "protocol", "protocols", "utils"}
    assert [name_of(path) for path in MODULES if path.stem in vague] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_small(path):
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= 350
