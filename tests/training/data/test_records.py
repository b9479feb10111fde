"""Records of other forms than the published ones: skipped and counted, or refused with a sentence."""

import pytest
from support import datasets

from tfvl.training.data.examples import Report
from tfvl.training.tasks.nlvr2 import Nlvr2


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 9, cannot be used: it is not valid JSON"),
        ("[1]", "line 9, cannot be used: list indices"),
        (
            '{"identifier": "dev-0-0-0", "sentence": "a", "label": "maybe"}',
            "line 9, .*'maybe' is neither True nor False",
        ),
        ('{"identifier": 7, "sentence": "a"}', "line 9, .*7 is no text"),
        (r'{"identifier": "dev-0-0-0", "sentence": "a \ud83d"}', "line 9, .*holds half a surrogate pair"),
    ],
)
def test_bad_lines(tmp_path, line, sentence):
    path = datasets.write_nlvr2(tmp_path)
    path.write_text(f"{path.read_text()}{line}\n\n")
    report = Report()
    assert len(list(Nlvr2().read(tmp_path, "dev", report))) == 8
    assert report.counts == {"malformed records": 1}
    with pytest.raises(ValueError, match=sentence):
        list(Nlvr2().read(tmp_path, "dev", Report(strict=True)))
