"""Writes tests/golden/text.npz: what transformers' BertTokenizer makes of the corpus in tests/support/bert_texts.py.

Run where transformers is installed, with the folder of vqa_label2ans.json and gqa_label2ans.json:
python tools/golden/text.py [../shared/data]
"""

import json
import sys
from pathlib import Path

import numpy as np
import tokenizers
import transformers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import bert_texts  # noqa: E402

ANSWER_LISTS = ("vqa_label2ans.json", "gqa_label2ans.json")


def answers(folder: Path) -> list[str]:
    return sorted({str(answer) for name in ANSWER_LISTS for answer in json.loads((folder / name).read_text())})


def words(normalizer: BertNormalizer, text: str) -> list[str]:
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(normalizer.normalize_str(text))]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared/data"
    tables = {"answers": np.frombuffer("\n".join(answers(folder)).encode(), np.uint8)}
    tokenizer = transformers.BertTokenizer(str(bert_texts.VOCAB))
    tables["ids_answers"] = bert_texts.digests(tokenizer(answers(folder))["input_ids"])
    for name, options in bert_texts.VARIANTS.items():
        tokenizer = transformers.BertTokenizer(str(bert_texts.VOCAB), **options)
        tables[f"ids_{name}"] = bert_texts.digests(tokenizer(bert_texts.variant_corpus(name))["input_ids"])
    for name, options in bert_texts.NORMALIZERS.items():
        normalizer = BertNormalizer(clean_text=True, **options)
        tables[f"words_{name}"] = bert_texts.page_digests(
            lambda texts, n=normalizer: [words(n, text) for text in texts]
        )
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    np.savez_compressed(bert_texts.TEXT, versions=np.array(versions), **tables)
    print(f"{bert_texts.TEXT}: {bert_texts.TEXT.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
