"""The text normalisation of the official VQA evaluator, rule by rule (github.com/GT-Vision-Lab/VQA, `vqaEval.py`).

The code keeps every quirk of the evaluator's, because answers that it takes for equal must be equal here; comments name
them.
"""

import re

NUMBERS = "none zero one two three four five six seven eight nine ten".split()
NUMBER_WORDS = {word: str(max(place - 1, 0)) for place, word in enumerate(NUMBERS)}  # "none" is 0 as well
ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')

# The evaluator spells out, for each of these, how it is written with any one of its apostrophes missing: "dont",
# "couldnt've" and "couldn'tve" but not "couldntve". Forms that its table lacks ("she'll", "we'd") are not repaired.
CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in CONTRACTED for place, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}  # the evaluator's table has this pair the wrong way round

DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
MAX_PERIODS = 32  # the evaluator passes re.UNICODE where `sub` takes the number of replacements


def without_punctuation(text: str) -> str:
    """Removes each punctuation mark that occurs beside a space, and replaces the others by spaces.

    If the text has a comma between digits, all marks are removed. A period stays only before a digit.
    """
    number = DIGITS_AROUND_COMMA.search(text) is not None
    kept = text
    for mark in PUNCTUATION:
        beside_space = mark + " " in text or " " + mark in text
        kept = kept.replace(mark, "" if beside_space or number else " ")
    return PERIOD.sub("", kept, count=MAX_PERIODS)


def without_articles(text: str) -> str:
    """Lower-cases a text, turns number words into digits, drops articles, and restores apostrophes of contractions."""
    words = (NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def on_one_line(text: str) -> str:
    """Turns newlines and tabs into spaces, and strips the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalize_answer(text: str) -> str:
    """Normalises an answer as the evaluator does if annotators disagree, and as the papers' vocabularies do."""
    return without_articles(without_punctuation(on_one_line(text)))
