"""A clusterer: whatever is nearest is put together first."""

from __future__ import annotations

import torch


class Nearest:
    """Single linkage, down to a number of groups or up to a distance."""

    def __init__(self, config):
        self.config = config

    def __call__(self, embeddings, *, n_speakers=None):
        distances = torch.cdist(embeddings, embeddings).fill_diagonal_(torch.inf)
        groups = list(range(len(embeddings)))
        while len(set(groups)) > (n_speakers or 1):
            i, j = divmod(int(distances.argmin()), len(groups))
            if n_speakers is None and distances[i, j] > 0.7:
                break
            old, new = groups[i], groups[j]
            groups = [new if group == old else group for group in groups]
            same = torch.tensor(groups)
            distances[same[:, None] == same] = torch.inf
        return self.number(groups)

    def number(self, groups):
        order = list(dict.fromkeys(groups))
        return torch.tensor([order.index(group) for group in groups])
