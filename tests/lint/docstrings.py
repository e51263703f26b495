"""What a docstring lists under `Args:` are parameters, by their names."""

import ast
import re
from collections.abc import Iterator

from tests.support.root import parsed, tracked

PRODUCT = ("alignset", "pipeline", "transforms", "train")
_ARGS = re.compile(r"\n *Args:\n(.*?)(?:\n *\n|\n *(?:Attributes|Raises|Returns|Yields):|\Z)", re.S)
_NAMES = re.compile(r"(?:^|\. ) *((?:\w+, )*[a-z_]\w*):(?= |$)", re.M)


def unknown_names(tree: ast.AST) -> Iterator[str]:
    """Names under `Args:` that the function, or the class's `__init__`, does not have."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        listed = _ARGS.search(ast.get_docstring(node, clean=False) or "")
        parameters = set()
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                parameters.add(part.target.id)
            if part is node or (isinstance(part, ast.FunctionDef) and part.name == "__init__"):
                parameters |= {arg.arg for arg in ast.walk(part.args) if isinstance(arg, ast.arg)}
        for names in _NAMES.findall(listed[1]) if listed else ():
            yield from (f"{node.name}: {n}" for n in names.split(", ") if n not in parameters)


def test_arguments_that_are_documented_are_there() -> None:
    paths = [path for path in tracked("*.py") if path.parts[0] in PRODUCT]
    unknown = [f"{path}: {name}" for path in paths for name in unknown_names(parsed(path))]
    assert unknown == []


def test_what_is_not_there_is_found() -> None:
    source = '''
def f(a, *, b):
    """F.

    Args:
      a, c: two. b: one; see that: no name.
      d: another.
    """
'''
    assert [*unknown_names(ast.parse(source))] == ["f: c", "f: d"]
