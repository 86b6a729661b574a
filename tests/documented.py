"""What the documentation holds: its pages, commands and recipes, for the tests that carry them out.

for page, words in documented.ALL:
    documented.parse(words)
"""

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

from fairat_tf import attacks, cli, flags_lib, methods

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page, language):
    return [body for name, body in BLOCK.findall(page.read_text()) if name == language]


def commands(page):
    """Returns the command lines of a page as lists of words: those in fences, and indented ones."""
    text = page.read_text()
    fenced = "\n".join(body for name, body in BLOCK.findall(text) if name in ("", "sh"))
    indented = "\n".join(re.findall(r"^    (?=python -m|\./tools/)(.*)$", BLOCK.sub("", text), re.M))
    lines = re.sub(r"\\\n\s*", " ", f"{fenced}\n{indented}").splitlines()
    ours = [line for line in lines if line.startswith(("python -m fairat_tf", "./tools/"))]
    return [shlex.split(line, comments=True) for line in ours]


def command_of(module, argv):
    """Returns the `cli.Command` of a module of the package."""
    if module == "train":
        return flags_lib.training_command(argv)
    name = {"data": "data.__main__"}.get(module, module)
    return importlib.import_module(f"fairat_tf.{name}").COMMAND


def parse(words):
    """Parses `python -m fairat_tf.X ...` by X's own flags; anything wrong raises."""
    module = words[2].removeprefix("fairat_tf.")
    argv = [module, *(word for word in words[3:] if word != "...")]
    if module == "evaluate" and "..." in words:
        argv += ["--model=m", "--dataset=d"]
    if "--help" in argv:
        return command_of(module, argv).help_text()
    command: cli.Command = command_of(module, argv)
    command.flags.unparse_flags()
    rest = command.flags(argv)[1:]
    assert not rest or command.arguments, f"{module} takes no {rest}"
    return flags_lib.config_from(command.flags) if module == "train" else None


ALL = [(page, words) for page in PAGES for words in commands(page)]


def title(value):
    return value.name if isinstance(value, Path) else " ".join(value)[:90]


def main_of(module):
    if module == "fairat_tf.data":
        return importlib.import_module("fairat_tf.data.__main__").show
    return importlib.import_module(module).main


def recipe_of(page):
    """Returns (module name, its text, table line) of a page that shows how to add something."""
    codes = blocks(ROOT / "docs" / page, "python")
    (text,) = [code for code in codes if code.startswith('"""')]
    (line,) = [code for code in codes if re.match(r' +"[\w-]+": "fairat_tf', code)]
    ((_, target),) = ast.literal_eval(f"{{{line}}}").items()
    return target.partition(":")[0], text, line


def add_recipes(tmp_path, monkeypatch):
    """Adds the method and the attack of the two pages, as if their files and lines were in the package."""
    for page, table in (("adding_a_method.md", methods.TABLE), ("adding_an_attack.md", attacks.TABLE)):
        name, text, line = recipe_of(page)
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        for key, target in ast.literal_eval(f"{{{line}}}").items():
            monkeypatch.setitem(table._entries, key, target)
