"""The name of each component says what is wrong with it."""

from __future__ import annotations

from sonant import ComponentSpec, NemoSpec, hookimpl

SONANT_API = 1

_TINY = {
    "Blocks": {"bins": 16},
    "RunningMean": {"width": 8},
    "Loose": {"width": 8},
    "Changed": {"width": 8},
    "Helpless": {"width": 8},
    "Unwritable": {"width": 8},
    "Indulgent": {"width": 8},
}


def _spec(kind, name, config, **more):
    if name == "no_files":
        more = {"tiny_files": "broken_parts.tokenizer:files"}
    home = "good_parts" if config in ("Blocks", "RunningMean", "Empty", "Letters") else "broken_parts"
    return ComponentSpec(
        kind=kind,
        name=f"broken/{name}",
        target=f"broken_parts.{kind}:" + name.title().replace("_", ""),
        config=f"{home}.config:{config}",
        doc=more.pop("doc", f"A {kind}, broken."),
        tiny=more.pop("tiny", _TINY.get(config, {})),
        **more,
    )


def _encoders():
    same = {"target": "good_parts.encoder:RunningMean"}
    specs = [
        ("no_doc", "RunningMean", {"doc": " "}),
        ("long_doc", "RunningMean", {"doc": "One line.\nAnother."}),
        ("config_can_change", "Loose", {}),
        ("field_without_help", "Helpless", {}),
        ("tiny_does_not_fill", "RunningMean", {"tiny": {"widht": 8}}),
        ("config_grows", "Changed", {}),
        ("config_is_no_yaml", "Unwritable", {}),
        ("takes_any_key", "Indulgent", {}),
        ("no_docstring", "RunningMean", {"target": "broken_parts.encoder:nameless"}),
        ("no_target", "RunningMean", {"target": "broken_parts.encoder:Gone"}),
        ("no_config", "Gone", {}),
        ("no_tiny", "Named", {}),
        ("config_raises", "Raises", {}),
        ("config_exits", "Exits", {}),
        ("config_is_no_class", "Plain", {}),
        ("no_mapping", "RunningMean", {"nemo": NemoSpec(mapping="broken_parts.nemo:MAPPING")}),
    ]
    for name, config, more in specs:
        yield ComponentSpec(
            **{
                "kind": "encoder",
                "name": f"broken/{name}",
                "config": f"{'good' if config == 'RunningMean' else 'broken'}_parts.config:{config}",
                "doc": "An encoder, broken.",
                "tiny": _TINY.get(config, {}),
            }
            | same
            | more
        )


_BY_KIND = {
    "encoder": (
        "RunningMean",
        "raises",
        "exits",
        "writes_environment",
        "changes_folder",
        "changes_dtype",
        "seeds",
        "writes_config",
        "forgets_a_number",
        "forgets_a_table",
        "keeps_dropout",
        "counts_calls",
        "loses_precision",
        "refuses_float32",
        "unused_parameter",
        "detached_parameter",
        "no_subsampling",
        "wrong_width",
        "int32_lengths",
        "too_many_frames",
        "leaks_padding",
        "relative_lengths",
        "forgets_to_unsort",
        "fails_on_nothing",
        "forgets_between_pieces",
        "loses_the_last_piece",
        "mixes_streams",
        "writes_states",
        "needs_too_much",
        "writes_features",
        "writes_while_streaming",
        "writes_lengths",
        "deaf",
    ),
    "preprocessor": (
        "Blocks",
        "no_sample_rate",
        "wrong_frame_rate",
        "int32_lengths",
        "normalizes_padding",
        "one_frame_deviation",
        "loses_the_last_block",
        "writes_samples",
        "deaf",
    ),
    "augmentation": ("Empty", "always", "shortens", "never", "writes_in_training"),
    "decoder": (
        "Empty",
        "other_width",
        "unknown_search",
        "no_family",
        "of_another_family",
        "asks_speakers",
        "writes_vectors",
        "deaf",
    ),
    "search": (
        "Empty",
        "one_for_all",
        "lacks_ends",
        "goes_back",
        "ends_early",
        "finds_blanks",
        "plain_tuples",
        "searches_padding",
        "always_one",
        "finds_nothing",
        "deaf",
        "ends_in_samples",
        "infinite_score",
        "forgets_the_position",
        "one_position",
        "writes_its_state",
        "scores_twice",
        "writes_vectors",
        "exits",
        "reads_words",
        "gives_none",
    ),
    "tokenizer": (
        "Letters",
        "no_files",
        "counts_wrong",
        "numbered_pieces",
        "ids_from_one",
        "writes_backwards",
        "only_reads",
        "one_id",
        "takes_ids_away",
    ),
}


@hookimpl
def sonant_components():
    named = [_spec(kind, name, config) for kind, (config, *names) in _BY_KIND.items() for name in names]
    carriers = [_spec("decoder", f"carries_{name}", "Empty") for name in _BY_KIND["search"][1:-2]]
    return [*_encoders(), *named, *carriers]
