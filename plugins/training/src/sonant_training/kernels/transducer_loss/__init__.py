"""The loss of transducers, the operation `transducer_loss`: RNN-T (Graves, 2012) and TDT (Xu et al., 2023).

A path begins at frame 0 with no label written. At frame t behind u labels it writes a blank or the next label, and both move on
by a number of frames: in an RNN-T a blank by 1 and a label by 0, in a TDT by one of the durations, which has a probability of
its own, and a blank by more than 0. The path ends where a blank behind the last label leads from the last frames exactly to the
end. The loss is the negative logarithm of the probability of all paths together.

Every backend computes it with the signature

    transducer_loss(
        logits, labels, lens, label_lens, *, durations=(), ignored=0, sigma=0.0, fastemit_lambda=0.0, reuse_logits=False
    ) -> (B,)

    logits           (B, T, U + 1, V + 1 + D)   the blank is behind the V labels, and the D durations behind it; not normalized
    labels           (B, U) int64
    lens, label_lens (B,) int64                 what lies behind them is not looked at
    durations                                   frames, of a TDT
    ignored                                     so many logits at the end are not looked at
    sigma                                       taken off the log-probability of each label and blank
    fastemit_lambda                             FastEmit (Yu et al., 2021): the gradient of writing a label counts 1 + lambda
                                                times, that of its duration does not, and the loss is multiplied by 1 + lambda
    reuse_logits                                where nothing else needs the logits, the gradient may be written over them

and gives infinity, without a gradient, for an utterance that no path fits.
"""
