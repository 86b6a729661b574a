"""Every public module, class, function and method of the package has a docstring.

Public is what has no name beginning with an underscore, at the top of a module or in a public class there.
A method that overrides a documented one of the package has that documentation, and a class that overrides
what Keras calls (`call`, `get_config` and so on) describes it in its own docstring.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fairat_tf"

KERAS_METHODS = {
    "build", "call", "compute_output_shape", "from_config", "get_config",
    "train_step", "test_step", "update_step", "update_state", "reset_state", "result", "metrics",
    "on_train_begin", "on_train_end", "on_train_batch_begin", "on_train_batch_end",
    "on_epoch_begin", "on_epoch_end", "on_test_begin", "on_test_end", "on_test_batch_end",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def base_names(cls: ast.ClassDef) -> list[str]:
    return [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in cls.bases]


def is_setter(function: Function) -> bool:
    return any(
        isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in function.decorator_list
    )


class Package:
    """The syntax trees of some modules, and what in them lacks documentation."""

    def __init__(self, modules: dict[str, str]):
        self.trees = {name: ast.parse(text) for name, text in modules.items()}
        classes = [n for tree in self.trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
        self.classes = {cls.name: cls for cls in classes}

    def inherits_documentation(self, cls: ast.ClassDef, method: str) -> bool:
        """Says whether a base class within the package documents `method`."""
        for base in (self.classes[name] for name in base_names(cls) if name in self.classes):
            own = [node for node in base.body if isinstance(node, Function) and node.name == method]
            if any(map(ast.get_docstring, own)) or self.inherits_documentation(base, method):
                return True
        return False

    def needs_docstring(self, cls: ast.ClassDef, method: Function) -> bool:
        keras = bool(cls.bases) and method.name in KERAS_METHODS
        private = method.name.startswith("_")
        return not (private or keras or is_setter(method) or self.inherits_documentation(cls, method.name))

    def public(self) -> Iterator[tuple[str, ast.AST]]:
        """Yields (qualified name, node) of everything that has to be documented."""
        for name, tree in self.trees.items():
            yield name, tree
            for node in tree.body:
                if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                    continue
                yield f"{name}.{node.name}", node
                for child in node.body if isinstance(node, ast.ClassDef) else []:
                    if isinstance(child, Function) and self.needs_docstring(node, child):
                        yield f"{name}.{node.name}.{child.name}", child

    def undocumented(self) -> list[str]:
        return [name for name, node in self.public() if not (ast.get_docstring(node) or "").strip()]


def the_package() -> Package:
    paths = sorted(PACKAGE.rglob("*.py"))
    return Package({str(path.relative_to(PACKAGE.parent)): path.read_text() for path in paths})


def test_everything_public_is_documented():
    package = the_package()
    assert "fairat_tf/lookup.py.Table.get" in dict(package.public())
    assert package.undocumented() == []


def test_what_is_missing_is_found():
    base = '"""Doc."""\nclass Base:\n    """Doc."""\n    def hook(self):\n        """Doc."""\n'
    module = """
def documented():
    "Doc."
def bare(): pass
def _private(): pass
class Layer(Base):
    "Doc."
    def call(self): pass
    def hook(self): pass
    def other(self): pass
    @property
    def size(self): pass
    @size.setter
    def size(self, value): pass
class Plain:
    def call(self): pass
"""
    found = Package({"base": base, "m": module}).undocumented()
    assert found == ["m", "m.bare", "m.Layer.other", "m.Layer.size", "m.Plain", "m.Plain.call"]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
