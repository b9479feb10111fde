"""The methods of a model that load it from a checkpoint, and those that then change its number of words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import keras

from tfvl.modeling import token_embeddings, upstream_arguments
from tfvl.modeling.configuration import Config
from tfvl.modeling.fields import is_size
from tfvl.modeling.pretrained import load_pretrained
from tfvl.porting.plan import Refit


class Loadable:
    """The loading half of `PreTrainedModel`, mixed in before `keras.Model`.

    Attributes:
        refits: maps the path of a variable, without the model's own name, to the function with which `from_pretrained`
            with `ignore_mismatched_sizes` brings a checkpoint's table to the variable's length.
    """

    config: Any

    refits: ClassVar[Mapping[str, Refit]] = {}

    @classmethod
    def completed(cls, config: Config) -> Config:
        """Returns `config` with what this class needs and the checkpoint of another class may lack."""
        return config

    @classmethod
    def position_refits(cls, held: Config, wanted: Config) -> dict[str, Refit]:
        """Returns `refits` for the images' position embeddings, from a checkpoint's configuration to the wanted one.

        Raises:
            ValueError: the model has no patches.
        """
        raise ValueError(f"resize_position_embeddings is for ViLT, whose patches have positions, not {cls.__name__}.")

    @classmethod
    def from_pretrained(
        cls,
        src: str | Path,
        *,
        config: Config | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        ignore_mismatched_sizes: bool = False,
        resize_position_embeddings: bool = False,
        dtype: str | None = None,
        progress=None,
        **config_overrides,
    ) -> Self:
        """Loads a checkpoint of the hub, of a directory, of a single weight file, or a bundled one.

        Args:
            src: hub id, directory in the hub's layout, weight file beside its `config.json`, bundled name, or one of
                the authors' own files (VisualBERT's `.th`, LXMERT's `*_LXRT.pth` and `BEST.pth`, ViLT's `.ckpt`).
                Without a `config.json` beside it, sizes follow from the shapes of its tensors, and all else is the
                family's default; `num_attention_heads` must be given if the width is not 768.
            config: replaces the checkpoint's own `config.json`.
            revision, token, cache_dir, local_files_only, subfolder: as in huggingface_hub.
            ignore_mismatched_sizes: initialise weights anew whose shapes differ, instead of refusing; the warning names
                them. `ViltForImagesAndTextClassification` then also takes the checkpoint of another class: it gets two
                images, and a modality type for the second that starts as a copy of the first's, as in the authors'
                code.
            resize_position_embeddings: if `image_size` differs from the checkpoint's, resize ViLT's position embeddings
                of patches bilinearly (with aligned corners, as its forward pass does), instead of refusing or
                initialising them anew.
            dtype: Keras dtype policy, for example "mixed_bfloat16"; None: the global one.
            progress: called with (bytes read so far, bytes in all) while weights are read.
            **config_overrides: fields that replace the configuration's, for example `num_labels=3`.

        Returns:
            The model. One `UserWarning` names what was initialised (a head that the checkpoint lacks, weights of
            another shape), what was resized, and weights of other heads that were left out. The published VQA and GQA
            heads, whose files name no answers, get their answers as `config.id2label`
            (tfvl/modeling/published_answers.py).

        Raises:
            CheckpointError: a file is missing or damaged, or does not fit the class; the message lists all wrong keys.
        """
        upstream_arguments.refuse(config_overrides, f"{cls.__name__}.from_pretrained")
        hub = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub["subfolder"] = subfolder
        model, _ = load_pretrained(
            cls,
            src,
            config=config,
            config_overrides=config_overrides,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            resize_position_embeddings=resize_position_embeddings,
            dtype=dtype,
            progress=progress,
            **hub,
        )
        return model

    def get_input_embeddings(self) -> keras.layers.Embedding:
        """Returns the layer of the word embeddings (upstream's name)."""
        return token_embeddings.word_embeddings(self)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> keras.layers.Embedding:
        """Gives the model another number of words, for example after `tokenizer.add_tokens` (upstream's name).

        The table, the bias of masked words and an untied decoder are cut or get rows; `config.vocab_size` follows. Call
        `compile` again before `fit`.

        Args:
            new_num_tokens: the number of words, for example `len(tokenizer)`; None: the present number.
            pad_to_multiple_of: that number is rounded up to a multiple of this one.
            mean_resizing: new rows are the mean of the old ones (upstream adds noise of a 1e-9th of their variance);
                else they are drawn as those of a new model.

        Returns:
            The layer of the word embeddings.

        Raises:
            ValueError: a number is not a whole number from 1 on, or the model is quantized.
        """
        words = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        step = 1 if pad_to_multiple_of is None else pad_to_multiple_of
        if not is_size(words) or not is_size(step):
            raise ValueError(
                f"new_num_tokens is {new_num_tokens!r} and pad_to_multiple_of {pad_to_multiple_of!r}, expected whole "
                "numbers from 1 on."
            )
        token_embeddings.resize_token_embeddings(self, -(-words // step) * step, mean_resizing)
        return self.get_input_embeddings()
