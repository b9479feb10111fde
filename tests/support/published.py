"""Small copies of the published checkpoints `dandelin/vilt-*`, `uclanlp/visualbert-*`, `unc-nlp/lxmert-*-uncased`.

They have the names and shapes of transformers' state dicts, what each repository's files hold beyond them, and the
fields of the repositories' configurations; but they are only 24 wide.
"""

import json
from pathlib import Path

import numpy as np

from support.originals import write_torch
from support.paths import GOLDEN

WORDS = {"visual_bert": "visual_bert.embeddings.word_embeddings.weight"}
WORDS["lxmert"] = "lxmert.embeddings.word_embeddings.weight"


def visual_bert(architecture: str, features: int, labels: int | None = None, scores: int | None = None) -> dict:
    """Describes one: `pad_token_id` 1 and other ids are upstream's defaults; `id2label` has more than two labels."""
    config = {
        "architectures": [architecture],
        "model_type": "visual_bert",
        "transformers_version": "4.6.0.dev0",
        **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        **{"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
        **{"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 37},
        **{"visual_embedding_dim": features, "bypass_transformer": False, "special_visual_initialize": True},
        **{"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        **{"initializer_range": 0.02, "layer_norm_eps": 1e-12},
    }
    if labels:
        config["id2label"] = {str(index): f"LABEL_{index}" for index in range(labels)}
        config["label2id"] = {f"LABEL_{index}": index for index in range(labels)}
    sizes = {131: 30522, 19: features, 13: 512, 3: 2, 5: scores or labels or 2}
    return {"config": config, "family": "visual_bert", "sizes": sizes, "copies": {"position_ids", "decoder.bias"}}


def lxmert(architecture: str, answers: int) -> dict:
    """Describes one: no `id2label`, and the layer counts a second time, as a dict that upstream never reads."""
    config = {
        "architectures": [architecture],
        "model_type": "lxmert",
        **{"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
        **{"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 37},
        **{"l_layers": 3, "x_layers": 2, "r_layers": 4},
        "num_hidden_layers": {"cross_encoder": 2, "language": 3, "vision": 4},
        **{"num_qa_labels": answers, "num_object_labels": 1600, "num_attr_labels": 400},
        **{"visual_feat_dim": 2048, "visual_pos_dim": 4, "visual_loss_normalizer": 6.67},
        **{"task_mask_lm": True, "task_matched": True, "task_obj_predict": True, "task_qa": True},
        **{"visual_obj_loss": True, "visual_attr_loss": True, "visual_feat_loss": True},
        **{"hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        **{"initializer_range": 0.02, "layer_norm_eps": 1e-12, "return_dict": False, "use_cache": False},
    }
    sizes = {131: 30522, 13: 512, 3: 2, 5: 4, 19: 2048, 11: answers, 9: 1600, 6: 400}
    return {"config": config, "family": "lxmert", "sizes": sizes, "copies": set()}


def vilt(matching: bool) -> dict:
    """Describes one: images of 48 and patches of 8, as the golden models (on the hub 384 and 32), for their shapes."""
    config = {
        "architectures": ["ViltForMaskedLM"],
        "model_type": "vilt",
        **{"vocab_size": 30522, "max_position_embeddings": 40, "type_vocab_size": 2, "modality_type_vocab_size": 2},
        **{"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 37},
        **{"image_size": 48, "patch_size": 8, "num_channels": 3, "qkv_bias": True, "max_image_length": -1},
        **{"num_images": -1, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        **{"initializer_range": 0.02, "layer_norm_eps": 1e-12, "tie_word_embeddings": False},
        "transformers_version": "4.17.0.dev0",
    }
    copies = {"itm_score"} if matching else set()
    return {"config": config, "family": "vilt", "sizes": {131: 30522, 13: 40}, "copies": copies}


PRE = "VisualBertForPreTraining"
CHECKPOINTS = {
    "uclanlp/visualbert-vqa": visual_bert("VisualBertForQuestionAnswering", 2048, labels=3129),
    "uclanlp/visualbert-vqa-pre": visual_bert(PRE, 2048),
    "uclanlp/visualbert-vqa-coco-pre": visual_bert(PRE, 2048),
    "uclanlp/visualbert-nlvr2": visual_bert("VisualBertForVisualReasoning", 1024),
    "uclanlp/visualbert-nlvr2-pre": visual_bert(PRE, 1024),
    "uclanlp/visualbert-nlvr2-coco-pre": visual_bert(PRE, 1024),
    "uclanlp/visualbert-vcr": visual_bert("VisualBertForMultipleChoice", 512, scores=1),
    "uclanlp/visualbert-vcr-pre": visual_bert(PRE, 512),
    "uclanlp/visualbert-vcr-coco-pre": visual_bert(PRE, 512),
    "unc-nlp/lxmert-base-uncased": lxmert("LxmertForPreTraining", 9500),
    "unc-nlp/lxmert-vqa-uncased": lxmert("LxmertForQuestionAnswering", 3129),
    "unc-nlp/lxmert-gqa-uncased": lxmert("LxmertForQuestionAnswering", 1842),
}


VILT = {"dandelin/vilt-b32-mlm": vilt(matching=False), "dandelin/vilt-b32-mlm-itm": vilt(matching=True)}


def config_of(name: str, **changes) -> dict:
    """Returns the content of the repository's config.json."""
    return (CHECKPOINTS | VILT)[name]["config"] | changes


def state_of(name: str, features: int | None = None) -> dict[str, np.ndarray]:
    """Returns the file's tensors by name, with region features of another size if that is given."""
    checkpoint = (CHECKPOINTS | VILT)[name]
    (architecture,) = checkpoint["config"]["architectures"]
    shapes = json.loads((GOLDEN / f"{checkpoint['family']}_state_dicts.json").read_text())[architecture]
    if architecture == "VisualBertForMultipleChoice":  # one score for each choice
        shapes |= {"cls.weight": [1, 24], "cls.bias": [1]}
    if checkpoint["family"] == "vilt":  # two types of each kind, and three channels
        shapes |= {key: [2, *shape[1:]] for key, shape in shapes.items() if "token_type_embeddings" in key}
    sizes = checkpoint["sizes"] | ({19: features} if features else {})
    rng = np.random.default_rng(0)
    state = {
        key: rng.normal(size=[sizes.get(size, size) for size in shape]).astype("f4") for key, shape in shapes.items()
    }
    return state | _copies(state, checkpoint["copies"], checkpoint["family"], rng)


def _copies(state: dict, copies: set[str], family: str, rng) -> dict[str, np.ndarray]:
    """Returns what the files hold beyond a state dict of today."""
    more = {}
    if family == "vilt":
        more["vilt.embeddings.text_embeddings.position_ids"] = np.arange(40)[None]
        more["mlm_score.decoder.weight"] = state["vilt.embeddings.text_embeddings.word_embeddings.weight"]
        more["mlm_score.bias"] = state["mlm_score.decoder.bias"]
        if "itm_score" in copies:
            more["itm_score.fc.weight"], more["itm_score.fc.bias"] = (
                rng.normal(size=shape).astype("f4") for shape in ((2, 24), (2,))
            )
        return more
    if "cls.predictions.bias" in state:  # a tied weight lies in PyTorch's files twice
        more["cls.predictions.decoder.weight"] = state[WORDS[family]]
    if "decoder.bias" in copies and "cls.predictions.bias" in state:
        more["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    if "position_ids" in copies:
        more["visual_bert.embeddings.position_ids"] = np.arange(512)[None]
    return more


def write_repository(directory: Path, name: str, features: int | None = None) -> Path:
    """Writes the repository's config.json and pytorch_model.bin into a directory."""
    field = {"visual_bert": "visual_embedding_dim", "lxmert": "visual_feat_dim"}.get(family_of(name))
    config = config_of(name, **({field: features} if features else {}))
    (directory / "config.json").write_text(json.dumps(config))
    write_torch(directory / "pytorch_model.bin", state_of(name, features), legacy=name.startswith("unc"))
    return directory


def family_of(name: str) -> str:
    return (CHECKPOINTS | VILT)[name]["family"]
