"""Checks who may import whom (the tuple `ORDER`, the table `RULES`) and how light `import tfvl` and `tfvl --help` are.

    python tools/check_imports.py

Prints one line per violation and exits with 1 if there is any. Every import counts: at the top of a module, inside a
function, and by name (`importlib.import_module("tfvl.x")`); a name that is put together when the program runs cannot be
followed and is refused. A rule with `transitively` follows module-level imports of tfvl's own modules too, because a
module depends just as much on those that the modules it imports import in turn.
"""

import ast
import resource
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELP_SECONDS = 1.0  # `tfvl --help` answers in under a second (best of three: the first one compiles bytecode)

# The rooms, lowest first: a room imports those before it, and rooms in one group do not import each other. A room is a
# folder or a file of tfvl/, a folder beside tfvl/, or the package's door, `tfvl/__init__.py`, whose stub file with
# the public names may import all others.
DOOR = "tfvl"
FAMILIES = ("lxmert", "vilt", "visual_bert")
ORDER = (
    ("errors", "layers", "answers"),
    "files",
    "porting",
    ("modeling", "preprocessing"),
    ("shapes", "detector", "lite"),
    "web",
    ("processors", "serving"),
    FAMILIES,
    "explanations",
    "auto",
    "export",
    "training",
    "pipelines",
    "cli",
    DOOR,
    ("examples/", "serving/", "tools/"),
    "tests/",
)


@dataclass(frozen=True)
class Rule:
    """A rule: `files` (glob patterns below the root) must not import `banned` modules, nor any outside `allowed`."""

    files: tuple[str, ...]
    reason: str
    banned: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # beside the standard library; empty means everything that is not banned
    transitively: bool = False


TENSORFLOW = ("tensorflow", "tensorflow_text")
MATHS = ("tfvl/layers/*.py", *(f"tfvl/{family}/model.py" for family in FAMILIES))
CLIENT = ("tfvl/serving/__init__.py", "tfvl/serving/client/*.py", "tfvl/serving/server/configs.py")
RULES = (
    Rule(("tfvl/**/*.py",), "tfvl runs without PyTorch", banned=("torch", "transformers")),
    Rule(MATHS, "the maths is keras.ops and runs on every backend", allowed=("keras", "numpy", "tfvl")),
    Rule(MATHS, "the maths runs on every backend", banned=TENSORFLOW, transitively=True),
    Rule(
        ("tfvl/porting/**/*.py",),
        "checkpoints are read and written without TensorFlow",
        banned=TENSORFLOW,
        transitively=True,
    ),
    Rule(
        CLIENT,
        "the client of a server runs without TensorFlow",
        banned=(*TENSORFLOW, "tensorflow_serving", "keras"),
        transitively=True,
    ),
)


@dataclass(frozen=True)
class Import:
    module: str | None  # dotted, absolute; `from a import b` gives "a.b", as `b` may be a module; None: nobody knows
    line: int
    on_load: bool  # runs when the module is imported, not inside a function


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []

    def visit(node: ast.AST, on_load: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, on_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                known = base != "importlib" or alias.asname is None  # by another name its calls would not be seen
                found.append(Import(f"{base}.{alias.name}" if known else None, node.lineno, on_load))
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            argument = node.args[0] if node.args else None
            module = argument.value if isinstance(argument, ast.Constant) else None
            found.append(Import(module, node.lineno, on_load))
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, on_load and not inside_function)

    visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), True)
    return tuple(found)


def _name(function: ast.expr) -> str | None:
    return getattr(function, "id", getattr(function, "attr", None))


# --- rooms ----------------------------------------------------------------------------------------------------------


def room_of(path: Path) -> str:
    """Returns the room in which a file below the root lies."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "tfvl":
        return f"{parts[0]}/"
    return DOOR if len(parts) < 2 or parts[1] in ("__init__", "__main__") else parts[1]


def room_of_module(module: str) -> str | None:
    """Returns the room of a module of tfvl; None for others, and for tfvl's version, which every room may import."""
    top, _, below = module.partition(".")
    room = below.partition(".")[0]
    if top != "tfvl" or room == "__version__":
        return None
    base = ROOT / "tfvl" / room
    return room if room and (base.is_dir() or base.with_suffix(".py").is_file()) else DOOR


def imports_between_rooms() -> dict[str, dict[str, list[str]]]:
    """Returns for each room the rooms that it imports, with the places ("file:line") where it does."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in _files():
        room = room_of(path)
        found[room] = found[room]
        for item in imports_of(path) if path != ROOT / "tfvl" / "__init__.py" else ():
            other = room_of_module(item.module or "")
            if other not in (None, room):
                found[room][other].append(f"{path.relative_to(ROOT)}:{item.line}")
    return found


def _files() -> Iterator[Path]:
    for folder in ("tfvl", *(name.rstrip("/") for rank in ORDER for name in _group(rank) if name.endswith("/"))):
        yield from sorted(ROOT.glob(f"{folder}/**/*.py"))


def _group(rank: str | tuple[str, ...]) -> tuple[str, ...]:
    return (rank,) if isinstance(rank, str) else rank


def upward(graph: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Returns a line for each import of a room that is not earlier in `ORDER`, and for each room missing there."""
    ranks = {room: number for number, rank in enumerate(ORDER) for room in _group(rank)}
    lines = [f"{room}: the room is missing in ORDER of {Path(__file__).name}" for room in graph if room not in ranks]
    for room, others in graph.items():
        for other, places in others.items():
            if {room, other} <= ranks.keys() and ranks[other] >= ranks[room]:
                wrong = f"{room} must not import {other}, which does not come before it"
                lines += [f"{place}: {wrong}" for place in dict.fromkeys(places)]
    return lines


