"""Answers to the exercises of notebook 12: wrong ones, each with what its message must say, and unusual right ones."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from utils import datasets


def gathered(states, lengths):
    places = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, places)[:, 0]


def listed(states, lengths):
    return torch.stack([rows[int(length) - 1] for rows, length in zip(states, lengths, strict=True)])


def mean_of_real(states, lengths):
    real = (torch.arange(states.shape[1]) < lengths[:, None])[..., None]
    return (states * real).sum(dim=1) / lengths[:, None]


def off_by_one(states, lengths):
    return states[torch.arange(len(states)), lengths % states.shape[1]]


def by_cross_entropy(logits, words):
    return -F.cross_entropy(logits, words, reduction="none").sum(dim=1)


def letter_by_letter(logits, words):
    total = torch.zeros(len(words))
    for step in range(words.shape[1]):
        total = total + logits[:, :, step].softmax(dim=1)[torch.arange(len(words)), words[:, step]].log()
    return total


def picked(table, words):
    return table.gather(1, words[:, None])[:, 0]


def masked(where, value=-math.inf, dim=-1):
    """Attention weights with `value` in place of the scores where `where(row, column)`."""

    def answer(scores):
        places = torch.arange(scores.shape[-1])
        return scores.masked_fill(where(places[:, None], places), value).softmax(dim=dim)

    return answer


def later(row, column):
    return column > row


def renormalised(scores):
    weights = scores.softmax(dim=-1).tril()
    return weights / weights.sum(dim=-1, keepdim=True)


def added(scores):
    return F.softmax(scores + torch.full_like(scores, -math.inf).triu(1), dim=-1)


def only_two_axes(scores):
    return masked(later)(scores) if scores.ndim == 2 else scores.softmax(dim=-1)


def longest(capsules, digits):
    return kept(F.one_hot(capsules.norm(dim=2).argmax(dim=1), 10))(capsules, digits)


def kept(mask=None):
    def answer(capsules, digits):
        chosen = F.one_hot(digits, 10) if mask is None else mask
        return (capsules * chosen[..., None]).flatten(1)

    return answer


def scattered(capsules, digits):
    out = torch.zeros_like(capsules)
    rows = torch.arange(len(capsules))
    out[rows, digits] = capsules[rows, digits]
    return out.reshape(len(capsules), -1)


def einstein(capsules, digits):
    return torch.einsum("nd,nde->nde", F.one_hot(digits, 10).float(), capsules).flatten(1)


def in_place(capsules, digits):
    for row, digit in enumerate(digits.tolist()):
        for other in range(10):
            if other != digit:
                capsules[row, other] = 0
    return capsules.flatten(1)


def heads_of(scale=None, cut="unflatten", join=True, last=True, one=False):
    """Several heads, each way to get them wrong by a choice."""

    def answer(x, W_q, W_k, W_v, W_o, heads):
        heads = 1 if one else heads
        N, T, D = x.shape
        width = D // heads

        def split(y):
            if cut == "reshape":
                return y.reshape(N, heads, T, width)
            return y.unflatten(2, (heads, width)).transpose(1, 2)

        q, k, v = split(x @ W_q), split(x @ W_k), split(x @ W_v)
        by = {None: math.sqrt(width), "none": 1.0, "whole": math.sqrt(D)}[scale]
        y = (q @ k.transpose(2, 3) / by).softmax(dim=3) @ v
        y = y.transpose(1, 2) if join and cut != "reshape" else y
        y = y.reshape(N, T, D)
        return y @ W_o if last else y

    return answer


def in_a_loop(x, W_q, W_k, W_v, W_o, heads):
    outputs = []
    for q, k, v in zip(*((x @ W).chunk(heads, dim=2) for W in (W_q, W_k, W_v)), strict=True):
        weights = F.softmax(torch.bmm(q, k.mT) * q.shape[2] ** -0.5, dim=-1)
        outputs.append(torch.bmm(weights, v))
    return torch.cat(outputs, dim=2) @ W_o


def by_function(x, W_q, W_k, W_v, W_o, heads):
    q, k, v = ((x @ W).unflatten(2, (heads, -1)).transpose(1, 2) for W in (W_q, W_k, W_v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) @ W_o


def by_layer(x, W_q, W_k, W_v, W_o, heads):
    return nn.MultiheadAttention(x.shape[2], heads, batch_first=True)(x, x, x)[0]


def cut_and_compare():
    """The lab's trivial entry."""
    train_set = datasets.digits().train
    known = (train_set.images / 255).flatten(1)

    def read(strips):
        answers = []
        for strip in strips:
            num = max(1, round(strip.shape[1] / 11))
            pieces = F.interpolate(strip[None, None], (8, 8 * num))[0, 0].split(8, dim=1)
            nearest = torch.cdist(torch.stack(pieces).flatten(1), known).argmin(dim=1)
            answers.append(train_set.targets["label"][nearest].tolist())
        return answers

    return read


