"""Arguments of transformers' `from_pretrained` that mean nothing here, each with a sentence on what to do instead."""

from collections.abc import Iterable

HERE = {
    "torch_dtype": 'from_pretrained of models and auto.load take a Keras policy: dtype="mixed_bfloat16" or "bfloat16"',
    "device_map": "Keras takes the GPU that it sees: choose one by CUDA_VISIBLE_DEVICES, or use keras.distribution",
    "device": "Keras takes the GPU that it sees: choose one by CUDA_VISIBLE_DEVICES",
    "from_pt": "leave it out: PyTorch's files are read as they are, without PyTorch",
    "from_tf": "leave it out: TensorFlow's files (tf_model.h5) are read as they are",
    "from_flax": "there are no Flax files of these models",
    "attn_implementation": "leave it out: attention is Keras' own; jit_compile=True in compile fuses it by XLA",
    "low_cpu_mem_usage": "leave it out: weights are always read once, mapped from the file",
    "use_fast": "leave it out: there is one tokenizer and one image processor",
    "use_safetensors": "leave it out: safetensors are taken where there are any",
    "trust_remote_code": "leave it out: code of repositories is never run",
    "quantization_config": "quantise the export: tfvl.export.lite(…, quantize='dynamic')",
    "load_in_8bit": "quantise the export: tfvl.export.lite(…, quantize='dynamic')",
    "load_in_4bit": "quantise the export: tfvl.export.lite(…, quantize='dynamic')",
    "use_auth_token": "its name is token",
    "output_loading_info": "leave it out: one warning names what was initialised",
}


def refuse(names: Iterable[str], where: str) -> None:
    """Raises ValueError for the first of the names that is transformers' own, and says what to do instead.

    Args:
        names: the names of the arguments that were given.
        where: the method that got them.
    """
    for name in names:
        if name in HERE:
            raise ValueError(f"{where} has no {name}; {HERE[name]}.")