def circles(graph: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Returns a line for each set of rooms that all reach each other: one circle, and the place of each import."""
    reached = {room: _reached(graph, room) for room in graph}
    lines, seen = [], set()
    for room in graph:
        if room in reached[room] and room not in seen:
            seen |= {other for other in reached[room] if room in reached[other]}
            way = _way(graph, room)
            places = (graph[one][other][0] for one, other in pairwise(way))
            lines.append(f"circle: {' -> '.join(way)} ({', '.join(places)})")
    return lines


def _reached(graph: Mapping[str, Mapping], start: str) -> set[str]:
    found, queue = set(), [start]
    while queue:
        new = graph.get(queue.pop(), {}).keys() - found
        found |= new
        queue += new
    return found


def _way(graph: Mapping[str, Mapping], room: str) -> list[str]:
    """Returns the shortest way from a room back to itself."""
    ways = [[room]]
    for way in ways:
        for other in graph.get(way[-1], {}):
            if other == room:
                return [*way, room]
            ways += [[*way, other]] if other not in way else []
    raise ValueError(f"there is no way from {room} back to it")


def untraceable() -> list[str]:
    """Returns a line for each import in tfvl by a name that is only known at run time; only the door may have those."""
    return [
        f"{path.relative_to(ROOT)}:{item.line}: imports a module whose name is not written out; nobody can follow it"
        for path in sorted(ROOT.glob("tfvl/**/*.py"))
        for item in imports_of(path)
        if item.module is None and path != ROOT / "tfvl" / "__init__.py"
    ]


# --- rules ----------------------------------------------------------------------------------------------------------


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def files_of_import(module: str) -> list[Path]:
    """Returns this repository's files that run when `module` is imported ("tfvl.a.b"; `b` may be a name in `a`)."""
    parts = module.split(".")
    candidates = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    files = [file for base in candidates for file in (base / "__init__.py", base.with_suffix(".py"))]
    return [file for file in files if file.is_file()]


def loaded_with(path: Path) -> dict[Path, Path]:
    """Returns the files of tfvl that are loaded when `path` is imported, each with the file that imports it."""
    importer = {path: path}
    queue = [path]
    while queue:
        current = queue.pop()
        for item in imports_of(current):
            if item.on_load and is_within(item.module or "", ("tfvl",)):
                for file in files_of_import(item.module):
                    if file not in importer:
                        importer[file] = current
                        queue.append(file)
    return importer


def violations(rule: Rule) -> list[str]:
    found = []
    for path in sorted({path for pattern in rule.files for path in ROOT.glob(pattern)}):
        for file, importer in loaded_with(path).items() if rule.transitively else [(path, path)]:
            for item in imports_of(file):
                module = item.module or ""
                top = module.split(".")[0]
                outside = rule.allowed and top not in sys.stdlib_module_names and not is_within(module, rule.allowed)
                if (item.on_load or file == path) and (outside or is_within(module, rule.banned)):
                    where = f"{file.relative_to(ROOT)}:{item.line}"
                    via = (
                        ""
                        if file == path
                        else f" (loaded by {path.relative_to(ROOT)} through {importer.relative_to(ROOT)})"
                    )
                    found.append(f"{where}: imports {module}{via}: {rule.reason}")
    return found


def stale() -> list[str]:
    """Returns a line for each pattern of a rule that no file matches any more."""
    patterns = (pattern for rule in RULES for pattern in rule.files)
    return [f"{Path(__file__).name}: no file matches {pattern}" for pattern in patterns if not any(ROOT.glob(pattern))]


# --- how light it is ------------------------------------------------------------------------------------------------


def import_is_light() -> list[str]:
    heavy = ("tensorflow", "keras", "numpy", "PIL", "huggingface_hub")
    lines = []
    for module in ("tfvl", "tfvl.cli.app"):
        code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
        command = [sys.executable, "-c", code]
        loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        lines += [f"{module}: importing it loads {name}; import that where it is used" for name in loaded]
    return lines


def help_is_fast() -> list[str]:
    """Checks how long `tfvl --help` takes, in CPU seconds, which do not grow while other programs run."""
    command = [sys.executable, "-c", "import sys; from tfvl.cli.app import main; sys.exit(main(['--help']))"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"tfvl --help: {min(seconds):.2f} s")
    return (
        [f"tfvl/cli/app.py: `tfvl --help` takes {min(seconds):.2f} s, more than {HELP_SECONDS} s"]
        if min(seconds) > HELP_SECONDS
        else []
    )


def main() -> int:
    graph = imports_between_rooms()
    up, round_about = upward(graph), circles(graph)
    found = [*up, *round_about, *untraceable(), *(line for rule in RULES for line in violations(rule)), *stale()]
    found += [*import_is_light(), *help_is_fast()]
    print(*dict.fromkeys(found), sep="\n", end="\n" if found else "")
    between = sum(map(len, graph.values()))
    print(
        f"{len(graph)} rooms, {between} imports between them, {len(up)} upward, {len(round_about)} circles; "
        f"{len(RULES)} rules, {len(found)} violations"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
