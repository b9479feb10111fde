"""The porting table and its accounting: what fits, and that everything that does not fit is named."""

from dataclasses import replace

import numpy as np
import pytest
from support.porting import checkpoint

from tfvl.errors import CheckpointError
from tfvl.porting.plan import decoder_is_untied, make_plan, warning_of
from tfvl.porting.rules import BIAS_OF_ROW_1, CONV, DENSE, DENSE_OF_ROW_1, KEEP, Rule, Table
from tfvl.porting.tensors import Checkpoint, Tensor
from tfvl.vilt.weights import RULES

# A family of one table, one dense layer per block with a fused kernel, a tied decoder and two heads.
TOY = (
    Rule("words.weight", "words/embeddings"),
    Rule("words.position_ids", None),
    Rule(("layer.{i}.q.weight", "layer.{i}.k.weight"), "layer_{i}/qk/kernel", DENSE),
    Rule(("layer.{i}.q.bias", "layer.{i}.k.bias"), "layer_{i}/qk/bias", optional=True),
    Rule("lm.decoder.weight", "lm/decoder/kernel", DENSE, head="lm", optional=True, same_as="words.weight"),
    Rule("lm.decoder.bias", "lm/bias", head="lm"),
    Rule("lm.bias", None, head="lm", same_as="lm.decoder.bias"),
    Rule("match.weight", "match/kernel", DENSE, head="match"),
    Rule("match.bias", "match/bias", head="match"),
    Rule("rank.weight", "rank/kernel", DENSE, head="rank"),
    Rule("rank.bias", "rank/bias", head="rank"),
    Rule("match.weight", "rank/kernel", DENSE_OF_ROW_1, head="rank", fallback=True),
    Rule("match.bias", "rank/bias", BIAS_OF_ROW_1, head="rank", fallback=True),
)
BODY_FILE = {
    "words.weight": (7, 4),
    **{f"layer.{i}.{part}.weight": (4, 4) for i in range(2) for part in "qk"},
    **{f"layer.{i}.{part}.bias": (4,) for i in range(2) for part in "qk"},
}
BODY = {"words/embeddings": (7, 4)} | {
    f"layer_{i}/qk/{name}": shape for i in range(2) for name, shape in (("kernel", (4, 8)), ("bias", (8,)))
}
LM_FILE, LM = {"lm.decoder.bias": (7,)}, {"lm/bias": (7,)}
MATCH_FILE, MATCH = {"match.weight": (2, 4), "match.bias": (2,)}, {"match/kernel": (4, 2), "match/bias": (2,)}
RANK_FILE, RANK = {"rank.weight": (1, 4), "rank.bias": (1,)}, {"rank/kernel": (4, 1), "rank/bias": (1,)}


def plan(file, model, rules=TOY, **options):
    return make_plan(file if isinstance(file, Checkpoint) else checkpoint(file), model, rules, "toy", "Toy", **options)


def problems(file, model, rules=TOY, **options) -> list[str]:
    with pytest.raises(CheckpointError) as caught:
        plan(file, model, rules, **options)
    assert str(caught.value).startswith("some.safetensors does not fit Toy:\n  ")
    return sorted(caught.value.problems)


def test_of_many_problems_the_first_of_each_kind_are_named_and_counted():
    blocks = {f"layer_{i}/qk/kernel": (4, 6) for i in range(90)}
    file = {f"layer.{i}.{part}.weight": (4, 4) for i in range(90) for part in "qk"} | {
        "words.weight": (7, 4),
        "x": (1,),
    }
    with pytest.raises(CheckpointError) as caught:
        plan(file, {"words/embeddings": (7, 4)} | blocks)
    message, found = str(caught.value), caught.value.problems
    assert len(found) == 181
    assert len(message) < 1500
    assert message.count("\n  shape: layer.") == 5
    assert "\n  shape: 175 more\n" in message
    assert "\n  unknown: no row of the table names x (1,)" in message


def test_everything_fits():
    result = plan(BODY_FILE | LM_FILE, BODY | LM)
    assert {fill.path for fill in result.fills} == set(BODY | LM)
    assert not (result.initialised)
    assert not (result.left_out)
    assert not (result.dropped)
    assert not (result.repeated)
    assert warning_of(result, checkpoint({}).path, "Toy") == ""


