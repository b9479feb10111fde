"""The authors' own LXMERT files: `Epoch20_LXRT.pth` of pre-training, `BEST.pth` and `LAST.pth` of fine-tuning.

Source: airsplay/lxmert, `src/lxrt/modeling.py`, `src/pretrain/lxmert_pretrain.py`, `src/tasks/vqa_model.py`.
"""

from tfvl.porting.originals.layout import BERT_SIZES, Original, Shapes

_ENCODER = ("lxrt_encoder.model.module.", "lxrt_encoder.model.", "")  # fine-tuned on several GPUs, on one; pre-trained
RENAMES = {f"{start}bert.": "lxmert." for start in _ENCODER} | {"logit_fc.": "answer_head.logit_fc."}

_LOSSES = {"visual_obj_loss": "obj", "visual_attr_loss": "attr", "visual_feat_loss": "feat"}


def more(shapes: Shapes) -> dict:
    """Returns the configuration's class and objectives, which follow from the tensors."""
    words, answers, objects = (
        name in shapes
        for name in ("cls.predictions.bias", "answer_head.logit_fc.3.bias", "obj_predict_head.transform.dense.bias")
    )
    if words:
        decoders = {field: f"obj_predict_head.decoder_dict.{loss}.bias" in shapes for field, loss in _LOSSES.items()}
        tasks = {"task_qa": answers, "task_obj_predict": objects}
        return {"architectures": ["LxmertForPreTraining"], **tasks, **(decoders if objects else {})}
    return {"architectures": ["LxmertForQuestionAnswering" if answers else "LxmertModel"]}


ORIGINAL = Original(
    model_type="lxmert",
    prefix="lxmert.",
    marks=tuple(f"{start}bert.encoder.visn_fc.visn_fc.weight" for start in _ENCODER),
    renames=RENAMES,
    sizes=BERT_SIZES
    | {
        "visual_feat_dim": ("encoder.visn_fc.visn_fc.weight", 1),
        "visual_pos_dim": ("encoder.visn_fc.box_fc.weight", 1),
        "num_answers": ("answer_head.logit_fc.3.bias", 0),
        "num_object_labels": ("obj_predict_head.decoder_dict.obj.bias", 0),
        "num_attr_labels": ("obj_predict_head.decoder_dict.attr.bias", 0),
    },
    layers={
        "l_layers": "encoder.layer.{i}.intermediate.dense.weight",
        "x_layers": "encoder.x_layers.{i}.lang_inter.dense.weight",
        "r_layers": "encoder.r_layers.{i}.intermediate.dense.weight",
    },
    more=more,
)
