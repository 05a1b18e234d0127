"""The table in README.md: every fault is in it once, and every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| .* \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_fault_has_one_row_with_a_test():
    rows = {int(match[1]): match[0] for match in ROW.finditer(TABLE)}
    assert list(rows) == list(range(1, 41))
    assert [number for number, row in rows.items() if not TEST.search(row)] == []


def test_every_test_that_is_named_exists():
    named = TEST.findall(TABLE)
    assert len(named) > 60
    missing = [f"{file}::{name}" for file, name in named if name not in functions(ROOT / file)]
    assert missing == []
    assert TABLE.count("::") == len(named)  # none is written so that it was not seen here


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
