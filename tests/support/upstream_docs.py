"""Reads what upstream's documentation names, and which of it tfvl leaves out, and compares results."""

import json

import numpy as np

from support.paths import DATA, ROOT

PAGES = json.loads((DATA / "upstream_arguments.json").read_text(encoding="utf-8"))
README = " ".join((ROOT / "tfvl" / "README.md").read_text(encoding="utf-8").split())
MODELS = [name for name, entry in PAGES.items() if "outputs" in entry]
CONFIGS = [name for name in PAGES if name.endswith("Config")]

# (class, or part of its name; argument): the words of tfvl/README.md that say why it is left out
LEFT_OUT = {
    ("", "return_dict"): "there is no `return_dict`",
    ("For", "**kwargs"): "An argument that a class does not have is refused by its name",
    ("TF", "*inputs"): "nothing of their constructors but `config`, `name` and `dtype`",
    ("TF", "**kwargs"): "nothing of their constructors but `config`, `name` and `dtype`",
    ("Config", "**kwargs"): "go into `extra={…}`",
    ("LxmertConfig", "layer_norm_eps"): "so `layer_norm_eps` changes nothing",
    ("VisualBertConfig", "bos_token_id"): "`bos_token_id` and `eos_token_id`, which no model reads",
    ("VisualBertConfig", "eos_token_id"): "`bos_token_id` and `eos_token_id`, which no model reads",
    ("Tokenizer", "vocab_file"): "The tokenizer's vocabulary is called `vocab`",
    ("Tokenizer", "tokenizer_file"): "a `tokenizer_file` is read by `from_pretrained`",
    ("Tokenizer", "do_basic_tokenize"): "`do_basic_tokenize`, `clean_text` and `wordpieces_prefix` are fixed",
    ("Tokenizer", "clean_text"): "`do_basic_tokenize`, `clean_text` and `wordpieces_prefix` are fixed",
    ("Tokenizer", "wordpieces_prefix"): "`do_basic_tokenize`, `clean_text` and `wordpieces_prefix` are fixed",
    ("Tokenizer", "**kwargs"): "An argument that a class does not have is refused by its name",
    ("Processor", "**kwargs"): "An argument that a class does not have is refused by its name",
    ("ViltProcessor", "stride"): "so `stride` and `verbose` have no effect",
    ("ViltProcessor", "return_overflowing_tokens"): "no `return_overflowing_tokens` and `return_offsets_mapping`",
    ("ViltProcessor", "return_offsets_mapping"): "no `return_overflowing_tokens` and `return_offsets_mapping`",
    ("ViltProcessor", "verbose"): "so `stride` and `verbose` have no effect",
    ("ViltImageProcessor", "return_tensors"): "The image processor has no `return_tensors`",
    ("ViltImageProcessor", "data_format"): "`data_format` does not exist",
}
# The pages are of other versions: the newest one's default holds.
OTHER_DEFAULTS = {("ViltConfig", "tie_word_embeddings"): True}


def left_out(name: str, argument: str) -> str | None:
    return next((reason for (part, of), reason in LEFT_OUT.items() if part in name and of == argument), None)


def taken(kind: str, names=PAGES) -> list[tuple[str, str]]:
    """Returns (class, argument) of every documented argument of constructors, or of calls, that is not left out."""
    pairs = [(name, argument) for name in names for argument in PAGES[name].get(kind, ())]
    return [(name, argument) for name, argument in pairs if left_out(name, argument) is None]


def differ(first: dict, second: dict) -> bool:
    if first.keys() != second.keys():
        return True
    both = [(value, second[name]) for name, value in first.items()]
    return any(a.shape != b.shape or not np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in both)
