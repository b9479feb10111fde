"""Where the training of each bundled model starts: the weights of one that is trained, and what its task has anew."""

import numpy as np

import tfvl
from tfvl import auto, shapes


def mlm(settings, processor):
    """The body of a ViLT that answers questions; its words keep their embeddings, and the words of captions are new.

    One that is pre-trained already goes on as it is.
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
    """A pre-trained ViLT; the score of a pair starts as that of a match, as in the authors' code."""
    before = tfvl.ViltForPreTraining.from_pretrained(settings.start)
    model = tfvl.ViltForImageAndTextRetrieval.from_pretrained(settings.start)
    model.rank_output.kernel.assign(before.itm_score.kernel.numpy()[:, 1:])
    model.rank_output.bias.assign(before.itm_score.bias.numpy()[1:])
    return model, processor


def any_head(settings, processor):
    """The checkpoint with a new head."""
    model_class = getattr(tfvl, settings.architecture)
    model = model_class.from_pretrained(settings.start, ignore_mismatched_sizes=True, **settings.config)
    if "id2label" not in settings.config:  # those of answers to questions
        model.config = model.config.replace(id2label=None, label2id=None, num_labels=None)
    return model, processor


def pair_head(settings, processor):
    """The checkpoint with a new head, and the words of sentences about two pictures where it has not learnt them."""
    model, processor = any_head(settings, processor)
    words, tokenizer = shapes.caption_vocabulary(), processor.tokenizer
    if len(tokenizer) < len(words):
        model.resize_token_embeddings(len(words))
        processor.tokenizer = tfvl.BertTokenizer(list(words), model_max_length=tokenizer.model_max_length)
    return model, processor


START = {"mlm": mlm, "retrieval": retrieval, "nlvr2": pair_head, "choice": any_head, "phrases": any_head}
