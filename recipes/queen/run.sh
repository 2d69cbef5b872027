#!/bin/sh
# From nothing to the model and its error rates. Each stage is done once; a second call goes on where the first stopped.
#
#   ./run.sh                              all of it
#   ./run.sh trainer.max_steps=2000       with other values of config.yaml for the main training
#   DEB=flight-of-the-amazon-queen_1.0.0-9_all.deb ./run.sh      with the package at hand
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python}
START=runs/start/version_0
MAIN=runs/queen/version_0
RUN=runs/polish/version_0
REPORTS=$RUN/reports

"$PYTHON" fetch.py --output data ${DEB:+--deb "$DEB"}
[ -f data/train.txt ] || "$PYTHON" prepare.py --output data
[ -f data/tokenizer/tokenizer.model ] || sonant tokenizer train data/train.txt -o data/tokenizer --size 64

# The beginning is learned from clean examples, without dropout: with them the model writes the same letters everywhere for hours.
[ -d "$START/model" ] || sonant train config.yaml --resume exp_manager.name=start exp_manager.version=version_0 \
  trainer.devices=1 trainer.max_steps=1500 optim.lr=3.0e-3 optim.sched.name=cosine optim.sched.min_lr=2.0e-5 \
  encoder.dropout=0.0 encoder.dropout_pre_encoder=0.0 \
  augmentation.freq_masks=0 augmentation.time_masks=0 'train_ds.perturb.speed=[]'
[ -d "$MAIN/model" ] || sonant train config.yaml --resume exp_manager.version=version_0 "init.from=$START/model" "$@"
# What the steady rate has found is settled by one that falls.
[ -d "$RUN/model" ] || sonant train config.yaml --resume exp_manager.name=polish exp_manager.version=version_0 \
  "init.from=$MAIN/model" trainer.max_steps=2000 optim.lr=1.5e-3 \
  optim.sched.name=cosine optim.sched.warmup_steps=100 optim.sched.min_lr=1.0e-5

[ -f "$RUN/lm.arpa" ] || "$PYTHON" ngram.py data/train.txt --tokenizer data/tokenizer/tokenizer.model --output "$RUN/lm.arpa"
[ -f "$RUN/search.yaml" ] || "$PYTHON" search.py tune data/dev.jsonl --model "$RUN/model" --lm "$RUN/lm.arpa" --output "$RUN/search.yaml"

for split in test test_speakers; do
  echo "== $split, greedy"
  sonant evaluate "data/$split.jsonl" --model "$RUN/model" --output "$REPORTS/$split"
  echo "== $split, with the n-gram"
  heard="$REPORTS/$split-ngram/heard.jsonl"
  [ -f "$heard" ] || "$PYTHON" search.py hear "data/$split.jsonl" --model "$RUN/model" --search "$RUN/search.yaml" --output "$heard"
  sonant evaluate "data/$split.jsonl" --hypotheses "$heard" --output "$REPORTS/$split-ngram"
done
