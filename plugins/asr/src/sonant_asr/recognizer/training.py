"""What a recognizer learns from: utterances with their labels, the losses of its heads, and how well it does."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from sonant import lengths
from sonant.errors import ConfigError
from sonant.inputs import Item
from sonant.runtime import Batch
from sonant.training import Example, Score
from sonant_asr.recognizer import intermediate
from sonant_asr.recognizer import prompt as prompts
from sonant_asr.recognizer.prompt import Prompt


@frozen(eq=False)
class Utterance:
    """One recording with its labels: `wav` `(N,)`, `labels` `(U,)`; `prompt` for a model that takes any."""

    item: Item
    wav: Tensor
    labels: Tensor
    prompt: Prompt | None


@frozen(eq=False)
class Labelled:
    """Recordings with their labels: `wav` `(B, N)`, `lens` `(B,)`, `labels` `(B, U)`, `label_lens` `(B,)`."""

    items: tuple[Item, ...]
    wav: Tensor
    lens: Tensor
    labels: Tensor
    label_lens: Tensor
    prompts: tuple[Prompt, ...] | None

    def to(self, device: Any, **how: Any) -> Self:
        """The same with its tensors on a device."""
        names = ("wav", "lens", "labels", "label_lens")
        return evolve(self, **{name: getattr(self, name).to(device, **how) for name in names})

    def pin_memory(self) -> Self:
        """The same in memory from which copies to a GPU are fast."""
        names = ("wav", "lens", "labels", "label_lens")
        return evolve(self, **{name: getattr(self, name).pin_memory() for name in names})


def prepare(model: Any, example: Example) -> Utterance:
    """An example's text as the model's labels.

    Raises:
        ValueError: it has no text, or one that the tokenizer cannot spell, or no samples, or asks for what the model cannot do.
    """
    text = example.row.get("text")
    if not isinstance(text, str):
        raise ValueError('it has no "text", which says what was said')
    if not len(example.samples):
        raise ValueError("it has no samples")
    item, prompt = prompts.learnt(model.takes_prompts(model.decoder), Item(None, example.name, row=dict(example.row)))
    labels = torch.tensor(_labels(model, text, example.row, prompt), dtype=torch.int64)
    return Utterance(item, torch.from_numpy(example.samples), labels, prompt)


def _labels(model: Any, text: str, row: Mapping[str, Any], prompt: Prompt | None) -> list[int]:
    if prompt is not None and hasattr(model.decoder, "labels_of"):
        return list(model.decoder.labels_of(text, prompt))
    told = (text, row.get("lang")) if hasattr(model.tokenizer, "languages") else (text,)
    labels = list(model.tokenizer.encode(*told))
    if hasattr(model.decoder, "check_length"):
        model.decoder.check_length(1 + len(labels))  # it is told nothing: its text begins with one token
    return labels


def collate(utterances: Sequence[Utterance]) -> Labelled:
    """A batch, padded."""
    wav, lens = lengths.pad([one.wav for one in utterances])
    labels, label_lens = lengths.pad([one.labels for one in utterances])
    asked = tuple(one.prompt for one in utterances if one.prompt is not None)
    return Labelled(tuple(one.item for one in utterances), wav, lens, labels, label_lens, asked or None)


def losses(model: Any, batch: Labelled, loss: Any, aux_loss: Any = None) -> dict[str, Tensor]:
    """The loss of the head, or of both heads, of which the second's counts `aux_loss_weight`; and those on layers within the
    encoder, where `interctc` names any.

    Raises:
        ConfigError: a head has no loss, or a loss no head; `interctc` asks for what is not there.
    """
    if (model.aux_decoder is None) != (aux_loss is None):
        missing, present = ("aux_loss", "aux_decoder") if aux_loss is None else ("aux_decoder", "aux_loss")
        raise ConfigError(f"{missing} is missing: a second head and its loss go together, and there is an {present}")
    ctc = _ctc(model, loss, aux_loss)
    enc, lens, layers = intermediate.encode(model, batch.wav, batch.lens)
    said = {"labels": batch.labels, "label_lens": batch.label_lens, "prompts": batch.prompts}
    found = _of_heads(model, said | {"enc": enc, "lens": lens}, loss, aux_loss)
    if not layers:
        return found
    return found | intermediate.add(
        model, found["loss"], layers, lambda frames, counts: _of_head(*ctc, said | {"enc": frames, "lens": counts})
    )


def _of_heads(model: Any, told: Mapping[str, Any], loss: Any, aux_loss: Any) -> dict[str, Tensor]:
    """The loss of the head; of a hybrid that of both together, as `loss`, and of each."""
    if model.prompt is not None:
        told = {**told, **model.prompt.prompted(told["enc"], told["lens"], told["prompts"])}
    main = _of_head(model.decoder, loss, told)
    if aux_loss is None:
        return {"loss": main}
    aux, weight = _of_head(model.aux_decoder, aux_loss, told), model.config.aux_loss_weight
    names = f"{model.decoder.family}_loss", f"{model.aux_decoder.family}_loss"
    return {"loss": (1 - weight) * main + weight * aux, names[0]: main, names[1]: aux}


def _ctc(model: Any, loss: Any, aux_loss: Any) -> tuple[Any, Any]:
    """The CTC head and its loss, which `interctc` needs.

    Raises:
        ConfigError: it is asked for, and there is none.
    """
    pairs = {model.decoder.family: (model.decoder, loss)}
    if model.aux_decoder is not None:
        pairs[model.aux_decoder.family] = model.aux_decoder, aux_loss
    if model.config.interctc.apply_at_layers and "ctc" not in pairs:
        raise ConfigError(
            f"task.interctc needs a CTC head, and the model's is {' and '.join(pairs)}; decoder or aux_decoder can be one"
        )
    return pairs.get("ctc", (None, None))


def _of_head(head: Any, loss: Any, named: Mapping[str, Any]) -> Tensor:
    out = _call(head, named)
    value: Tensor = _call(loss, {**named, **(out if isinstance(out, Mapping) else {"logits": out})})
    return value


def _call(module: Any, named: Mapping[str, Any]) -> Any:
    """Gives a module what it asks for by name."""
    asked = inspect.signature(getattr(module, "forward", module)).parameters
    return module(**{name: value for name, value in named.items() if name in asked})


def score(model: Any, batch: Labelled) -> list[Score]:
    """Word and character errors of each utterance, of the texts as they are written."""
    from sonant_asr.evaluation import errors

    references = [str(item.row["text"]) for item in batch.items]
    results = [found.text for found in model.infer(Batch(batch.wav, batch.lens, batch.items))]
    words, characters = errors.count(references, results, "word"), errors.count(references, results, "char")
    return [
        Score(
            name=item.name,
            reference=reference,
            result=result,
            counts={"wer": (of_words.errors, of_words.reference), "cer": (of_chars.errors, of_chars.reference)},
        )
        for item, reference, result, of_words, of_chars in zip(batch.items, references, results, words, characters, strict=True)
    ]
