"""Every maker of fields: what passes, what does not, and the sentence that says so."""

import dataclasses

import pytest

from tfvl.modeling import fields

NO_NUMBERS = (True, "1", None, float("nan"), float("inf"), 1e31, 10**400)
CASES = {
    "flag": (fields.flag(), (True, False), (0, "no", None), "true or false"),
    "optional flag": (fields.flag(None, optional=True), (True, None), (0,), "true or false"),
    "choice": (fields.choice("a", ("a", "b")), ("a", "b"), ("c", None, ["a"]), "one of a, b"),
    "text": (fields.text(), ("a", None), ("", 1), "a text"),
    "size": (fields.size(1, 9), (1, 9), (0, 10, 1.0, True, "1", None), "an integer in 1…9"),
    "limit": (fields.limit(-1), (-1, 1, 2**24), (0, -2, 2**24 + 1), "-1 or an integer in 1…16777216"),
    "side": (fields.side(1), (3, (3, 4), [3, 4]), (0, (3,), (3, 0), "34"), "an integer in 1…16777216, or two"),
    "count": (fields.count(3, 3), (3, 10**9), (2, 3.0, True, None), "a whole number from 3 on"),
    "optional count": (fields.count(None, optional=True), (1, None), (0,), "a whole number from 1 on"),
    "number": (fields.number(0, 0), (0, 0.5, 1e30), (-0.1, *NO_NUMBERS), "a number from 0 on"),
    "positive": (fields.positive(1), (1e-9, 2), (0, -1, *NO_NUMBERS), "a finite number above 0"),
    "probability": (fields.probability(0), (0, 0.99), (1, -0.1, *NO_NUMBERS), "a number in [0, 1)"),
    "share": (fields.share(1), (0.01, 1), (0, 1.01, *NO_NUMBERS), "a number in (0, 1]"),
    "numbers": (fields.numbers((1,), "numbers", fields.is_number), ((1, 2.5), [1] * 64), ((), [1] * 65, 1), "numbers"),
    "two": (fields.numbers((1, 1), "two", fields.is_share, 2), ((1, 0.5),), ((1,), (1, 2), *NO_NUMBERS), "two"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_passes_and_what_does_not(case):
    field, good, bad, expected = CASES[case]
    config = dataclasses.make_dataclass("Config", [("value", object, field)])
    for value in good:
        fields.check_fields(config(value))
    for value in bad:
        with pytest.raises(ValueError, match=r"^the field value is ") as caught:
            fields.check_fields(config(value), "the field ")
        assert f"expected {expected}" in str(caught.value)


def test_the_sentence_names_the_class_and_the_first_wrong_field():
    config = dataclasses.make_dataclass("Config", [("a", object, fields.size(1)), ("b", object, fields.size(0))])
    with pytest.raises(ValueError, match=r"^Config\.b is 0, expected an integer in 1…16777216\.$"):
        fields.check_fields(config())
