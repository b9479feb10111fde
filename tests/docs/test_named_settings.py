"""What an error names, there is: settings, options of the command line, environment variables, files, calls of tfvl."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from support.paths import ROOT

SOURCES = sorted((ROOT / "tfvl").rglob("*.py"))
ERRORS = ("Error", "Exit", "BadParameter", "refuse", "problem", "warn")
# of other libraries and programs: Hugging Face's, Keras', TensorFlow's, Python's, Git's
FOREIGN = {
    *(
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "KERAS_BACKEND",
        "CUDA_VISIBLE_DEVICES",
        "TF_CONFIG",
        "LD_LIBRARY_PATH",
        "OPENVINO_LIB_PATHS",
    ),
    *(
        "tensorflow_model_server",
        "huggingface_hub",
        "tensorinfo_map",
        "tensorflow_text",
        "ai_edge_litert",
        "saved_model_cli",
    ),
}
FILES = r"[\w*.-]+\.(?:json|ya?ml|txt|safetensors|bin|h5|npz|tsv|pb|csv|pkl|tflite|keras|py|md)\b"


@cache
def trees() -> dict:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def messages() -> Iterator[tuple[str, str]]:
    """Yields (place, text) of each error, warning or refusal; the text is its fixed parts."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and called(node).endswith(ERRORS)):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                said = " ".join(text for text in texts if isinstance(text, str) and " " in text)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", said


@cache
def known() -> set[str]:
    """Returns every name that the sources define or use, and every string in them that is one word."""
    names = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            match node:
                case ast.arg(arg=name) | ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=name):
                    names.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.alias(name=name):
                    names.update(name.split("."))
                case ast.Constant(value=str(text)) if " " not in text:
                    names.add(text)
    return names


@cache
def options() -> set[str]:
    """Returns all options: arguments of functions in `tfvl/cli` and `tools`, and in strings that begin with --."""
    found = {"--help"}
    for path in [*(ROOT / "tfvl/cli").glob("*.py"), *(ROOT / "tools").glob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.arg):
                found.add(f"--{node.arg.replace('_', '-')}")
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(r"--[a-z][a-z-]+", node.value) if node.value.startswith("--") else ())
    return found


@cache
def fields() -> set[str]:
    """Returns the fields of all classes, which a user can lower, raise or set."""
    classes = (node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    annotated = (field.target for each in classes for field in each.body if isinstance(field, ast.AnnAssign))
    return {target.id for target in annotated if isinstance(target, ast.Name)}


def named(said: str) -> Iterator[tuple[str, bool]]:
    """Yields each thing that a message names, and whether it exists."""
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", said):
        yield option, option in options()
    words = re.sub(rf"{FILES}|\S+/\S+", " ", re.sub(r"(?<![\w-])--[a-z-]+", " ", said))
    for word in re.findall(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b", words):
        yield word, word in known() | FOREIGN
    for setting in re.findall(r"\b(?:lower|raise|set|change) (\w+_\w+)", words):
        yield setting, setting in fields() | FOREIGN
    for setting in re.findall(r"\b([a-z]\w*)=", words):
        yield f"{setting}=", setting in known()
    for variable in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", words):
        yield variable, variable in known() | FOREIGN
    for path in re.findall(r"\btfvl(?:\.\w+)+", words):
        yield path, path.rpartition(".")[2] in known() or (ROOT / path.replace(".", "/")).with_suffix(".py").exists()
    for extra in re.findall(r"\.\[(\w+)\]", said):
        yield f"[{extra}]", re.search(rf"^{extra} =", (ROOT / "setup.cfg").read_text(), re.MULTILINE) is not None
    for file in re.findall(rf"\b(?:tfvl|tools|examples|serving|tests)/{FILES}", said):
        yield file, (ROOT / file).exists()


def test_what_an_error_names_exists():
    missing = {
        f"{where} names {name}, and there is no such thing"
        for where, said in messages()
        for name, exists in named(said)
        if not exists
    }
    assert sorted(missing) == []


@pytest.mark.parametrize(
    "said",
    [
        "lower min_occurrences",
        "export it with --image-sise",
        "pass num_heads_of_it=2",
        "set TFVL_NO_SUCH=1",
        "take tfvl.shapes.no_such_call",
        "pip install '.[nothing]'",
        "see tools/no_such_file.py",
    ],
)
def test_a_name_that_is_none_is_found(said):
    assert [name for name, exists in named(said) if not exists]


def test_all_errors_are_looked_at():
    assert len([said for _, said in messages() if said]) > 500
