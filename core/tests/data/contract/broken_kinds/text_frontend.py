"""Text frontends that each break one promise."""

from __future__ import annotations

from good_kinds.text_frontend import Letters


class NoSize(Letters):
    def __init__(self, config):
        super().__init__(config)
        self.vocab_size = 0


class IdsFromOne(Letters):
    def encode(self, text):
        return [i + 1 for i in super().encode(text)]

    def decode(self, ids):
        return super().decode([i - 1 for i in ids])


class Silent(Letters):
    def encode(self, text):
        return []


class NoEmptyText(Letters):
    def encode(self, text):
        found = super().encode(text)
        return found if text[-1].isspace() or found else [0]


class Grows(Letters):
    """It numbers letters in the order in which it meets them."""

    def __init__(self, config):
        super().__init__(config)
        self.symbols = []
        self.vocab_size = 26

    def encode(self, text):
        letters = [c for c in text.lower() if "a" <= c <= "z"]
        self.symbols += [c for c in dict.fromkeys(letters) if c not in self.symbols]
        return [self.symbols.index(c) for c in reversed(letters)]

    def decode(self, ids):
        return "".join(self.symbols[i] for i in ids if i < len(self.symbols))


class OneId(Letters):
    def encode(self, text):
        return [0 for _ in super().encode(text)]


class TakesIdsAway(Letters):
    def decode(self, ids):
        text = super().decode(ids)
        ids.clear()
        return text
