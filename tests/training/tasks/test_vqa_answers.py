"""The VQA evaluator's text rules, case by case."""

import pytest

from tfvl.training.tasks.vqa_answers import CONTRACTIONS, normalize_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Dog", "dog"),
        ("the  two\tdogs\n", "2 dogs"),
        ("none", "0"),
        ("zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("DONT", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldntve", "couldntve"),  # with both apostrophes missing the evaluator does not know it
        ("shell", "shell"),  # she'll is not in its table
        ("somebody'd", "somebodyd"),  # the table's own mistake
        ("let's", "let's"),
        ("twas", "'twas"),
        ("red/white", "red white"),  # a mark becomes a space …
        ("red / white", "red white"),  # … or vanishes beside one
        ("red/ white/blue", "red whiteblue"),  # and then all of its kind vanish
        ("black-and-white", "black and white"),
        ("yes!", "yes"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # a comma between digits makes every mark vanish
        ("red,white", "red white"),
        ("3.5", "3.5"),
        ("no.", "no"),
        ("u.s.a.", "usa"),
        ("v.2", "v.2"),
        ("$5:30", "$5:30"),  # neither : nor ' nor $ is a mark
        ("what's", "what's"),
        ("one.", "1"),  # marks go first, so that "one" is a word by then
        ("an a the", ""),
    ],
)
def test_answers_are_normalised_as_the_evaluator_does(text, expected):
    assert normalize_answer(text) == expected


def test_only_thirty_two_periods_go():
    """The evaluator passes re.UNICODE, which is 32, as the number of replacements."""
    assert normalize_answer("." * 40) == "." * 8


def test_contractions_lack_one_apostrophe_each():
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["yall'd've"] == CONTRACTIONS["y'alld've"] == CONTRACTIONS["y'all'dve"] == "y'all'd've"
