"""Which words and regions pre-training hides, what it shows in their place, and that each draw can be repeated."""

import numpy as np
import pytest

from tfvl.modeling.losses import IGNORED
from tfvl.preprocessing.regions.regions import Regions
from tfvl.training.data.masking import WordMasker, draw_other, example_generator, mask_regions

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] em ##bed ##ding ##s cat dog sits the on a".split()
IDS = {word: place for place, word in enumerate(WORDS)}
PAD, CLS, SEP, MASK = (IDS[f"[{name}]"] for name in ("PAD", "CLS", "SEP", "MASK"))
SENTENCE = "[CLS] the em ##bed ##ding ##s sits on a cat [SEP] [PAD] [PAD]"
# Five standard deviations of a share of n draws with probability p: sqrt(p (1 - p) / n) · 5.
DRAWS = 4000


def within(share: float, expected: float, draws: int) -> bool:
    return abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)


def ids_of(text: str) -> np.ndarray:
    return np.array([IDS[word] for word in text.split()], np.int32)


def masker(**options) -> WordMasker:
    return WordMasker(WORDS, (PAD, CLS, SEP, MASK), MASK, **options)


def generator(example: int, epoch: int = 0, seed: int = 0, purpose: str = "words") -> np.random.Generator:
    return example_generator(seed, epoch, example, purpose)


def test_a_draw_belongs_to_seed_epoch_example_and_purpose():
    first = generator(3, 1, 2).random(4)
    np.testing.assert_array_equal(generator(3, 1, 2).random(4), first)
    others = [
        generator(4, 1, 2),
        generator(3, 2, 2),
        generator(3, 1, 3),
        generator(3, 1, 2, "regions"),
        generator(1, 3, 2),
    ]
    for other in others:
        assert not np.any(other.random(4) == first)


def test_labels_are_the_hidden_tokens():
    ids = ids_of(SENTENCE)
    for example in range(200):
        shown, labels = masker(rate=0.4)(ids, generator(example))
        assert shown.dtype == labels.dtype == np.int32
        hidden = labels != IGNORED
        np.testing.assert_array_equal(labels[hidden], ids[hidden])
        np.testing.assert_array_equal(shown[~hidden], ids[~hidden])
        assert not hidden[[0, 10, 11, 12]].any()  # [CLS], [SEP] and padding
    np.testing.assert_array_equal(ids, ids_of(SENTENCE))


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_shares_of_tokens(rate):
    """15 % are hidden; of these 80 % are [MASK], 10 % another token, 10 % the same one."""
    ids = np.full(DRAWS, IDS["cat"], np.int32)
    shown, labels = masker(rate=rate)(ids, generator(0))
    hidden = labels != IGNORED
    count = int(hidden.sum())
    assert within(count / DRAWS, rate, DRAWS)
    assert within(np.mean(shown[hidden] == MASK), 0.8 + 0.1 / len(WORDS), count)  # a random token may be [MASK] too
    assert within(np.mean(shown[hidden] == IDS["cat"]), 0.1 + 0.1 / len(WORDS), count)
    assert len(set(shown[hidden])) > len(WORDS) // 2


def test_whole_words_are_hidden_whole():
    ids = ids_of(SENTENCE)  # 9 tokens in 6 words, one of them of 4 tokens
    counts = dict.fromkeys((True, False), 0)
    for example in range(300):
        _, labels = masker(rate=0.45, whole_words=True)(ids, generator(example))
        hidden = labels != IGNORED
        pieces = hidden[2:6]
        assert pieces.all() or not pieces.any()
        counts[bool(pieces.all())] += 1
        assert 3 <= hidden.sum() <= 4  # round(9 · 0.45) = 4, or 3 where the long word no longer fits
    assert min(counts.values()) > 50


