"""Attention with relative positions (Transformer-XL, Dai et al., 2019), the operation `rel_pos_attention`.

Every backend computes, for query i and key j with i counted from the first key,

    score(i, j) = ((q_i + u) . k_j + (q_i + v) . p_{i-j}) / sqrt(d)
    out_i = sum_j softmax_j(score(i, j)) value_j        over the j that i may see; zero where there is none

with the signature

    rel_pos_attention(q, k, v, p, u, v_bias, *, rows=None, keys=None, reach=None, extra=None) -> (B, Tq, H, d)

    q              (B, Tq, H, d)        queries; the last Tq of the Tk positions
    k, v           (B, Tk, H, d)        keys and values
    p              (M, H, d)            projected positions of the distances i - j = before … -after, descending
    u, v_bias      (H, d)               the two learned biases
    rows           (2, Tq) or None      for each query the keys it may see, [start, stop): window, chunks, causality
    keys           (2, B) or None       for each recording its valid keys, [start, stop): padding, a filling cache
    reach          (before, after)      how far `rows` lets any query see, at most (Tk - 1, Tq - 1), which None means. With
                                        it a backend need not look beyond: work and memory grow with Tq times the reach
    extra          (scores, values)     (B, H, Tq, G) and (B, G, H, d), or None: G keys out of order that all queries see
                                        besides, their scores complete; -inf hides one
"""
