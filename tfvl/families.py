"""The families of models, by the `model_type` of their config.json: where the classes are, and the processor's name."""

FAMILIES = {
    "vilt": ("tfvl.vilt.heads", "ViltProcessor"),
    "visual_bert": ("tfvl.visual_bert.heads", "VisualBertProcessor"),
    "lxmert": ("tfvl.lxmert.heads", "LxmertProcessor"),
}