@pytest.mark.parametrize(
    "file_prefix",
    [
        *("", "toy.", "module.toy.", "model.toy.", "module.model.toy.", "module.", "model.", "_orig_mod.toy."),
        *("_orig_mod.module.", "module._orig_mod.toy.", "_forward_module.model._orig_mod.", "net.toy._orig_mod."),
        *("toy._fsdp_wrapped_module.", "model.module.toy._checkpoint_wrapped_module."),
    ],
)
@pytest.mark.parametrize("model_prefix", ["", "toy/"])
def test_prefixes_of_file_and_model_are_independent(file_prefix, model_prefix):
    wrapper = file_prefix.partition("toy.")[0]
    file = {file_prefix + name: shape for name, shape in BODY_FILE.items()}
    file |= {wrapper + name: shape for name, shape in LM_FILE.items()}
    result = plan(file, {model_prefix + name: shape for name, shape in BODY.items()} | LM)
    assert len(result.fills) == len(BODY | LM)


def test_a_wrapper_prefix_on_some_names_only_is_unknown():
    file = {("module." if name.endswith("bias") else "") + name: shape for name, shape in BODY_FILE.items()}
    lines = problems(file, BODY)
    assert "unknown: no row of the table names module.layer.0.q.bias (4,)" in lines
    assert "missing: layer.0.q.bias, for the variable layer_0/qk/bias (8,)" in lines


def test_all_mistakes_are_in_one_message():
    file = dict(BODY_FILE) | LM_FILE
    del file["layer.1.k.weight"]
    file |= {"words.weight": (7, 5), "layer.2.q.weight": (4, 4), "toy.layer.0.q.bias": (4,), "strange": (1,)}
    rules = (*TOY, Rule("old.weight", "old/kernel", DENSE))
    assert problems(file, BODY | LM | {"new/kernel": (1, 1)}, rules) == [
        "double: layer.0.q.bias and toy.layer.0.q.bias are both layer.0.q.bias",
        "missing: layer.1.k.weight, for the variable layer_1/qk/kernel (4, 8)",
        "shape: words.weight is (7, 5) in some.safetensors, the variable words/embeddings needs (7, 4)",
        "stale table: no row fills the variable new/kernel",
        "stale table: the model has no old/kernel, which old.weight would fill",
        "unknown: no row of the table names strange (1,)",
        "unknown: the model has no variable for layer.1.q.weight (4, 4)",
        "unknown: the model has no variable for layer.2.q.weight (4, 4)",
    ]


def test_two_rows_for_one_variable_and_two_variables_for_one_tensor():
    assert problems(BODY_FILE | {"again": (7, 4)}, BODY, (*TOY, Rule("again", "words/embeddings")))[0] == (
        "double: 2 rows of the table fill the variable words/embeddings"
    )
    lines = problems(BODY_FILE, BODY | {"copy": (7, 4)}, (*TOY, Rule("words.weight", "copy")))
    assert "double: words.weight fills both words/embeddings and copy" in lines


def test_nothing_is_matched_by_suffix_or_by_odd_numbers():
    for stranger in (
        "deep.words.weight",
        "words.weight.extra",
        "layer.00.q.weight",
        "layer.-1.q.weight",
        "layer.٣.q.bias",
    ):
        assert problems(BODY_FILE | {stranger: (7, 4)}, BODY) == [
            f"unknown: no row of the table names {stranger} (7, 4)"
        ]


def test_a_missing_head_is_initialised_and_a_foreign_one_left_out():
    result = plan(BODY_FILE | MATCH_FILE, BODY | LM)
    assert result.initialised == ["lm/bias"]
    assert result.left_out == ["match.bias", "match.weight"]
    message = warning_of(result, checkpoint({}).path, "Toy")
    assert "no weights for lm/bias" in message
    assert "fine-tune" in message
    assert "left out: match.bias, match.weight" in message


def test_half_a_head_is_an_error():
    file = BODY_FILE | {"match.weight": (2, 4)}
    assert problems(file, BODY | MATCH) == ["missing: match.bias, for the variable match/bias (2,)"]


def test_the_body_may_not_be_missing():
    assert len(problems(LM_FILE, BODY | LM)) == 1 + 2 * 4


