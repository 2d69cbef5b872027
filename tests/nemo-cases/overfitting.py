"""Overfits NeMo's recognizers to a few recordings, for `make_variants.py`: with an RNN-T and TDT loss that is quick on a CPU."""

import torch


def ids(found) -> list[list[int]]:
    return [[int(i) for i in hypothesis.y_sequence] for hypothesis in found]


def fit(model, encoded: list, wanted: list[list[list[int]]]) -> None:
    """Train what picks labels, and the encoder, until each of `encoded`, a function, is spelt as wanted."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(600):
        loss = 0.0
        for encode_now, labels in zip(encoded, wanted, strict=True):
            loss = loss + loss_of(model, *encode_now(), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 19:
            print(step, float(loss.detach()), flush=True)
            with torch.no_grad():
                found = [best(model, *encode_now()) for encode_now in encoded]
            if found == wanted and float(loss.detach()) < 1.0 * len(encoded):
                return
    raise SystemExit("not learnt")


def loss_of(model, enc, enc_len, labels: list[list[int]]):
    """Of the transducer and the CTC head, whichever there are; a sum over recordings."""
    sizes = torch.tensor([len(row) for row in labels])
    targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in labels], batch_first=True)
    total = 0.0
    if hasattr(model, "joint"):
        pred = model.decoder(targets=targets, target_length=sizes)[0]
        scores = model.joint.joint(enc.transpose(1, 2), pred.transpose(1, 2))
        durations = list(model.cfg.model_defaults.get("tdt_durations") or [])
        for row, (frames, count) in enumerate(zip(enc_len.tolist(), sizes.tolist(), strict=True)):
            total = total - likelihood(scores[row, :frames, : count + 1], targets[row, :count], durations)
    head = getattr(model, "ctc_decoder", None if hasattr(model, "joint") else model.decoder)
    if head is not None:
        logprobs = head(encoder_output=enc).transpose(0, 1)
        blank = logprobs.shape[-1] - 1
        total = total + torch.nn.functional.ctc_loss(logprobs, targets, enc_len, sizes, blank, reduction="sum")
    return total


def likelihood(scores, labels, durations: list[int]):
    """Log-probability that a transducer gives labels `(U,)`, from its scores `(T, U + 1, V + 1 + durations)`.

    Without durations a blank takes one frame, and a label none. Over the labels at one frame the recursion is a cumulative sum.
    """
    frames, size = scores.shape[0], scores.shape[-1] - len(durations)
    spelt = scores[..., :size].log_softmax(-1)
    blank = spelt[..., -1]  # (T, U + 1)
    label = spelt[:, :-1].gather(-1, labels[None, :, None].expand(frames, -1, 1))[..., 0]  # (T, U)
    lasting = {d: scores[..., size + i] - scores[..., size:].logsumexp(-1) for i, d in enumerate(durations)}
    nowhere = torch.full_like(blank[0], -1e4)
    alpha = []
    for t in range(frames + 1):
        arrivals = [nowhere if t else torch.cat([nowhere.new_zeros(1), nowhere[1:]])]
        for d in range(1, t + 1):
            if durations:
                # Only exact arrivals count at the end, except that the last frame may be left with any duration.
                if d in lasting:
                    arrivals.append(alpha[t - d] + blank[t - d] + lasting[d][t - d])
                    arrivals.append(shift(alpha[t - d][:-1] + label[t - d] + lasting[d][t - d][:-1]))
            elif d == 1:
                arrivals.append(alpha[t - 1] + blank[t - 1])
        value = torch.stack(arrivals).logsumexp(0)
        if t < frames and (not durations or 0 in lasting):
            steps = label[t] + (lasting[0][t][:-1] if durations else 0.0)
            total = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
            value = total + (value - total).logcumsumexp(0)
        alpha.append(value)
    return alpha[-1][-1]


def shift(values):
    return torch.cat([values.new_full((1,), -1e4), values])


def best(model, enc, enc_len) -> list[list[int]]:
    if hasattr(model, "joint"):
        found = ids(model.decoding.rnnt_decoder_predictions_tensor(enc, enc_len, return_hypotheses=True))
        if not hasattr(model, "ctc_decoder"):
            return found
        return found if found == collapse(model.ctc_decoder(encoder_output=enc), enc_len) else []
    return collapse(model.decoder(encoder_output=enc), enc_len)


def collapse(logprobs, lens) -> list[list[int]]:
    rows = [row[:n].unique_consecutive().tolist() for row, n in zip(logprobs.argmax(-1), lens, strict=True)]
    return [[i for i in row if i != logprobs.shape[-1] - 1] for row in rows]
