"""What the plugins under `data/contract` keep and break, for the tests of the contract kit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from sonant import plugins
from sonant.testing import contract
from sonant.testing.check import Check

DATA = Path(__file__).parent / "data" / "contract"


@contextmanager
def findable() -> Iterator[None]:
    """The plugins of the test data are on the import path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DATA))
        plugins.refresh()
        yield
    plugins.refresh()


def by_subject(distributions: Iterable[str]) -> dict[str, list[Check]]:
    """The checks of distributions, by what they are about."""
    found = defaultdict(list)
    for distribution in distributions:
        for check in contract.checks(distribution):
            found[check.subject].append(check)
    return found


def outcomes(checks: Iterable[Check], wanted: str) -> dict[str, str]:
    """The details of those checks that come out as wanted, by name."""
    return {check.name: detail for check in checks for outcome, detail in [contract.run(check)] if outcome == wanted}


def skipped_only(distribution: str) -> dict[str, dict[str, str]]:
    """What a plugin's checks skip, and why, by subject; none may fail."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for check in contract.checks(distribution):
        outcome, detail = contract.run(check)
        assert outcome != "failed", (check.label, detail)
        if outcome == "skipped":
            found[check.subject][check.name] = detail
    return found


def assert_fails(checks: Iterable[Check], wanted: dict[str, str]) -> None:
    """These checks fail with these pieces in their messages, and no other."""
    failed = outcomes(checks, "failed")
    assert failed.keys() == wanted.keys(), failed
    for name, piece in wanted.items():
        assert piece in failed[name]


NO_MODULE = "not a torch.nn.Module"
ONLY_MODULES = ("state dict round trip", "loads from the meta device", "gradients reach every parameter")
SKIPPED: dict[str, dict[str, str]] = {
    "encoder whole_mean": {"streaming equals offline": "does not stream"},
    "search best": {"streaming equals one pass": "does not stream"},
    "search alone": {"streaming equals one pass": "does not stream"},
    "search versioned": {"streaming equals one pass": "does not stream"},
    "preprocessor blocks": {"gradients reach every parameter": "has no parameters to train"},
    "augmentation mask": {"gradients reach every parameter": "has no parameters to train"},
    "task spell": dict.fromkeys(("trains", "scores"), "it cannot be trained, and does not say that it can"),
    "task embed": dict.fromkeys(("trains", "scores"), "it cannot be trained, and does not say that it can"),
}
if find_spec("triton") is None:
    SKIPPED["kernel good_scan/fast"] = {"loads": "needs triton, which is not installed here"}
SKIPPED_KINDS = {
    "loss first_label": dict.fromkeys(ONLY_MODULES, NO_MODULE),
    "loss lattice": dict.fromkeys(ONLY_MODULES, NO_MODULE),
    "loss distance": {"gradients reach every parameter": "has no parameters to train"},
}
"""What does not apply to some of the good components, and why; they pass all else."""


BROKEN = {
    "encoder broken/no_doc": {"documented": "empty doc"},
    "encoder broken/long_doc": {"documented": "several lines"},
    "encoder broken/config_can_change": {"config is frozen": "broken_parts.config:Loose is not frozen"},
    "encoder broken/field_without_help": {"fields have help": "no help for secret"},
    "encoder broken/tiny_does_not_fill": {"tiny config fills": "widht: unknown key. Did you mean 'width'"},
    "encoder broken/no_tiny": {"tiny config fills": 'has no tiny config, and width must be given: write tiny={"width": …}'},
    "encoder broken/config_raises": {"tiny config fills": "no width is wide enough"},
    "encoder broken/config_exits": {"tiny config fills": "SystemExit: no width is wide enough"},
    "encoder broken/config_is_no_class": {"loads": "config 'broken_parts.config:Plain' is not an attrs class"},
    "encoder broken/config_grows": {"config round trip": "width=9) became Changed(width=10)"},
    "encoder broken/config_is_no_yaml": {"config round trip": "cannot be written as YAML"},
    "encoder broken/takes_any_key": {"unknown key fails": "can't set attribute"},
    "encoder broken/no_docstring": {"target documented": "broken_parts.encoder:nameless has no docstring"},
    "encoder broken/no_target": {"loads": "its target: 'broken_parts.encoder' has no attribute 'Gone'"},
    "encoder broken/no_config": {"loads": "its config: 'broken_parts.config' has no attribute 'Gone'"},
    "encoder broken/no_mapping": {"loads": "No module named 'broken_parts.nemo'"},
    "encoder broken/raises": {"builds": "RuntimeError: no such luck (encoder.py:"},
    "encoder broken/exits": {"builds": "SystemExit: no such luck (encoder.py:"},
    "encoder broken/writes_environment": {"constructor leaves all else alone": "changes os.environ"},
    "encoder broken/changes_folder": {"constructor leaves all else alone": "changes the working directory"},
    "encoder broken/changes_dtype": {"constructor leaves all else alone": "changes torch's default dtype"},
    "encoder broken/seeds": {"constructor leaves all else alone": "changes torch's seed"},
    "encoder broken/writes_config": {"constructor leaves all else alone": "writes into its config"},
    "encoder broken/forgets_a_number": {"state dict round trip": "not in there"},
    "encoder broken/forgets_a_table": {
        "loads from the meta device": "it keeps tensors where they cannot be found; make them buffers"
    },
    "encoder broken/keeps_dropout": {
        "deterministic in eval": "given a second time, gives another result",
        "state dict round trip": "",
        "padding invariance": "",
        "batch order": "",
        "streaming equals offline": "",
    },
    "encoder broken/counts_calls": {"deterministic in eval": "writes into calls"},
    "encoder broken/loses_precision": {"finite in bfloat16": "not finite"},
    "encoder broken/refuses_float32": {"finite in bfloat16": "RuntimeError"},
    "encoder broken/unused_parameter": {"gradients reach every parameter": "no gradient reaches spare"},
    "encoder broken/detached_parameter": {"gradients reach every parameter": "enter.weight, enter.bias"},
    "encoder broken/no_subsampling": {"attributes": "subsampling is 2.0"},
    "encoder broken/wrong_width": {"shapes and lengths": "8 wide, and d_out says 9"},
    "encoder broken/int32_lengths": {"shapes and lengths": "torch.int32"},
    "encoder broken/too_many_frames": {"shapes and lengths": "subsampling says 3"},
    "encoder broken/leaks_padding": {"padding invariance": "padding leaks"},
    "encoder broken/relative_lengths": {"padding invariance": "must not depend on the padding"},
    "encoder broken/forgets_to_unsort": {"batch order": "order of the batch"},
    "encoder broken/fails_on_nothing": {"short recordings": "not finite"},
    "encoder broken/forgets_between_pieces": {"streaming equals offline": "give other frames than as a whole"},
    "encoder broken/loses_the_last_piece": {"streaming equals offline": "and as a whole"},
    "encoder broken/mixes_streams": {"streaming equals offline": "that begin and end at different times"},
    "encoder broken/writes_states": {"streaming equals offline": "used once gives something else"},
    "encoder broken/needs_too_much": {"streaming equals offline": "needs says 2 more give a frame, and 1 more give 1"},
    "encoder broken/writes_features": {"leaves its arguments alone": "it writes into its feats: compute a new one"},
    "encoder broken/writes_while_streaming": {"leaves its arguments alone": "step: it writes into its feats"},
    "encoder broken/writes_lengths": {"leaves its arguments alone": "it writes into its lens"},
    "encoder broken/deaf": {"another input gives another result": "3 inputs of different noise give one and the same result"},
    "preprocessor broken/no_sample_rate": {"attributes": "sample_rate is 8000.0, not a positive whole number"},
    "preprocessor broken/wrong_frame_rate": {"shapes and lengths": "200 frames more, and frame_rate says 200.0"},
    "preprocessor broken/int32_lengths": {"shapes and lengths": "torch.int32"},
    "preprocessor broken/normalizes_padding": {"padding invariance": "padding leaks"},
    "preprocessor broken/one_frame_deviation": {"short recordings": "recordings of 1 samples give numbers that are not finite"},
    "preprocessor broken/loses_the_last_block": {"streaming equals offline": "and as a whole"},
    "preprocessor broken/writes_samples": {"leaves its arguments alone": "it writes into its wav"},
    "preprocessor broken/deaf": {"another input gives another result": "one and the same result"},
    "augmentation broken/always": {"identity in eval": "changes features in eval"},
    "augmentation broken/shortens": {"keeps the shape": "(2, 55, 16)"},
    "augmentation broken/never": {"changes features in training": "changed nothing"},
    "augmentation broken/writes_in_training": {"leaves its arguments alone": "in training: it writes into its feats"},
    "decoder broken/other_width": {"attributes": "its d_in is 17, built with d_in=16"},
    "decoder broken/unknown_search": {"names its search": "Did you mean 'best'"},
    "decoder broken/no_family": {"attributes": "its family is None, not a word"},
    "decoder broken/of_another_family": {"search reads its family": "'best' reads frames heads, and its family is 'blocks'"},
    "decoder broken/asks_speakers": {
        "asks for what training has": "its forward needs speakers, and training offers enc, lens, labels, label_lens"
    },
    "decoder broken/writes_vectors": {"leaves its arguments alone": "it writes into its enc"},
    "decoder broken/deaf": {"another input gives another result": "one and the same result"},
    "decoder broken/carries_exits": {"names its search": "its search cannot be used: SystemExit: not today"},
    "search broken/one_for_all": {"hypotheses": "3 utterances gave 1"},
    "search broken/lacks_ends": {"hypotheses": "not equally many"},
    "search broken/goes_back": {"hypotheses": "the starts go back"},
    "search broken/ends_early": {"hypotheses": "ends before it starts"},
    "search broken/finds_blanks": {"hypotheses": "below 12"},
    "search broken/plain_tuples": {"hypotheses": "not a sonant.protocols.Hypothesis"},
    "search broken/ends_in_samples": {"hypotheses": "ends more than 8 frames behind the utterance"},
    "search broken/infinite_score": {"hypotheses": "the score is not finite"},
    "search broken/finds_nothing": {"hypotheses": "finds no labels in noise, however loud"},
    "search broken/gives_none": {"hypotheses": "3 utterances gave 0 hypotheses"},
    "search broken/forgets_the_position": {"streaming equals one pass": "gives the starts (0, "},
    "search broken/one_position": {"streaming equals one pass": "gives the starts"},
    "search broken/writes_its_state": {"streaming equals one pass": "gives the starts"},
    "search broken/scores_twice": {"streaming equals one pass": "has scores that add up to"},
    "search broken/reads_words": {"has a decoder": "no installed decoder names it or is of its families (words)"},
    "search broken/deaf": {"another utterance gives another hypothesis": "give the same hypotheses"},
    "search broken/writes_vectors": {"leaves its arguments alone": "it writes into its enc"},
    "search broken/searches_padding": {"batch invariance": "padding leaks into the search"},
    "search broken/always_one": {"empty utterances": "an utterance of no frames gave"},
    "tokenizer broken/no_files": {"loads": "its tiny_files: 'broken_parts.tokenizer' has no attribute 'files'"},
    "tokenizer broken/counts_wrong": {"attributes": "vocab_size is 6.0"},
    "tokenizer broken/numbered_pieces": {"vocabulary": "other things than text"},
    "tokenizer broken/ids_from_one": {"text round trip": "has ids [6], and vocab_size says 6"},
    "tokenizer broken/writes_backwards": {"text round trip": "comes back as"},
    "tokenizer broken/only_reads": {"text round trip": "none of its ids"},
    "tokenizer broken/one_id": {"tells texts apart": "have no other id than {0}"},
    "tokenizer broken/takes_ids_away": {"leaves its arguments alone": "decode: it writes into its ids"},
    "task broken/loses_one": {"infers": "3 recordings gave 2 results"},
    "task broken/draws_anew": {"saved and opened": "gives another result"},
    "task broken/cannot_be_built": {"builds": "ValueError: no encoder is good enough (task.py:"},
    "task broken/lacks_a_part": {"builds": "no vocoder with a tiny config is installed to build it with"},
    "task broken/hears_padding": {"batch invariance": "recording 2 of 3, of 1.3 s, gives another one alone than in"},
    "task broken/writes_samples": {"leaves its arguments alone": "it writes into its wav"},
    "task broken/lacks_a_score": {"trains": "it has no prepare, collate, score:", "scores": "it has no prepare, collate, score:"},
    "task broken/names_it_otherwise": {"trains": "loss() returns entropy; the one to minimize is called 'loss'"},
    "task broken/learns_nothing": {"trains": "its loss has no gradient"},
    "task broken/one_loss_for_each": {"trains": "not one finite number"},
    "task broken/scores_one": {"scores": "3 examples gave 1 scores"},
    "task broken/counts_nothing": {"scores": "has no counts, as {'wer': (errors, words)}"},
}

BROKEN_KINDS = {
    "loss broken/mute": {"reduction stated": "does not state the reduction"},
    "loss broken/one_for_each": {"one finite number": "a tensor of shape (3,), not a scalar"},
    "loss broken/infinite": {"one finite number": "random inputs give inf"},
    "loss broken/mean_over_padding": {"padding invariance": "in the count of a mean too"},
    "loss broken/sums_padding": {"padding invariance": "other padding the loss is another"},
    "loss broken/detached": {"gradients reach the model": "has no gradient for logits"},
    "loss broken/ignores_weights": {"gradients reach the model": "no gradient reaches weights"},
    "loss broken/drops_at_random": {"deterministic": "given a second time", "padding invariance": ""},
    "loss broken/forgets_its_scale": {"state dict round trip": "not in there"},
    "loss broken/spare_weights": {"gradients reach every parameter": "no gradient reaches spare"},
    "loss broken/unheard": {"asks for what there is": "it asks for heat, and no installed decoder returns that"},
    "loss broken/writes_logits": {"leaves its arguments alone": "it writes into its logits"},
    "loss broken/always_zero": {"another input gives another result": "one and the same result"},
    "optimizer broken/own_class": {"is a torch optimizer": "it is a OwnClass, not a torch.optim.Optimizer"},
    "optimizer broken/no_rate": {"is a torch optimizer": "a group has no 'lr'"},
    "optimizer broken/takes_no_groups": {"honours groups": "cannot be built with groups of parameters: AttributeError"},
    "optimizer broken/uphill": {"goes downhill": "50 steps on a convex quadratic took it from"},
    "optimizer broken/forgets": {"goes on where it stopped": "resumed from its state dict, it takes other steps"},
    "optimizer broken/keeps_an_object": {"goes on where it stopped": "its state dict holds broken_kinds.optimizer.OwnClass"},
    "optimizer broken/one_rate": {"honours groups": "parameters of a group with lr 0 are moved"},
    "optimizer broken/shared_rate": {"honours groups": "the parameters of the second group are not moved"},
    "scheduler broken/negative": {"learning rates": "at step 96 of 100 the learning rates are [-0.001"},
    "scheduler broken/tells_another": {"learning rates": "get_last_lr gives [0.1, 0.02]"},
    "scheduler broken/all_zero": {"learning rates": "nothing would be learnt"},
    "scheduler broken/forgets": {"goes on where it stopped": "after 33 steps, it has other learning rates at step 33"},
    "scheduler broken/one_for_all": {"goes on where it stopped": "it has other learning rates"},
    "scheduler broken/stops": {"outlasts the run": "it raises ValueError: the run is over"},
    "vocoder broken/other_width": {"attributes": "its d_in is 17, built with d_in=16"},
    "vocoder broken/no_rate": {"attributes": "its sample_rate is None"},
    "vocoder broken/three_dimensions": {"shapes and lengths": "shape (2, 1200, 1), not (B, N)"},
    "vocoder broken/too_few_samples": {"shapes and lengths": "20 frames more give 400 samples more, and upsampling says 40"},
    "vocoder broken/normalizes": {"padding invariance": "padding leaks"},
    "vocoder broken/one_frame_deviation": {"short recordings": "features of 1 frames give numbers that are not finite"},
    "vocoder broken/writes_features": {"leaves its arguments alone": "it writes into its feats"},
    "vocoder broken/zeros": {"another input gives another result": "one and the same result"},
    "codec broken/no_size": {"attributes": "its codebook_size is 5.0"},
    "codec broken/floats": {"codes": "the codes are torch.float32"},
    "codec broken/too_large": {"codes": "the codes go from 7 to 7, and codebook_size is 5"},
    "codec broken/too_slow": {"codes": "200 frames more, and frame_rate says 50"},
    "codec broken/too_short": {"comes back as long": "8000 samples come back as 7800"},
    "codec broken/hears_padding": {"padding invariance": "padding leaks into the codes"},
    "codec broken/decodes_padding": {"padding invariance": "padding leaks into the result"},
    "codec broken/one_frame_deviation": {"short recordings": "not finite"},
    "codec broken/writes_codes": {"leaves its arguments alone": "decode: it writes into its codes"},
    "codec broken/deaf": {"another input gives another result": "encode: 3 inputs of different noise"},
    "codec broken/mute": {"another input gives another result": "decode: 3 inputs of different noise"},
    "clusterer broken/from_one": {"labels": "the labels are [1, 2, 3], not counted from 0"},
    "clusterer broken/int32": {"labels": "torch.int32"},
    "clusterer broken/ignores_the_number": {"number of speakers": "asked for 1 speakers, it finds 3"},
    "clusterer broken/needs_two": {"one embedding": "nothing to compare"},
    "clusterer broken/order_matters": {"order of the pieces": "put together in another way"},
    "clusterer broken/by_rank": {"tells speakers apart": "groups of 8 embeddings each, far apart and with n_speakers=3"},
    "clusterer broken/writes_embeddings": {"leaves its arguments alone": "it writes into its embeddings"},
    "text_frontend broken/no_size": {"attributes": "its vocab_size is 0"},
    "text_frontend broken/ids_from_one": {"ids": "has ids [27, 27], and vocab_size says 27"},
    "text_frontend broken/silent": {"ids": "none of these texts gives an id"},
    "text_frontend broken/no_empty_text": {"empty text": "IndexError"},
    "text_frontend broken/grows": {"deterministic": "encoded by another copy of it, has other ids"},
    "text_frontend broken/one_id": {"tells texts apart": "have no other id than {0}"},
    "text_frontend broken/takes_ids_away": {"leaves its arguments alone": "decode: it writes into its ids"},
}
"""What each broken component fails, with a piece of the message; it passes or skips all else."""

BROKEN_PLUGINS = {
    "heavy-config": {"imports no torch": "heavy_config/config.py:3"},
    "slow-plugin": {"import time": "more than 0.2 s"},
    "acme-clash": {"names of its own": "encoder 'running_mean' (of good-parts 1.0)"},
    "acme-renamed": {"old names stay": "encoder 'acme/gru', though 'acme/gru.v2' is"},
    "acme-cards": {"model cards": "models.tiny"},
    "acme-lost": {"model cards": "models.tiny: weights/tiny.nemo is not there, beside lost.yaml: is it part of the wheel?"},
    "acme-commands": {"commands": "its commands cannot be added: RuntimeError: no such luck"},
    "acme-mute": {"commands": "no help for acme sing"},
    "acme-untitled": {"summary": "the package has no summary"},
    "acme-lonely": {"bound on sonant": "the package does not require sonant: write"},
    "acme-unbounded": {"bound on sonant": "requires sonant>=0.1, without an upper bound"},
}
BROKEN_KERNELS = {
    "kernel acme_scan/abacus": {"known requirements": "it requires abacus, and known are cuda, cpu, triton"},
    "kernel acme_scan/gone": {"loads": "No module named 'acme_gone'"},
    "kernel acme_scan/data": {"loads": "acme_kernels:TABLE is a dict, which cannot be called"},
    "kernel acme_scan/picky": {"loads": "acme_kernels:TABLE is a dict, which cannot be called"},
    "kernel acme_scan/mute": {"documented": "empty doc"},
}
"""The same for whole plugins, and for kernels."""
