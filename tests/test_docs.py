"""Every Python snippet of the documentation runs, those of a page sharing their names; what the prose names exists."""

import ast
import inspect
import re
import sys
from functools import reduce
from pathlib import Path

import pytest

import retrank as rr

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")


@pytest.mark.filterwarnings("ignore::retrank.core.errors.RetrankWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page, fake_movielens_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = page.read_text()
    names = {"__name__": f"docs_{page.stem}"}
    for snippet in SNIPPET.finditer(text):
        line = text[: snippet.start()].count("\n") + 1
        code = compile("\n" * line + snippet.group(1), str(page), "exec")
        exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def expressions(page):
    """Yield what stands between backticks in the prose and names something of retrank, with its syntax tree."""
    for text in CODE.findall(BLOCK.sub("", page.read_text())):
        if re.search(r"\brr\.", text):
            yield text, ast.walk(ast.parse(" ".join(text.split()), mode="eval"))


def resolve(node):
    """Return the object that `rr.x.y` is."""
    return reduce(getattr, ast.unparse(node).split(".")[1:], rr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_prose_exist(page):
    for text, nodes in expressions(page):
        for node in nodes:
            if not ast.unparse(node).startswith("rr."):
                continue
            try:
                if isinstance(node, ast.Attribute):
                    resolve(node)
                elif isinstance(node, ast.Call):
                    known = inspect.signature(resolve(node.func)).parameters
                    assert {keyword.arg for keyword in node.keywords} <= known.keys()
            except (AttributeError, AssertionError) as error:
                error.add_note(f"{page.name}: `{text}`")
                raise
