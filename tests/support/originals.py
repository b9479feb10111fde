"""Renames the weights of a state dict from transformers' names to the authors', and writes their files.

The names are from the authors' code, not from tfvl's tables: uclanlp/visualbert, airsplay/lxmert, dandelin/ViLT.
"""

import re
from pathlib import Path

import numpy as np

from support.porting import Call, Global, tensor, write_legacy, write_zip


def visual_bert_names(state: dict) -> dict:
    """Renames to VisualBERT's: `bert` is `TrainVisualBERTObjective`, whose `BertVisualModel` is called `bert` too."""
    names = {}
    for name, array in state.items():
        name = re.sub(r"\.visual_(token_type_embeddings|position_embeddings)\.", r".\1_visual.", name)
        name = name.replace(".visual_projection.", ".projection.")
        name = re.sub(r"^visual_bert\.", "bert.bert.", name)
        name = re.sub(r"^cls\.(predictions|seq_relationship)\.", r"bert.cls.\1.", name)
        name = re.sub(r"^cls\.(weight|bias)$", r"bert.classifier.\1", name)
        name = re.sub(r"^attention\.", "bert.flickr_attention.", name)
        if name not in ("bert.cls.predictions.decoder.bias", "bert.bert.embeddings.position_ids"):
            names[name] = array  # this clone of BERT had neither
    return names


def mmf_names(state: dict) -> dict:
    """Renames to MMF's names: the model is called `model`, its `VisualBERTBase` `bert`, with the heads beside it."""
    names = {}
    for name, array in visual_bert_names(state).items():
        name = name.removeprefix("bert.") if not name.startswith("bert.classifier.") else name
        names["model." + name.replace("bert.classifier.", "classifier.1.")] = array
    return names


def lxmert_names(state: dict, start: str = "module.", head: str = "module.answer_head.") -> dict:
    """Renames to LXMERT's names: by default those of `*_LXRT.pth`; `start` and `head` make those of `BEST.pth`."""
    starts = {"lxmert.": f"{start}bert.", "answer_head.": head, "": start}
    names = {}
    for name, array in state.items():
        if name != "cls.predictions.decoder.bias":
            old = next(old for old in starts if name.startswith(old))
            names[starts[old] + name.removeprefix(old)] = array
    return names


VILT = {
    r"^vilt\.embeddings\.(text|token_type)_embeddings\.": r"\1_embeddings.",
    r"^vilt\.embeddings\.cls_token": "transformer.cls_token",
    r"^vilt\.embeddings\.position_embeddings": "transformer.pos_embed",
    r"^vilt\.embeddings\.patch_embeddings\.projection\.": "transformer.patch_embed.proj.",
    r"^vilt\.encoder\.layer\.(\d+)\.layernorm_before\.": r"transformer.blocks.\1.norm1.",
    r"^vilt\.encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"transformer.blocks.\1.attn.proj.",
    r"^vilt\.encoder\.layer\.(\d+)\.layernorm_after\.": r"transformer.blocks.\1.norm2.",
    r"^vilt\.encoder\.layer\.(\d+)\.intermediate\.dense\.": r"transformer.blocks.\1.mlp.fc1.",
    r"^vilt\.encoder\.layer\.(\d+)\.output\.dense\.": r"transformer.blocks.\1.mlp.fc2.",
    r"^vilt\.layernorm\.": "transformer.norm.",
    r"^vilt\.pooler\.": "pooler.",
    r"^mlm_score\.decoder\.bias$": "mlm_score.bias",
}


def vilt_names(state: dict, join, classifier: str = "vqa_classifier.") -> dict:
    """Renames to ViLT's names; `join` concatenates query, key and value on the first axis, as in timm's transformer."""
    names, fused = {}, {}
    for name, array in state.items():
        part = re.match(r"vilt\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(\w+)$", name)
        if part:
            layer, which, kind = part.groups()
            fused.setdefault(f"transformer.blocks.{layer}.attn.qkv.{kind}", {})[which] = array
            continue
        for pattern, replacement in (VILT | {r"^classifier\.": classifier}).items():
            name = re.sub(pattern, replacement, name)
        names[name] = array
    return names | {name: join([parts[which] for which in ("query", "key", "value")]) for name, parts in fused.items()}


STORAGES = {"f": ("FloatStorage", "<f4"), "i": ("LongStorage", "<i8")}


def write_torch(path: Path, arrays: dict[str, np.ndarray], legacy: bool = False, wrap=lambda state: state) -> Path:
    """Writes a `torch.save` file of floats and integers without torch; `wrap` puts the state dict into another dict."""
    entries, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        kind, stored = STORAGES[array.dtype.kind]
        array = np.ascontiguousarray(array, stored)
        strides = tuple(step // array.itemsize for step in array.strides)
        entries[name] = tensor(array.size, 0, array.shape, strides, key=str(number), kind=kind)
        storages[str(number)] = array.tobytes()
    if legacy:
        sizes = {key: (arrays[name].size, data) for name, (key, data) in zip(arrays, storages.items(), strict=True)}
        return write_legacy(path, wrap(entries), sizes)
    return write_zip(path, wrap(entries), storages)


def lightning(entries: dict) -> dict:
    """Returns what PyTorch Lightning saves with a state dict, with objects of its own and of a settings library."""
    return {
        "epoch": 9,
        "global_step": 25000,
        "pytorch-lightning_version": "1.1.4",
        "callbacks": {
            Global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): {"best_model_path": "result/x"}
        },
        "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 1, "params": [0, 1]}]}],
        "lr_schedulers": [{"base_lrs": [1], "lr_lambdas": [None], "_step_count": 3}],
        "state_dict": entries,
        "hparams_name": "config",
        "hyper_parameters": Call(
            Global("pytorch_lightning.utilities.parsing", "AttributeDict"), ([("config", {"max_text_len": 40})],)
        ),
    }