def test_at_least_one_word_is_hidden():
    for example in range(50):
        _, labels = masker(rate=0.05, whole_words=True)(ids_of("[CLS] em ##bed ##ding [SEP]"), generator(example))
        assert (labels != IGNORED).sum() == 3
    shown, labels = masker(whole_words=True)(ids_of("[CLS] [SEP]"), generator(0))
    assert (labels == IGNORED).all()
    np.testing.assert_array_equal(shown, ids_of("[CLS] [SEP]"))


def test_a_text_that_begins_with_a_piece():
    """As a second text that was cut off: its first piece counts as the beginning of a word."""
    ids, hide = ids_of("##bed ##ding cat"), masker(rate=0.3, whole_words=True)
    hidden = {tuple((hide(ids, generator(example))[1] != IGNORED).tolist()) for example in range(30)}
    assert hidden == {(True, True, False), (False, False, True)}


def test_the_masker_of_a_tokenizer():
    from tfvl.preprocessing.text.tokenizer import BertTokenizer

    made = WordMasker.from_tokenizer(BertTokenizer(WORDS))
    assert (made.size, made.mask_id) == (len(WORDS), MASK)
    assert [WORDS[place] for place in np.flatnonzero(made.special)] == ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert [WORDS[place] for place in np.flatnonzero(made.continues)] == ["##bed", "##ding", "##s"]


def test_a_rate_that_is_no_share():
    with pytest.raises(ValueError, match=r"rate is 15, expected a share of the tokens between 0 and 1\."):
        masker(rate=15)


# --- regions --------------------------------------------------------------------------------------------------------


def regions(count: int, **changes) -> Regions:
    numbers = np.arange(count)
    fields = {
        "features": np.tile(numbers[:, None] + 1.0, (1, 3)),
        "objects_id": numbers % 7,
        "objects_conf": numbers / count,
        "attrs_id": numbers % 5,
        "attrs_conf": 1 - numbers / count,
    }
    return Regions(**fields | changes)


def test_shares_of_regions_and_their_labels():
    original = regions(DRAWS)
    masked = mask_regions(original, generator(0), lambda _: np.float32([-1, -2, -3]))
    label, hidden = masked.obj_labels["feat"]
    np.testing.assert_array_equal(label, original.features)
    assert set(np.unique(hidden)) == {0.0, 1.0}
    hidden = hidden == 1
    count = int(hidden.sum())
    assert within(count / DRAWS, 0.15, DRAWS)
    np.testing.assert_array_equal(masked.features[~hidden], original.features[~hidden])
    assert within(np.mean((masked.features[hidden] == 0).all(axis=1)), 0.8, count)
    assert within(np.mean((masked.features[hidden] == [-1, -2, -3]).all(axis=1)), 0.1, count)
    assert within(np.mean((masked.features[hidden] == original.features[hidden]).all(axis=1)), 0.1, count)
    for name, ids, confidences in (("obj", "objects_id", "objects_conf"), ("attr", "attrs_id", "attrs_conf")):
        np.testing.assert_array_equal(masked.obj_labels[name][0], getattr(original, ids))
        np.testing.assert_array_equal(masked.obj_labels[name][1], getattr(original, confidences))
    assert original.features[0, 0] == 1  # the store's own arrays stay as they are
    assert original.features.min() > 0


def test_regions_without_attributes_are_refused():
    with pytest.raises(ValueError, match="image 'x' has no attrs_conf, which LXMERT is pre-trained with"):
        mask_regions(regions(4, attrs_conf=None, image_id="x"), generator(0), lambda _: np.zeros(3))


# --- texts of other images ------------------------------------------------------------------------------------------


def test_negatives_are_of_other_images_and_all_of_them_occur():
    images = np.repeat(np.arange(4), 3)
    drawn = np.concatenate([draw_other(images, 4, generator(example), 15) for example in range(40)])
    assert set(drawn.tolist()) == {0, 1, 2, *range(6, 12)}
    assert draw_other(images, 4, generator(0)).shape == (1,)


def test_negatives_need_other_images():
    with pytest.raises(ValueError, match="almost all examples are of one image"):
        draw_other(np.zeros(5, int), 0, generator(0))
