"""The shape of the house: which room may import which, and who alone may do what."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("emu3", "train")
    for path in sorted((ROOT / package).rglob("*.py"))
}
LONGEST_CHAIN = 10


def is_for_types(node: ast.AST) -> bool:
    """Whether a block is for type checkers alone."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


@functools.cache
def imported(name: str, lazy: bool) -> set[str]:
    """Files of ours that a file imports; `lazy` adds those imported inside functions."""
    found = set()

    def add(module: str) -> None:
        while module and module not in FILES:
            module = module.rpartition(".")[0]
        found.update({module} - {"", name})

    def walk(nodes: list[ast.AST]) -> None:
        for node in nodes:
            if is_for_types(node) or (isinstance(node, ast.FunctionDef) and not lazy):
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    add(alias.name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    add(f"{node.module}.{alias.name}")
            walk(list(ast.iter_child_nodes(node)))

    walk(ast.parse(FILES[name].read_text(encoding="utf-8")).body)
    return found


def reached(name: str) -> set[str]:
    """The files that a file needs, by whatever way."""
    seen, left = set(), [*imported(name, True)]
    while left:
        current = left.pop()
        if current not in seen:
            seen.add(current)
            left += imported(current, True)
    return seen


def test_emu3_never_imports_train():
    for name in FILES:
        if name.split(".")[0] == "emu3":
            assert not [other for other in imported(name, True) if other.startswith("train")], name


def test_no_file_imports_itself_by_way_of_others():
    assert not [name for name in FILES if name in reached(name)]


def test_no_chain_of_imports_is_long():
    @functools.cache
    def chain(name: str) -> tuple[str, ...]:
        return (name, *max((chain(other) for other in imported(name, False)), key=len, default=()))

    longest = max((chain(name) for name in FILES if name.startswith("emu3")), key=len)
    assert len(longest) <= LONGEST_CHAIN, longest


def users(*names: str) -> set[str]:
    """Files that mention one of `names` as an attribute."""
    return {
        name
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in names
    }


def test_only_the_runtime_touches_the_context():
    assert users("set_context", "set_device", "set_cpu_affinity") <= {"emu3.runtime"}


def test_a_namespace_is_seen_at_the_door_alone():
    doors = {"emu3.cli.shell"} | {"train.tuning.options"}  # where YAML joins the command line
    assert users("Namespace") <= doors


def test_importing_the_package_and_its_rooms_is_light():
    from tests.support import output_of

    rooms = "emu3, emu3.mllm, emu3.tokenizer, emu3.pipeline, emu3.loading, emu3.cli.img_gen"
    assert output_of(f"import sys, {rooms}; print('mindspore' in sys.modules)") == "False"
