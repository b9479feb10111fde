"""Explains `.tflite` files, which have no gradients, and attention maps only if they were exported with them."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from tfvl.answers.rows import ANSWER_SCORES, HEADS
from tfvl.explanations.chosen import choose
from tfvl.explanations.explainer import Explainer
from tfvl.explanations.maps import passes_of_names
from tfvl.explanations.scores import scores_of_passes
from tfvl.lite.inputs import locate
from tfvl.lite.runner import Runner
from tfvl.vilt.config import ViltConfig
from tfvl.visual_bert.heads import VisualBertForQuestionAnswering


class LiteExplainer(Explainer):
    """Explains the answers of a `.tflite` file, given as its `Runner`; there is no processor."""

    model: Runner

    def __post_init__(self):
        runner, description = self.model, self.model.file.description
        self.name, self.head, self.words = str(runner.file.path), runner.head, runner.words
        if "input_ids" not in runner.inputs:
            raise ValueError(f"{self.name} takes the raw text; export it with the flavour tensors to explain it")
        self.has_maps = bool(passes_of_names(dict.fromkeys(description["outputs"])))
        self.check_method(("rollout", "attention", "occlusion") if self.has_maps else ("occlusion",))
        family = description["config"].get("model_type")
        config = ViltConfig.from_dict(description["config"]) if family == "vilt" else None
        # stands in for a model: it has the attributes that `scores` reads; files keep all padding
        self.form = SimpleNamespace(
            base_model_prefix=family, config=config, embeddings=SimpleNamespace(static_shapes=True)
        )
        self.patch = config and config.patch_shape
        tokenizer = runner.tokenizer
        self.special = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id}
        self.answers_questions = ANSWER_SCORES in description["outputs"]

    def takes(self, visual):
        return self.model.takes

    def regions_of(self, request):
        return list(request.visuals) if self.model.takes.visual == "regions" else []

    def inputs_of(self, request, regions):
        more = {name: [list(getattr(request, name))] for name in ("choices", "phrases") if name in self.head.reads}
        seen = {self.model.takes.visual: [list(request.visuals)]}
        _, prepared = self.model.prepare(text=request.text, **seen, **more)
        inputs = {name: rows[0][None] for name, rows in prepared.items()}
        if "pixel_values" in inputs and "pixel_mask" not in inputs:  # all images have the file's size
            inputs["pixel_mask"] = np.ones(inputs["pixel_values"].shape[:-1], np.int32)
        return inputs

    def pieces_of(self, word, ids):
        return locate(word, ids.tolist(), self.model.tokenizer), len(self.model.tokenizer(word))

    def choose(self, inputs, number, place):
        given = {name: list(np.asarray(inputs[name])) for name in self.model.inputs}
        found = [{name: values[row] for name, values in each.items()} for each, row in self.rows(given)]
        outputs = {name: tf.constant(np.stack([each[name] for each in found])) for name in found[0]}
        targets = (tf.fill([len(found)], each) for each in (number, place))
        reader = VisualBertForQuestionAnswering if self.head is HEADS["VisualBertForQuestionAnswering"] else None
        return choose(reader, self.head, outputs, inputs, self.words, *targets), outputs

    def rows(self, given):
        return zip(*self.model.outputs(given), strict=True)

    def of_maps(self, inputs, number, place, word):
        chosen, outputs = self.choose(inputs, number, place)
        passes = passes_of_names(outputs)
        scores = scores_of_passes(self.form, inputs, chosen, passes, self.method, self.layer, self.attention_head)
        return chosen, scores, outputs
