"""Writes tests/golden/tokenizer_files.json: what transformers reads in the files of support/tokenizer_files.py.

Run where transformers is installed: python tools/golden/tokenizer_files.py
"""

import json
import sys
import tempfile
from pathlib import Path

import tokenizers
import transformers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import tokenizer_files as helpers  # noqa: E402


def main() -> None:
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, files) in enumerate(helpers.CASES.items()):
            directory = helpers.write(Path(folder) / str(number), files)
            cases[name] = helpers.told(transformers.BertTokenizer.from_pretrained(directory))
    lines = (f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items())
    helpers.FILE.write_text(f'{{"versions": "{versions}",\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n")
    print(f"{helpers.FILE}: {helpers.FILE.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
