"""Imports only go down through the layers of the package; files and functions keep their size.

The table below is the whole rule: a new file or folder has to be given its level here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fairat_tf"

LEVELS = {
    "ground": ["__init__", "config", "devices", "errors", "lookup", "quiet", "rng", "units", "workers"],
    "pure parts": ["attacks", "augment", "data", "metrics", "networks", "objectives", "optimization"],
    "methods": ["methods"],
    "running": [
        "assembly", "callbacks", "checkpointing", "divergence", "eval_lib", "evaluation", "exporting",
        "final_evaluation", "model_card", "model_files", "recipes", "reporting", "run_directory", "signals",
        "summary_text", "train_lib", "training_loop",
    ],
    "command line": [
        "augment_preview", "cli", "compare", "evaluate", "flags_lib", "picture", "selftest", "train",
        "verify",
    ],
}  # fmt: skip
LEVEL = {unit: level for level, units in enumerate(LEVELS.values()) for unit in units}
COMMAND_LINE = len(LEVELS) - 1
PURE_PARTS = 1
ALLOWED_BETWEEN_PURE_PARTS = {("attacks", "objectives")}
WITHOUT_TENSORFLOW = {"__init__", "config", "errors", "lookup", "quiet", "units", *LEVELS["command line"]}

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60

_TABLE_ENTRY = re.compile(r"fairat_tf(\.\w+)+:\w+")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """Returns the folder or the file, directly below the package, that `path` belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def level_of(path: Path) -> int:
    return COMMAND_LINE if path.name == "__main__.py" else LEVEL[unit_of(path)]


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yields dotted names: imports at any depth, `fairat_tf.x` as an attribute, entries of tables."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.ImportFrom():
                yield "relative import"
            case ast.Attribute(value=ast.Name(id="fairat_tf"), attr=attribute):
                yield f"fairat_tf.{attribute}"
            case ast.Constant(value=str(text)) if _TABLE_ENTRY.fullmatch(text):
                yield text.split(":")[0]


def units_used(tree: ast.AST) -> set[str]:
    """Returns the units that a file uses; names of the root module count as `__init__`."""
    parts = [name.split(".") for name in imported_modules(tree)]
    own = [part for part in parts if part[0] == "fairat_tf"]
    return {part[1] if len(part) > 1 and part[1] in LEVEL else "__init__" for part in own}


def violations(importer: str, level: int, used: set[str]) -> list[str]:
    """Returns which of the units `used` may not be used by a file of `importer` at `level`."""
    found = []
    for unit in sorted(used - {importer}):
        upwards = LEVEL[unit] > level
        sideways = LEVEL[unit] == level == PURE_PARTS and (importer, unit) not in ALLOWED_BETWEEN_PURE_PARTS
        if upwards or sideways:
            found.append(unit)
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def test_every_file_has_a_level_and_every_level_its_files():
    units = {unit_of(path) for path in sources()}
    assert units == set(LEVEL), "give new files and folders a level in LEVELS; take out what is gone"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    if path == PACKAGE / "__init__.py":
        pytest.skip("the root module names the sub-packages for its users")
    found = violations(unit_of(path), level_of(path), units_used(parsed(path)))
    assert not found, f"{path.name} is below {found} or beside it"


def files_used() -> dict[str, set[str]]:
    """Returns module name -> the modules of the package that it imports, at any depth."""
    names = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in sources()
    }

    def module_of(name: str) -> str:
        return name if name in names or "." not in name else module_of(name.rpartition(".")[0])

    used = {name: set(map(module_of, imported_modules(parsed(path)))) for name, path in names.items()}
    return {name: modules & names.keys() - {"fairat_tf"} for name, modules in used.items()}


def circles(used: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Returns the pairs of modules in different folders that need each other, over any number of imports."""
    reached = {name: set(modules) for name, modules in used.items()}
    for middle in reached:
        for name, modules in reached.items():
            if middle in modules:
                reached[name] = modules | reached[middle]
    pairs = {(name, other) for name in reached for other in reached[name] if name in reached[other]}
    return {(a, b) for a, b in pairs if a < b and a.split(".")[1:2] != b.split(".")[1:2]}


def test_no_circle_leads_through_two_folders():
    used = files_used()
    assert "fairat_tf.lookup" in used["fairat_tf.attacks"]
    assert circles(used) == set()
    assert circles({"p.a.x": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p.a.x"}}) == {
        ("p.a.x", "p.b"),
        ("p.a.x", "p.c"),
        ("p.b", "p.c"),
    }


def test_absl_is_known_to_the_command_line_only():
    users = [p for p in sources() if any(m.split(".")[0] == "absl" for m in imported_modules(parsed(p)))]
    assert [str(p.relative_to(PACKAGE)) for p in users if level_of(p) != COMMAND_LINE] == []
    assert users


def test_help_needs_no_tensorflow():
    heavy = {"tensorflow", "keras", "tensorflow_datasets", "cleverhans", "matplotlib"}
    for path in sources():
        if unit_of(path) in WITHOUT_TENSORFLOW and path.parent == PACKAGE:
            at_import = ast.Module(
                [n for n in parsed(path).body if isinstance(n, ast.Import | ast.ImportFrom)], []
            )
            used = {name.split(".")[0] for name in imported_modules(at_import)} & heavy
            assert not used, f"{path.name} imports {used} when it is imported"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_size(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    functions = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize(
    ("importer", "code", "expected"),
    [
        ("attacks", "from fairat_tf.objectives import losses", []),
        ("objectives", "from fairat_tf import attacks", ["attacks"]),
        ("data", "def f():\n    import fairat_tf.networks.resnet", ["networks"]),
        ("networks", "import fairat_tf\nfairat_tf.methods.get('x')", ["methods"]),
        ("networks", "T = {'x': 'fairat_tf.train_lib:train'}", ["train_lib"]),
        ("methods", "from fairat_tf import attacks, rng", []),
        ("rng", "from fairat_tf.data.dataset import Dataset", ["data"]),
        ("train_lib", "from fairat_tf import __version__, callbacks", []),
        ("train_lib", "from fairat_tf.cli import Command", ["cli"]),
    ],
)
def test_the_rule_itself(importer, code, expected):
    assert violations(importer, LEVEL[importer], units_used(ast.parse(code))) == expected


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