def test_a_checkpoint_of_something_else_gets_a_short_answer():
    with pytest.raises(
        CheckpointError, match=r"some.safetensors: no weight in it is one of Toy's \(it has a.b, c, d, ...\)"
    ):
        plan({"a.b": (1,), "c": (2,), "d": (3,), "e": (4,)}, BODY)


def test_mismatched_sizes_may_be_ignored():
    file = BODY_FILE | MATCH_FILE | {"match.weight": (3, 4)}
    assert problems(file, BODY | MATCH) == [
        "shape: match.weight is (3, 4) in some.safetensors, the variable match/kernel needs (2, 4)"
    ]
    result = plan(file, BODY | MATCH, ignore_mismatched_sizes=True)
    assert result.initialised == ["match/kernel"]
    assert "match.weight is (3, 4)" in warning_of(result, checkpoint({}).path, "Toy")
    anew = plan(BODY_FILE | {"words.weight": (8, 4)}, BODY, ignore_mismatched_sizes=True)
    assert anew.initialised == ["words/embeddings"]


def test_fallback_applies_only_where_the_head_is_missing_as_a_whole():
    fallback = plan(BODY_FILE | MATCH_FILE, BODY | RANK)
    assert {fill.path: fill.tensors[0].name for fill in fallback.fills if "rank" in fill.path} == {
        "rank/kernel": "match.weight",
        "rank/bias": "match.bias",
    }
    own = plan(BODY_FILE | MATCH_FILE | RANK_FILE, BODY | RANK)
    assert {fill.tensors[0].name for fill in own.fills if "rank" in fill.path} == set(RANK_FILE)
    assert own.left_out == ["match.bias", "match.weight"]
    assert plan(BODY_FILE, BODY | RANK).initialised == ["rank/kernel", "rank/bias"]
    assert problems(BODY_FILE | MATCH_FILE | {"rank.bias": (1,)}, BODY | RANK) == [
        "missing: rank.weight, for the variable rank/kernel (4, 1)"
    ]


def test_optional_variables_must_be_absent_on_both_sides():
    no_bias = {name: shape for name, shape in BODY.items() if not name.endswith("bias")}
    no_bias_file = {name: shape for name, shape in BODY_FILE.items() if not name.endswith("bias")}
    assert len(plan(no_bias_file, no_bias).fills) == 3
    assert problems(BODY_FILE, no_bias)[0] == "unknown: the model has no variable for layer.0.k.bias (4,)"
    assert len(problems(no_bias_file, BODY)) == 4


def test_buffers_are_dropped_whatever_their_type():
    result = plan(BODY_FILE | {"toy.words.position_ids": (1, 7)}, BODY)
    assert result.dropped == ["toy.words.position_ids"]


def test_old_names_of_norms():
    rules = (Rule("norm.weight", "norm/gamma"), Rule("norm.bias", "norm/beta"))
    model = {"norm/gamma": (3,), "norm/beta": (3,)}
    assert len(plan({"norm.gamma": (3,), "norm.beta": (3,)}, model, rules).fills) == 2
    lines = problems({"norm.gamma": (3,), "norm.weight": (3,), "norm.bias": (3,)}, model, rules)
    assert lines == ["double: norm.gamma and norm.weight are both norm.weight"]


def test_quantised_weights_are_refused():
    lines = problems(checkpoint(BODY_FILE, "int8"), BODY)
    assert "element type: words.weight holds int8; weights must be float64, float32, float16, bfloat16" in lines


def stored(tmp_path, **arrays) -> Checkpoint:
    """Makes a checkpoint whose values can be read."""
    tensors = []
    for name, array in arrays.items():
        path = tmp_path / name.replace(".", "_")
        path.write_bytes(array.tobytes())
        tensors.append(Tensor(name, path, 0, array.shape, array.dtype.name))
    return Checkpoint(tmp_path / "some.safetensors", tensors)


@pytest.mark.parametrize("name", ["lm.bias", "lm.decoder.bias"])
def test_a_bias_under_either_of_its_names(name):
    assert [
        fill.tensors[0].name for fill in plan(BODY_FILE | {name: (7,)}, BODY | LM).fills if fill.path == "lm/bias"
    ] == [name]


