"""Makes the model from which each training starts: the weights of a trained one, and new ones for its task."""

import numpy as np

import tfvl
from tfvl import auto, shapes


def mlm(settings, processor):
    """Returns a ViLT with the body of one that answers questions; known words keep their embeddings, others are new.

    A start that is pre-trained already is returned as it is.
    """
    if (model_class := auto.find(settings.start).model_class) is tfvl.ViltForPreTraining:
        return model_class.from_pretrained(settings.start), processor
    words = shapes.caption_vocabulary()
    answers = tfvl.ViltForQuestionAnswering.from_pretrained(settings.start)
    config = answers.config.replace(
        vocab_size=len(words), id2label=None, label2id=None, num_labels=None, architectures=()
    )
    model = tfvl.ViltForPreTraining(config)
    trained = {variable.path: variable for variable in answers.vilt.variables}
    for variable in model.vilt.variables:
        old = trained[variable.path]
        if old.shape == variable.shape:
            variable.assign(old.value)
        else:  # the embeddings of words
            variable.assign(np.concatenate([old.numpy(), variable.numpy()[old.shape[0] :]]))
    tokenizer = tfvl.BertTokenizer(list(words), model_max_length=processor.tokenizer.model_max_length)
    return model, tfvl.ViltProcessor(processor.image_processor, tokenizer)


def retrieval(settings, processor):
    """Returns a pre-trained ViLT whose score of a pair starts as that of a match, as in the authors' code."""
    before = tfvl.ViltForPreTraining.from_pretrained(settings.start)
    model = tfvl.ViltForImageAndTextRetrieval.from_pretrained(settings.start)
    model.rank_output.kernel.assign(before.itm_score.kernel.numpy()[:, 1:])
    model.rank_output.bias.assign(before.itm_score.bias.numpy()[1:])
    return model, processor


def any_head(settings, processor):
    """Returns the checkpoint with a new head."""
    model_class = getattr(tfvl, settings.architecture)
    model = model_class.from_pretrained(settings.start, ignore_mismatched_sizes=True, **settings.config)
    if "id2label" not in settings.config:  # those of answers to questions
        model.config = model.config.replace(id2label=None, label2id=None, num_labels=None)
    return model, processor


def pair_head(settings, processor):
    """Returns the checkpoint with a new head; adds the words of sentences about two pictures where it lacks them."""
    model, processor = any_head(settings, processor)
    words, tokenizer = shapes.caption_vocabulary(), processor.tokenizer
    if len(tokenizer) < len(words):
        model.resize_token_embeddings(len(words))
        processor.tokenizer = tfvl.BertTokenizer(list(words), model_max_length=tokenizer.model_max_length)
    return model, processor


START = {"mlm": mlm, "retrieval": retrieval, "nlvr2": pair_head, "choice": any_head, "phrases": any_head}
