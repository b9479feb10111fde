"""Changed files of every kind: no process ends, hangs or swells, no value is wrong, and each sentence names the file.

TFVL_FUZZ=20000 python -m pytest tests/fuzz/test_fuzz.py
"""

import os

import pytest
from support.fuzz import Fuzzer

FILES = int(os.environ.get("TFVL_FUZZ", "500"))
IN_A_TEST = 100
# Kinds and numbers of files that once were read wrongly.
KEPT = (
    ("GIF", 865),
    ("GIF", 1670),
    ("vocabulary", 1691),
    ("tokenizer.json", 2987),
    ("prepared", 3099),
    ("lite", 3639),
    ("SavedModel saved_model.pb", 9607),
    ("prepared", 9611),
)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    fuzzer = Fuzzer(tmp_path_factory.mktemp("fuzz"))
    yield fuzzer
    fuzzer.close()


@pytest.mark.parametrize("start", range(0, FILES, IN_A_TEST))
def test_changed_files_are_read_right_or_refused(fuzzer, start):
    fuzzer.report.wrong.clear()
    for place in range(start, min(start + IN_A_TEST, FILES)):
        fuzzer.run(place)
    assert not fuzzer.report.wrong


@pytest.mark.parametrize(("kind", "place"), KEPT)
def test_files_that_were_once_read_wrongly(fuzzer, kind, place):
    fuzzer.report.wrong.clear()
    fuzzer.run(place, kind)
    assert not fuzzer.report.wrong