@pytest.mark.parametrize(
    ("wins", "read", "unread"), [(False, "lm.decoder.bias", "lm.bias"), (True, "lm.bias", "lm.decoder.bias")]
)
def test_of_a_bias_stored_twice_the_one_that_transformers_reads(wins, read, unread, tmp_path):
    model, bias = {"lm/bias": (7,)}, np.arange(7, dtype=np.float32)
    rules = [TOY[5], replace(TOY[6], wins=wins)]
    same = plan(stored(tmp_path, **{read: bias, unread: bias}), model, rules)
    assert (same.repeated, same.overruled) == ([unread], [])
    other = stored(tmp_path, **{read: bias, unread: bias + 1})
    differing = plan(other, model, rules)
    assert [fill.tensors[0].name for fill in differing.fills] == [read]
    assert differing.overruled == [f"{unread} differs from {read}, which is read here as in transformers"]
    message = warning_of(differing, other.path, "Toy")
    assert message == f"{other.path} stores the same tensor twice with different values: {differing.overruled[0]}."
    alone = plan(stored(tmp_path, **{unread: bias}), model, rules)
    assert [fill.tensors[0].name for fill in alone.fills] == [unread]


def test_tied_and_untied_decoder(tmp_path):
    rules, tied = (TOY[0], *TOY[4:7]), {"words/embeddings": (7, 4), "lm/bias": (7,)}
    untied = tied | {"lm/decoder/kernel": (4, 7)}
    words, bias = np.arange(28, dtype=np.float32).reshape(7, 4), np.zeros(7, np.float32)
    same = stored(tmp_path, **{"toy.words.weight": words, "lm.decoder.weight": words, "lm.decoder.bias": bias})
    assert not decoder_is_untied(same, rules, "toy")
    assert plan(same, tied, rules).repeated == ["lm.decoder.weight"]
    own = stored(tmp_path, **{"toy.words.weight": words, "lm.decoder.weight": words + 1, "lm.decoder.bias": bias})
    assert decoder_is_untied(own, rules, "toy")
    assert len(plan(own, untied, rules).fills) == 3
    with pytest.raises(
        CheckpointError, match=r"lm.decoder.weight differs from toy.words.weight.*tie_word_embeddings=False"
    ):
        plan(own, tied, rules)
    only = stored(tmp_path, **{"lm.decoder.weight": words, "lm.decoder.bias": bias})
    assert {fill.path: fill.tensors[0].name for fill in plan(only, tied, rules).fills}[
        "words/embeddings"
    ] == "lm.decoder.weight"
    assert not decoder_is_untied(only, rules, "toy")
    with pytest.raises(CheckpointError, match=r"double: lm.decoder.weight fills both"):
        plan(only, untied, rules)


@pytest.mark.parametrize(
    ("transform", "shape", "parts"),
    [(KEEP, (5,), 1), (KEEP, (6,), 3), (DENSE, (4, 5), 1), (DENSE, (4, 6), 3), (CONV, (2, 3, 4, 5), 1)],
)
def test_transforms_read_forwards_and_backwards(transform, shape, parts):
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    sources = transform.backward(value, parts)
    assert [source.shape for source in sources] == [transform.source_shape(shape, parts)] * parts
    np.testing.assert_array_equal(transform.forward(sources, np), value)


def test_what_the_transforms_mean():
    kernel = np.arange(6.0).reshape(2, 3)
    assert DENSE.forward([kernel, -kernel], np).tolist() == [[0, 3, -0.0, -3], [1, 4, -1, -4], [2, 5, -2, -5]]
    oihw = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert CONV.forward([oihw], np)[3, 4, 2, 1] == oihw[1, 2, 3, 4]
    assert DENSE_OF_ROW_1.forward([kernel], np).tolist() == [[3], [4], [5]]
    assert DENSE_OF_ROW_1.source_shape((3, 1), 1) == (2, 3)
    assert BIAS_OF_ROW_1.source_shape((1,), 1) == (2,)


def test_every_row_of_the_vilt_table_names_sources_and_targets_once():
    table = Table(RULES)
    for rule in RULES:
        if rule.target and not rule.fallback:
            rows = [row for row, _ in table.by_target(rule.target.format(i=3)) if not row.fallback]
            assert rows == [rule]
        for source in rule.sources:
            assert rule in [row for row, _ in table.by_source(source.format(i=3))]
