"""The edges of BUILD are the imports: a file is in one target, which depends on all that the file imports."""

import ast
import glob
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


class Build:
    """The libraries and binaries of BUILD: Starlark of this plainness is Python."""

    def __init__(self, text: str):
        self.sources: dict[str, set[str]] = {}
        self.deps: dict[str, set[str]] = {}

        def add(name, srcs=(), deps=(), **_):
            assert name not in self.sources, f"two targets {name}"
            self.sources[name], self.deps[name] = set(srcs), set(deps)

        def ignore(*_, **__):
            return None

        names = dict.fromkeys(
            ("load", "package", "licenses", "exports_files", "filegroup", "py_test"), ignore
        )
        rules = {"py_library": add, "py_binary": add, "glob": self.glob, "requirement": "@pypi//{}".format}
        exec(compile(text, "BUILD", "exec"), {**names, **rules})

    @staticmethod
    def glob(include, exclude=()):
        found = {path for pattern in include for path in glob.glob(pattern, root_dir=ROOT, recursive=True)}
        return sorted(found - set(Build.glob(exclude) if exclude else ()))

    def target_of(self, path: str) -> str:
        (target,) = [name for name, sources in self.sources.items() if path in sources]
        return target

    def reachable(self, target: str) -> set[str]:
        """Returns `target` and what it depends on, over any number of edges, with packages from outside."""
        found, todo = set(), [target]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += [dep.removeprefix(":") for dep in self.deps.get(name, ())]
        return found


def modules() -> dict[str, str]:
    """Returns dotted module name -> path below the repository, for the whole package."""
    paths = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "fairat_tf").rglob("*.py"))]
    return {re.sub(r"/__init__$", "", path[: -len(".py")]).replace("/", "."): path for path in paths}


def imports(path: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.fixture(scope="module")
def build():
    return Build((ROOT / "BUILD").read_text())


@pytest.mark.parametrize("path", modules().values())
def test_every_file_is_in_one_target_that_reaches_its_imports(build, path):
    reachable = build.reachable(build.target_of(path))
    known = modules()
    needed = {build.target_of(known[name]) for name in imports(path) if name in known}
    assert needed <= reachable


def test_the_sources_exist(build):
    named = {path for sources in build.sources.values() for path in sources}
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []


def test_the_edges_make_no_circle(build):
    for target, deps in build.deps.items():
        for dep in deps:
            assert target not in build.reachable(dep.removeprefix(":")), f"{target} and {dep}"


def test_the_packages_from_outside_are_in_the_lock(build):
    lock = {line.split("==")[0] for line in (ROOT / "requirements_lock.txt").read_text().splitlines()}
    outside = {
        canonicalize_name(dep.removeprefix("@pypi//"))
        for deps in build.deps.values()
        for dep in deps
        if dep[0] == "@"
    }
    assert "tensorflow" in outside and outside <= lock


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
