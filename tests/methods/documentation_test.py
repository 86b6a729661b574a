"""Every method has its row in docs/methods.md, with the cost that the code estimates, and its flag file."""

import re
from pathlib import Path

import pytest

from fairat_tf import methods
from tests.methods import oracle

ROOT = Path(__file__).resolve().parents[2]
ROWS = {
    match[1]: match[2]
    for match in re.finditer(
        r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", (ROOT / "docs/methods.md").read_text(), re.M
    )
}


def test_every_method_has_its_row_and_every_row_its_method():
    assert list(ROWS) == sorted(ROWS, key=methods.names().index)
    assert set(ROWS) == set(methods.names())


@pytest.mark.parametrize("name", methods.names())
def test_cost_in_the_row(name):
    relative = re.search(r"\((\d\.\d\d)", ROWS[name])
    base = oracle.linear_method("pgd_at").passes
    assert oracle.linear_method(name).passes / base == pytest.approx(float(relative[1]), abs=0.005)


@pytest.mark.parametrize("name", sorted(set(methods.names()) - {"standard", "pgd_at", "fairat"}))
def test_every_rival_has_its_flag_file(name):
    text = (ROOT / f"flags/cifar10_{name}.flags").read_text()
    assert f"--method={name}\n" in text


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
