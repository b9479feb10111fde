"""Hides words and regions for pre-training, and draws examples of other images whose texts are swapped in.

Each (seed, epoch, example) has a random generator of its own, so that a choice depends neither on the batch nor on what
was drawn before, and training that was interrupted goes on with the same masks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfvl.modeling.losses import IGNORED

WORD_RATE = REGION_RATE = 0.15
SHOWN_MASKED, SHOWN_RANDOM = 0.8, 0.1  # of hidden words become [MASK], a random word; the rest stay (BERT, section 3.1)


def example_generator(seed: int, epoch: int, example: int, purpose: str) -> np.random.Generator:
    """Returns the generator for one example in one epoch; another `purpose` (words, regions, …) gets another one."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, example, *purpose.encode()))))


class WordMasker:
    """Hides tokens for masked language modelling, and chooses the tokens that replace them.

    Args:
        vocabulary: the tokens in the order of their ids.
        special_ids: tokens that are never hidden ([CLS], [SEP], [PAD]).
        mask_id: the id of [MASK].
        rate: the share of tokens to be hidden.
        whole_words: whether words are hidden with all of their pieces, as ViLT does: words are drawn as long as they
            fit into `rate` of the tokens, and at least one. Else each token is drawn on its own, as LXMERT and
            VisualBERT do.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        special_ids: Sequence[int],
        mask_id: int,
        rate: float = WORD_RATE,
        whole_words: bool = False,
    ):
        if not 0 < rate < 1:
            raise ValueError(f"rate is {rate}, expected a share of the tokens between 0 and 1.")
        self.size, self.mask_id, self.rate, self.whole_words = len(vocabulary), mask_id, rate, whole_words
        self.continues = np.array([token.startswith("##") for token in vocabulary])
        self.special = np.zeros(len(vocabulary), bool)
        self.special[list(special_ids)] = True

    @classmethod
    def from_tokenizer(cls, tokenizer, whole_words: bool = False) -> "WordMasker":
        """Makes the masker of a `BertTokenizer`; of its special tokens, only the unknown token is ever hidden."""
        vocab = tokenizer.get_vocab()
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        return cls(sorted(vocab, key=vocab.get), sorted(special), tokenizer.mask_token_id, whole_words=whole_words)

    def __call__(self, ids: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Hides tokens of one text.

        Args:
            ids: int (length,), with special tokens and padding.
            generator: from `example_generator`.

        Returns:
            The ids that the model sees, and the labels, int32 (length,): the hidden token's id, -100 elsewhere.
        """
        ids = np.asarray(ids, np.int32)
        places = np.flatnonzero(~self.special[ids])
        hidden = self._words(ids, places, generator) if self.whole_words else self._tokens(places, generator)
        shown, labels = ids.copy(), np.full_like(ids, IGNORED)
        labels[hidden] = ids[hidden]
        kinds = generator.random(len(hidden))
        others = generator.integers(self.size, size=len(hidden))
        masked, random = kinds < SHOWN_MASKED, (kinds >= SHOWN_MASKED) & (kinds < SHOWN_MASKED + SHOWN_RANDOM)
        shown[hidden[masked]] = self.mask_id
        shown[hidden[random]] = others[random]
        return shown, labels

    def _tokens(self, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return places[generator.random(len(places)) < self.rate]

    def _words(self, ids: np.ndarray, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        if not len(places):
            return places
        starts = ~self.continues[ids[places]]
        starts[0] = True
        words = np.split(places, np.flatnonzero(starts)[1:])
        wanted = max(1, round(len(places) * self.rate))
        hidden: list[int] = []
        for number in generator.permutation(len(words)):
            if not hidden or len(hidden) + len(words[number]) <= wanted:
                hidden.extend(words[number].tolist())
        return np.array(hidden, np.int64)


class MaskedRegions(NamedTuple):
    """Regions of which some are hidden, and the labels of `LxmertForPreTraining` for them.

    Attributes:
        features: float32 (regions, feature_size), those that the model sees.
        obj_labels: for each loss, by name, a pair of labels, (regions,) or (regions, feature_size), and confidences.
    """

    features: np.ndarray
    obj_labels: dict[str, tuple[np.ndarray, np.ndarray]]


def mask_regions(
    regions,
    generator: np.random.Generator,
    random_feature: Callable[[np.random.Generator], np.ndarray],
) -> MaskedRegions:
    """Hides regions as LXMERT does: 80 % become zeros, 10 % get another region's features, 10 % stay as they are.

    As in LXMERT's code, the detector's objects and attributes are labels of every region, weighted by the detector's
    confidence, and the features are labels of the hidden regions only (their confidence is 1 there and 0 elsewhere).

    Args:
        regions: a `Regions` with objects_id, objects_conf, attrs_id and attrs_conf.
        generator: from `example_generator`.
        random_feature: a function that returns the features (feature_size,) of a random region.

    Raises:
        ValueError: the regions come without objects or attributes.
    """
    for name in ("objects_id", "objects_conf", "attrs_id", "attrs_conf"):
        if getattr(regions, name) is None:
            raise ValueError(f"image {regions.image_id!r} has no {name}, which LXMERT is pre-trained with.")
    hidden = generator.random(len(regions)) < REGION_RATE
    kinds = generator.random(len(regions))
    features = np.array(regions.features, np.float32)
    features[hidden & (kinds < SHOWN_MASKED)] = 0.0
    for place in np.flatnonzero(hidden & (kinds >= SHOWN_MASKED) & (kinds < SHOWN_MASKED + SHOWN_RANDOM)):
        features[place] = random_feature(generator)
    labels = {
        "obj": (regions.objects_id, regions.objects_conf),
        "attr": (regions.attrs_id, regions.attrs_conf),
        "feat": (np.array(regions.features, np.float32), hidden.astype(np.float32)),
    }
    return MaskedRegions(features, labels)


def draw_other(images: np.ndarray, example: int, generator: np.random.Generator, count: int = 1) -> np.ndarray:
    """Draws the indices of `count` examples, with repetitions, whose image is not that of `example`.

    Args:
        images: int (examples,), the number of each example's image.
        example: index of the example.
        generator: from `example_generator`.
        count: the number of examples to draw.

    Raises:
        ValueError: hardly any example has another image.
    """
    chosen: list[int] = []
    for _ in range(100 * count):
        place = int(generator.integers(len(images)))
        if images[place] != images[example]:
            chosen.append(place)
            if len(chosen) == count:
                return np.array(chosen)
    raise ValueError("almost all examples are of one image; texts of other images are needed as negatives.")
