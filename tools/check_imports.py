"""Checks the import rules of the package (the table `RULES`) and how light `import tfvl` and `tfvl --help` are.

    python tools/check_imports.py

Prints one line per violation and exits with 1 if there is any. Every import statement counts, also one inside a
function: a lazy import of torch is an import of torch. A rule with `transitively` follows module-level imports of
tfvl's own modules too, because what a module pulls in when it is imported it depends on just as much.
"""

import ast
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELP_SECONDS = 1.0  # `tfvl --help` answers in under a second (best of three: the first one compiles bytecode)


@dataclass(frozen=True)
class Rule:
    """`files` (glob patterns below the root) must not import `banned` modules, or nothing outside `allowed`."""

    files: tuple[str, ...]
    reason: str
    banned: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # beside the standard library; empty means everything that is not banned
    transitively: bool = False


MODELS = ("vilt", "visual_bert", "lxmert")
MATHS = ("tfvl/layers/*.py", *(f"tfvl/{model}/model.py" for model in MODELS))
CLIENT = tuple(f"tfvl/serving/{name}.py" for name in ("ask", "client", "configs", "grpc_client", "rest_client"))
RULES = (
    Rule(("tfvl/**/*.py",), "tfvl runs without PyTorch", banned=("torch", "transformers")),
    Rule(MATHS, "the maths is keras.ops and runs on every backend", allowed=("keras", "numpy", "tfvl")),
    Rule(MATHS, "the maths runs on every backend", banned=("tensorflow", "tensorflow_text"), transitively=True),
    Rule(("tfvl/layers/*.py",), "layers know no model", banned=tuple(f"tfvl.{model}" for model in MODELS)),
    Rule(
        ("tfvl/porting/*.py",),
        "checkpoints are read and written without TensorFlow",
        banned=("tensorflow", "tensorflow_text"),
        transitively=True,
    ),
    Rule(
        CLIENT,
        "the client of a server runs without TensorFlow",
        banned=("tensorflow", "tensorflow_text", "tensorflow_serving", "keras"),
        transitively=True,
    ),
    *(
        Rule(
            (f"tfvl/{model}/**/*.py",),
            "models do not import each other",
            banned=tuple(f"tfvl.{other}" for other in MODELS if other != model),
        )
        for model in MODELS
    ),
)


@dataclass(frozen=True)
class Import:
    module: str  # dotted, absolute; `from a import b` gives "a.b" so that a submodule is seen as itself
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
            base = (
                ".".join((*package[: len(package) + 1 - node.level], *filter(None, [node.module])))
                if node.level
                else node.module
            )
            found.extend(Import(f"{base}.{alias.name}", node.lineno, on_load) for alias in node.names)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, on_load and not inside_function)

    visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), True)
    return tuple(found)


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def files_of_import(module: str) -> list[Path]:
    """The files of this repository that run when `module` ("tfvl.a.b", `b` perhaps a name in `a`) is imported."""
    parts = module.split(".")
    candidates = [ROOT.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    files = [file for base in candidates for file in (base / "__init__.py", base.with_suffix(".py"))]
    return [file for file in files if file.is_file()]


def loaded_with(path: Path) -> dict[Path, Path]:
    """Files of tfvl that importing `path` loads, each with the file that imports it."""
    importer = {path: path}
    queue = [path]
    while queue:
        current = queue.pop()
        for item in imports_of(current):
            if item.on_load and is_within(item.module, ("tfvl",)):
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
                top = item.module.split(".")[0]
                outside = (
                    rule.allowed and top not in sys.stdlib_module_names and not is_within(item.module, rule.allowed)
                )
                if (item.on_load or file == path) and (outside or is_within(item.module, rule.banned)):
                    where = f"{file.relative_to(ROOT)}:{item.line}"
                    via = (
                        ""
                        if file == path
                        else f" (loaded by {path.relative_to(ROOT)} through {importer.relative_to(ROOT)})"
                    )
                    found.append(f"{where}: imports {item.module}{via}: {rule.reason}")
    return found


def import_is_light() -> list[str]:
    heavy = ("tensorflow", "keras", "numpy", "PIL", "huggingface_hub")
    code = f"import tfvl, sys; print(*[name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [f"tfvl/__init__.py: `import tfvl` loads {name}; import it where it is used" for name in loaded]


def help_is_fast() -> list[str]:
    command = [sys.executable, "-c", "import sys; from tfvl.cli.app import main; sys.exit(main(['--help']))"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    print(f"tfvl --help: {min(seconds):.2f} s")
    return (
        [f"tfvl/cli/app.py: `tfvl --help` takes {min(seconds):.2f} s, more than {HELP_SECONDS} s"]
        if min(seconds) > HELP_SECONDS
        else []
    )


def main() -> int:
    found = [line for rule in RULES for line in violations(rule)] + import_is_light() + help_is_fast()
    print(*dict.fromkeys(found), sep="\n", end="\n" if found else "")
    checked = len(list(ROOT.glob("tfvl/**/*.py")))
    print(f"check_imports: {checked} files, {len(RULES)} rules, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
