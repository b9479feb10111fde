"""What exported LXMERT models take and answer (see `tfvl.export`)."""

import tensorflow as tf

from tfvl.export.heads import Head, best_labels, fill_masks, pooled
from tfvl.export.inputs import Inputs, checked_text, example_text, spec, text_specs, tokenize
from tfvl.export.regions import region_inputs
from tfvl.export.rows import first_problem, only


def text_regions_and_boxes(model, processor) -> Inputs:
    """`text` (N,) UTF-8; with a detector `image` (N,) encoded files, else `regions` (N, R, size) features and `boxes`
    (N, R, 4), the corners x1, y1, x2, y2 in 0 … 1.

    A region whose features are all 0 is padding, for rows with fewer than R.
    """
    config = model.config
    if config.visual_pos_dim != 4:
        raise ValueError(
            f"config.visual_pos_dim is {config.visual_pos_dim}; an exported model takes boxes, of 4 numbers"
        )
    visual = region_inputs(processor, config.visual_feat_dim, boxes=True)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        features, mask, boxes, status = visual.encode(raw)
        text, text_status = checked_text(raw["text"])
        regions = {"visual_feats": features, "visual_pos": boxes, "visual_attention_mask": mask}
        return tokenize(processor, config, text) | regions, first_problem(status, text_status)

    return Inputs(
        raw={"text": spec(tf.string, "text"), **visual.raw},
        tensors={
            **text_specs(),
            "visual_feats": spec(tf.float32, "visual_feats", None, config.visual_feat_dim),
            "visual_pos": spec(tf.float32, "visual_pos", None, 4),
            "visual_attention_mask": spec(tf.int32, "visual_attention_mask", None),
        },
        encode=encode,
        example={"text": example_text(processor), **visual.example},
    )


def question_answering(outputs, inputs, texts):
    """The `top_k` answers, best first; scores are a softmax: LXMERT trains them with cross-entropy."""
    return best_labels(tf.nn.softmax(outputs["question_answering_score"]), texts)


def pretraining(outputs, inputs, texts):
    """As `fill_masks`, `match` (N), and what the configuration's other tasks predict. A text needs no [MASK].

    `match`: the probability that the text describes the image. `question_answers` and `question_scores` (N, k), where
    `config.task_qa`: as `question_answering` (`answers` and `scores` are those of the first [MASK]). `object_ids` and
    `object_scores`, `attribute_ids` and `attribute_scores` (N, R), where `config.task_obj_predict` and the loss on
    them is on: the best class of each region, from 0, and its softmax; 0 for padding.
    """
    results, _ = fill_masks(outputs["prediction_logits"], inputs, texts)
    results["match"] = tf.nn.softmax(outputs["cross_relationship_score"])[:, 1]
    if "question_answering_score" in outputs:
        answered = question_answering(outputs, inputs, texts)
        results |= {"question_answers": answered["answers"], "question_scores": answered["scores"]}
    for name, output in (("object", "visual_prediction_scores_obj"), ("attribute", "visual_prediction_scores_attr")):
        if output in outputs:
            scores = tf.nn.softmax(outputs[output])  # (N, R, classes)
            best = {"ids": tf.argmax(scores, axis=2, output_type=tf.int32), "scores": tf.reduce_max(scores, axis=2)}
            real = inputs["visual_attention_mask"] > 0
            results |= {f"{name}_{what}": only(real, value) for what, value in best.items()}
    return results


# By class name; a subclass has the head of its nearest base.
HEADS = {
    "LxmertModel": Head(text_regions_and_boxes, pooled),
    "LxmertForPreTraining": Head(text_regions_and_boxes, pretraining),
    "LxmertForQuestionAnswering": Head(text_regions_and_boxes, question_answering),
}
