"""The name of each component says what is wrong with it."""

from __future__ import annotations

from sonant import ComponentSpec, hookimpl

SONANT_API = 1

_BY_KIND = {
    "loss": (
        "Empty",
        "mute",
        "one_for_each",
        "infinite",
        "mean_over_padding",
        "sums_padding",
        "detached",
        "ignores_weights",
        "drops_at_random",
        "forgets_its_scale",
        "spare_weights",
        "unheard",
        "writes_logits",
        "always_zero",
    ),
    "optimizer": (
        "Rate",
        "own_class",
        "no_rate",
        "takes_no_groups",
        "uphill",
        "forgets",
        "keeps_an_object",
        "one_rate",
        "shared_rate",
    ),
    "scheduler": ("Warmup", "negative", "tells_another", "all_zero", "forgets", "stops", "one_for_all"),
    "vocoder": (
        "Empty",
        "other_width",
        "no_rate",
        "three_dimensions",
        "too_few_samples",
        "normalizes",
        "one_frame_deviation",
        "writes_features",
        "zeros",
    ),
    "codec": (
        "Grid",
        "no_size",
        "floats",
        "too_large",
        "too_slow",
        "too_short",
        "hears_padding",
        "decodes_padding",
        "one_frame_deviation",
        "writes_codes",
        "deaf",
        "mute",
    ),
    "clusterer": (
        "Empty",
        "from_one",
        "int32",
        "ignores_the_number",
        "needs_two",
        "order_matters",
        "by_rank",
        "writes_embeddings",
    ),
    "text_frontend": ("Empty", "no_size", "ids_from_one", "silent", "no_empty_text", "grows", "one_id", "takes_ids_away"),
}


@hookimpl
def sonant_components():
    for kind, (config, *names) in _BY_KIND.items():
        for name in names:
            yield ComponentSpec(
                kind=kind,
                name=f"broken/{name}",
                target=f"broken_kinds.{kind}:" + name.title().replace("_", ""),
                config=f"good_kinds.config:{config}",
                doc=f"A {kind}, broken.",
            )
