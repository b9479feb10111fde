"""Writes tests/golden/added_tokens.json: what transformers' BertTokenizer makes of `CASES` in support/added_tokens.py.

Run where transformers is installed: python tools/golden/added_tokens.py
"""

import json
import sys
from pathlib import Path

import tokenizers
import transformers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import added_tokens as helpers  # noqa: E402


def main() -> None:
    versions = f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    cases = {name: helpers.told(helpers.theirs(case)) for name, case in helpers.CASES.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=False)}" for name, case in cases.items())
    helpers.FILE.write_text(f'{{"versions": "{versions}",\n"cases": {{\n' + ",\n".join(lines) + "\n}}\n")
    print(f"{helpers.FILE}: {helpers.FILE.stat().st_size} bytes, {versions}")


if __name__ == "__main__":
    main()
