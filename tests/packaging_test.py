"""The requirement files agree, the package installs whole, the version is one, nothing names a machine."""

import ast
import email.parser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTION_OF_MODULE = {"absl": "absl-py", "PIL": "pillow"}
TENSORFLOW_WHEELS = {"tensorflow", "tensorflow-cpu"}


def lines(name: str) -> list[str]:
    """Returns the requirements of a file in order, without comments."""
    text = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return [line for line in text if line]


def pins(name: str) -> dict[str, str]:
    """Returns name -> version of a file in which every line is `name==version`."""
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines(name))}


def package_version() -> str:
    tree = ast.parse((ROOT / "fairat_tf" / "__init__.py").read_text())
    (version,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"
    ]
    return version


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for path in (ROOT / name for name in listing.stdout.split("\0") if name) if path.is_file()]


def test_the_two_requirement_files_differ_in_the_tensorflow_wheel_only():
    def with_comments(name):
        text = (ROOT / name).read_text()
        return text[re.search(r"^tensorflow", text, re.MULTILINE).start() :]

    assert with_comments("requirements.txt").replace("tensorflow==", "tensorflow-cpu==", 1) == with_comments(
        "requirements-cpu.txt"
    )


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-cpu.txt"])
def test_one_tensorflow_wheel_in_a_file(name):
    assert len(TENSORFLOW_WHEELS & set(pins(name))) == 1


def test_the_lock_holds_every_pin_and_all_that_they_need():
    lock = pins("requirements_lock.txt")
    pinned = pins("requirements.txt") | pins("requirements-test.txt")
    assert {name: lock.get(name) for name in pinned} == pinned
    installed = {canonicalize_name(d.name): d for d in importlib.metadata.distributions()}
    missing = set()
    for name in lock.keys() & installed.keys():
        for requirement in map(Requirement, installed[name].requires or []):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if needed and canonicalize_name(requirement.name) not in lock:
                missing.add(f"{name} needs {requirement}")
    assert missing == set()


def test_pyproject_names_the_same_packages_and_its_ranges_hold_the_pins():
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    pinned = pins("requirements.txt")
    ranges = [Requirement(r) for r in [*project["dependencies"], *extras["tf"], *extras["cleverhans"]]]
    assert {canonicalize_name(r.name) for r in ranges} == set(pinned)
    assert [str(r) for r in ranges if pinned[canonicalize_name(r.name)] not in r.specifier] == []
    assert not TENSORFLOW_WHEELS & {Requirement(r).name for r in project["dependencies"]}


def test_every_import_of_the_package_is_required():
    imported = set()
    for path in (ROOT / "fairat_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    outside = imported - set(sys.stdlib_module_names) - {"fairat_tf"}
    required = set(pins("requirements.txt"))
    assert {canonicalize_name(DISTRIBUTION_OF_MODULE.get(name, name)) for name in outside} <= required


def test_one_version_everywhere():
    version = package_version()
    assert re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
    assert re.search(r'module\([^)]*version = "([^"]+)"', (ROOT / "MODULE.bazel").read_text())[1] == version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the tree, built from a copy by the build backend that pip would call."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    shutil.copytree(ROOT / "fairat_tf", source / "fairat_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_module_and_the_type_marker(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "fairat_tf").rglob("*.py")}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == modules | {"fairat_tf/py.typed"}


def test_the_wheel_says_what_it_is(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.parser.BytesParser().parsebytes(wheel.read(name))
    assert metadata["Version"] == package_version()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}


def test_console_scripts_start_functions_that_exist():
    for target in PYPROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, target


def test_flag_files_begin_with_a_header_that_holds_their_command():
    files = sorted((ROOT / "flags").rglob("*.flags"))
    assert ROOT / "flags" / "quick.flags" in files
    for path in files:
        text = path.read_text().splitlines()
        size = next((n for n, line in enumerate(text) if not line.startswith("#")), len(text))
        header = "\n".join(text[:size])
        assert f"--flagfile={path.relative_to(ROOT)}" in header or "tools/quickstart" in header, path.name


def test_no_trace_of_a_machine_in_the_files():
    folders = "|".join(("work", "root", "home", "Users"))
    machine_path = re.compile(rf"(?<![\w.~}}])/(?:{folders})/\w+")
    package_index = re.compile(r"(?:extra-)?index-url|--find-links|trusted-host")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            hits = machine_path.findall(text) + package_index.findall(text)
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert found == []


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
