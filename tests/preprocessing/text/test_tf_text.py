"""Where tensorflow-text is missing, as on Windows, one sentence says so."""

import subprocess
import sys

from support.paths import ROOT


def test_a_missing_library_is_one_sentence():
    code = (
        "import sys; sys.modules['tensorflow_text'] = None\n"
        "from tfvl.cli.app import main\n"
        "sys.exit(main(['ask', '.github/explanation_vilt.png', 'what?']))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("tfvl: tensorflow-text, which the tokenizer runs on, is not")
    assert "there is none for Windows: take Linux, macOS or WSL" in result.stderr
    assert "Traceback" not in result.stderr