RIGHT = [
    ("last_real", gathered),
    ("last_real", listed),
    ("log_probability", by_cross_entropy),
    ("log_probability", letter_by_letter),
    ("causal_weights", renormalised),
    ("causal_weights", added),
    ("causal_weights", masked(later)),
    ("attention_size", lambda side, patch: torch.tensor(((side / patch) ** 2 + 1) ** 2)),
    ("attention_size", lambda side, patch: float(((side // patch) ** 2 + 1) ** 2)),
    ("keep_one", scattered),
    ("keep_one", einstein),
    ("multi_head", in_a_loop),
    ("multi_head", heads_of()),
]

WRONG = [
    ("last_real", lambda states, lengths: states[:, -1], "after the padding"),
    ("last_real", lambda states, lengths: states[:, 0], "after the first step"),
    ("last_real", off_by_one, "One step too far"),
    ("last_real", mean_of_real, "not the last"),
    ("last_real", lambda states, lengths: states[:, lengths - 1], "one state for each of 4 sequences"),
    ("last_real", lambda states, lengths: states[:, 1], "not the states at the places"),
    ("log_probability", lambda logits, words: -by_cross_entropy(logits, words), "The sign"),
    ("log_probability", lambda logits, words: by_cross_entropy(logits, words) / 6, "the mean over the letters"),
    ("log_probability", lambda logits, words: by_cross_entropy(logits, words) / -6, "the mean loss of a letter"),
    ("log_probability", lambda logits, words: by_cross_entropy(logits, words).exp(), "the probability itself"),
    ("log_probability", lambda logits, words: picked(logits.softmax(1), words).sum(1), "You add probabilities"),
    ("log_probability", lambda logits, words: picked(logits, words).sum(1), "sums of logits"),
    ("log_probability", lambda logits, words: picked(logits.log_softmax(2), words).sum(1), "runs along the word"),
    ("log_probability", lambda logits, words: logits.log_softmax(1).amax(1).sum(1), "likes best"),
    ("log_probability", lambda logits, words: picked(logits.log_softmax(1), words), "one number for each of 4"),
    ("log_probability", lambda logits, words: logits.log_softmax(1).sum(dim=(1, 2)), "For the first word expected"),
    ("causal_weights", lambda scores: scores.softmax(dim=-1), "still sees all others"),
    ("causal_weights", lambda scores: scores.softmax(dim=-1).tril(), "no longer add up to 1"),
    ("causal_weights", masked(later, value=0.0), "A score of 0 is not a weight of 0"),
    ("causal_weights", masked(lambda row, column: column < row), "The wrong way round"),
    ("causal_weights", masked(later, dim=0), "columns add up to 1"),
    ("causal_weights", masked(lambda row, column: column >= row), "Each place may see itself"),
    ("causal_weights", only_two_axes, "With a batch and heads"),
    ("causal_weights", lambda scores: scores, "Row 0 should be 1"),
    ("attention_size", lambda side, patch: (side // patch) ** 4, "The class token is missing"),
    ("attention_size", lambda side, patch: (side // patch) ** 4 + 1, "adds a row and a column"),
    ("attention_size", lambda side, patch: (side // patch) ** 2 + 1, "number of tokens"),
    ("attention_size", lambda side, patch: (side // patch) ** 2, "number of patches"),
    ("attention_size", lambda side, patch: (side // patch + 1) ** 2, "rows *and* columns"),
    ("attention_size", lambda side, patch: side**4, "Tokens are patches"),
    ("attention_size", lambda side, patch: 38809, "expected 616,225"),
    ("keep_one", lambda capsules, digits: capsules[torch.arange(len(capsules)), digits], "want 80"),
    ("keep_one", lambda capsules, digits: capsules.flatten(1), "All ten capsules are still there"),
    ("keep_one", lambda capsules, digits: kept()(capsules, digits).reshape(capsules.shape), "flatten(1) makes 80"),
    ("keep_one", lambda capsules, digits: kept(1 - F.one_hot(digits, 10))(capsules, digits), "that you removed"),
    ("keep_one", longest, "You keep the longest"),
    ("keep_one", in_place, "changed `capsules` itself"),
    ("keep_one", lambda capsules, digits: torch.zeros(3, 80), "at their own places"),
    ("multi_head", by_function, "uses scaled_dot_product_attention"),
    ("multi_head", by_layer, "uses MultiheadAttention"),
    ("multi_head", heads_of(last=False), "W_o is missing"),
    ("multi_head", heads_of(one=True), "one head of width 12"),
    ("multi_head", heads_of(scale="none"), "not divided by the root"),
    ("multi_head", heads_of(scale="whole"), "divide by the root of 12"),
    ("multi_head", heads_of(cut="reshape"), "mixes tokens and numbers"),
    ("multi_head", heads_of(join=False), "joined in the wrong order"),
    ("multi_head", lambda x, W_q, W_k, W_v, W_o, heads: x, "differ from PyTorch's"),
    ("lab", lambda: "done", "returned a str"),
    ("lab", lambda: lambda strips: [[0]], "expected as many answers"),
    ("lab", lambda: lambda strips: [[0] for _ in strips], "Begin with the number of digits"),
    ("lab", cut_and_compare, "80% counts as good"),
]

attend = F.scaled_dot_product_attention  # an alias


def by_alias(x, W_q, W_k, W_v, W_o, heads):
    q, k, v = ((x @ W).unflatten(2, (heads, -1)).transpose(1, 2) for W in (W_q, W_k, W_v))
    return attend(q, k, v).transpose(1, 2).flatten(2) @ W_o


def by_linear(x, W_q, W_k, W_v, W_o, heads):
    return heads_of()(x, W_q.T, W_k.T, W_v.T, W_o.T, heads)


RIGHT += [
    ("last_real", lambda states, lengths: listed(states.double(), lengths)),
    ("causal_weights", lambda scores: masked(later)(scores.double())),
    ("keep_one", lambda capsules, digits: kept()(capsules.double(), digits)),
]
WRONG += [
    ("causal_weights", lambda scores: masked(lambda row, column: column >= row)(scores).nan_to_num(), "may see itself"),
    ("attention_size", lambda side, patch: f"{((side // patch) ** 2 + 1) ** 2:,}", "Expected one number"),
    ("multi_head", by_alias, "uses scaled_dot_product_attention"),
    ("multi_head", by_linear, "Your matrices are transposed"),
    ("lab", lambda: lambda strips: [123 for _ in strips], "Expected a list of digits"),
    ("lab", lambda: lambda strips: None, "expected a list of lists"),
]
