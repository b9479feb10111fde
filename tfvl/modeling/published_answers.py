"""The answers of published question answering heads, whose `config.json` only has LABEL_0, LABEL_1, …

The lists are in `tfvl/bundled/answers`; the README there says where they come from. VisualBERT has the same answers
as LXMERT in another order: its authors trained with Pythia's `answers_vqa.txt`, LXMERT's with a list of their own.
"""

import json

from tfvl.modeling.configuration import Config, is_placeholder
from tfvl.porting.hub import BUNDLED_DIRECTORY

# the list of answers, by the class of the model and its number of answers
LISTS = {
    ("VisualBertForQuestionAnswering", 3129): "visual_bert_vqa",  # uclanlp/visualbert-vqa, vqa_fine_tuned.th
    ("LxmertForQuestionAnswering", 3129): "lxmert_vqa",  # unc-nlp/lxmert-vqa-uncased
    ("LxmertForQuestionAnswering", 1842): "lxmert_gqa",  # unc-nlp/lxmert-gqa-uncased
}


def with_answers(config: Config, architecture: str) -> Config:
    """Returns `config` with the answers of the published head of this class and size, unless it has answers itself.

    Args:
        config: the configuration of a checkpoint that holds the head's weights.
        architecture: name of the model class that they are loaded into.
    """
    name = LISTS.get((architecture, len(config.answer_names)))
    if name is None or not is_placeholder(config.id2label.values()):
        return config
    answers = json.loads((BUNDLED_DIRECTORY / "answers" / f"{name}.json").read_text(encoding="utf-8"))
    return config.replace(**config.answer_fields(answers))
