"""Exercises of notebook 12, sequences, attention, and what comes next."""

import math
import secrets

import torch
import torch.nn.functional as F
from torch import nn

from utils import datasets
from utils.exercises import came, not_used, number, one_thread
from utils.lessons import Exercise


def _check_tensor(result, shape, what) -> torch.Tensor:
    """The result as floats, if it is a tensor of this shape; AssertionError with a sentence otherwise."""
    assert isinstance(result, torch.Tensor) and tuple(result.shape) == tuple(shape), (
        f"Expected {what}, a tensor of shape {tuple(shape)}; {came(result)} came."
    )
    return result.float()


# ---- 1. the last real state ------------------------------------------------------------------------------------------


def last_real(states, lengths):
    return states[torch.arange(len(states)), lengths - 1]


def _check_last_real(last_real):
    lengths = torch.tensor([3, 5, 1, 4])
    states = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    result = last_real(states.clone(), lengths.clone())
    result = _check_tensor(result, (4, 2), "one state for each of 4 sequences")
    rows = torch.arange(4)

    def is_(value):
        return torch.allclose(result, value, atol=1e-6)

    assert not is_(states[:, -1]), (
        "These are the states after the padding. A sequence of 3 steps has its last one at place 2."
    )
    assert not is_(states[rows, lengths % 5]), "One step too far: places count from 0, so the last is lengths - 1."
    assert not is_(states[:, 0]), "These are the states after the first step."
    real = (torch.arange(5) < lengths[:, None])[..., None]
    assert not is_((states * real).sum(dim=1) / lengths[:, None]), "This is the mean over the real steps, not the last."
    assert is_(states[rows, lengths - 1]), "These are not the states at the places lengths - 1, one of each sequence."
    more = last_real(states.repeat(2, 1, 1), lengths.repeat(2))
    more = _check_tensor(more, (8, 2), "one state for each of 8 sequences")
    assert torch.allclose(more, result.repeat(2, 1)), "Right for 4 sequences, and not for 8."
    return "This is h_n of pack_padded_sequence, read from the padded states by hand."


last_real = Exercise(
    "The last real state",
    test=_check_last_real,
    hints=(
        "The last real step of a sequence has the index length - 1.",
        "Two lists of indices pick one state of each sequence: states[rows, places], with rows = 0, 1, 2, ...",
        "states[torch.arange(len(states)), lengths - 1]",
    ),
    reference=last_real,
)

# ---- 2. how sure of a word -------------------------------------------------------------------------------------------


def log_probability(logits, words):
    each = logits.log_softmax(dim=1).gather(1, words[:, None])  # (N, 1, 6)
    return each.sum(dim=(1, 2))


def _check_log_probability(log_probability):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 5, 6, generator=generator)
    words = torch.randint(5, (4, 6), generator=generator)
    result = log_probability(logits.clone(), words.clone())
    result = _check_tensor(result, (4,), "one number for each of 4 words")
    at = words[:, None]
    expected = logits.log_softmax(dim=1).gather(1, at).sum(dim=(1, 2))

    def is_(value):
        return torch.allclose(result, value, atol=1e-4)

    assert not is_(-expected), "The sign: this is the loss. The logarithm of a probability is below zero."
    assert not is_(expected / 6), (
        "This is the mean over the letters. A product of six becomes the sum of six logarithms."
    )
    assert not is_(-expected / 6), (
        "This is the mean loss of a letter. Add the logarithms of all six; they are below zero."
    )
    assert not is_(expected.exp()), "This is the probability itself. Return its logarithm."
    assert not is_(logits.softmax(dim=1).gather(1, at).sum(dim=(1, 2))), (
        "You add probabilities. They are multiplied, so it is their logarithms that are added: log_softmax."
    )
    assert not is_(logits.gather(1, at).sum(dim=(1, 2))), (
        "These are sums of logits. log_softmax over the letters makes them logarithms of probabilities first."
    )
    assert not is_(logits.log_softmax(dim=2).gather(1, at).sum(dim=(1, 2))), (
        "Your softmax runs along the word. For each position, the probabilities of the *letters* add up to 1: dim=1."
    )
    assert not is_(logits.log_softmax(dim=1).amax(dim=1).sum(dim=1)), (
        "This is the probability of the letters that the network likes best. Take those of `words`."
    )
    assert is_(expected), f"For the first word expected {expected[0]:.3f}; {result[0]:.3f} came."
    more = log_probability(logits.repeat(2, 1, 1), words.repeat(2, 1))
    more = _check_tensor(more, (8,), "one number for each of 8 words")
    assert torch.allclose(more, expected.repeat(2), atol=1e-4), "Right for 4 words, and not for 8."
    return "Minus this, divided by the number of letters, is the cross-entropy that the network was trained with."


log_probability = Exercise(
    "How sure of a word",
    test=_check_log_probability,
    hints=(
        "The logarithm of a product is a sum: of the logarithm of each letter's probability.",
        "logits.log_softmax(dim=1) are the logarithms for all letters. .gather(1, words[:, None]) picks the word's.",
        "Then .sum(dim=(1, 2)).",
    ),
    reference=log_probability,
)

# ---- 3. causal attention ---------------------------------------------------------------------------------------------


def causal_weights(scores):
    later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(later, -math.inf).softmax(dim=-1)


def _check_causal_weights(causal_weights):
    scores = 2 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    result = causal_weights(scores.clone())
    result = _check_tensor(result, (5, 5), "a weight for each pair of places")
    assert not result.isnan().any(), (
        "Some weights are NaN: a row in which every score is minus infinity. Each place may see itself."
    )
    seen = torch.ones(5, 5).tril().bool()

    def is_(value):
        return torch.allclose(result, value, atol=1e-5)

    full = scores.softmax(dim=1)
    assert not is_(full), (
        "Every place still sees all others. Those that come later, on the right, should have weight 0."
    )
    assert not is_(full * seen), (
        "The rows no longer add up to 1. Set the scores to -inf before the softmax, not the weights to 0 after it."
    )
    assert not is_((scores * seen).softmax(dim=1)), (
        "A score of 0 is not a weight of 0: e to the 0 is 1. Set the scores of later places to minus infinity."
    )
    assert not is_(scores.masked_fill(~seen.T, -math.inf).softmax(dim=1)), (
        "The wrong way round: now each place sees itself and those that come later. Row i may see the columns 0 to i."
    )
    columns = scores.masked_fill(~seen, -math.inf).softmax(dim=0)
    assert not is_(columns), "Your columns add up to 1. The rows should: softmax(dim=-1)."
    assert not (result.diagonal() == 0).any(), "A weight of a place for itself is 0: each place may see itself."
    assert is_(scores.masked_fill(~seen, -math.inf).softmax(dim=1)), (
        f"Row 0 should be 1, 0, 0, 0, 0 and each row should add up to 1; row 1 is {result[1].tolist()}."
    )
    many = causal_weights(scores.expand(2, 3, 5, 5).clone())
    many = _check_tensor(many, (2, 3, 5, 5), "the same for a batch and several heads")
    assert torch.allclose(many, result.expand(2, 3, 5, 5), atol=1e-5), (
        "With a batch and heads in front, the values are different. Take the softmax over the last axis, dim=-1."
    )
    longer = _check_tensor(causal_weights(torch.zeros(6, 6)), (6, 6), "the same for 6 places")
    assert torch.allclose(longer, torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None], atol=1e-5), (
        "Right for 5 places, and not for 6 with equal scores: row i should have 1 / (i + 1) in the columns 0 to i."
    )
    return "So a network that writes cannot look at what it has yet to write: the mask of every language model."


causal_weights = Exercise(
    "Only what came before",
    test=_check_causal_weights,
    hints=(
        "torch.ones_like(scores).triu(diagonal=1) is 1 where the column comes after the row.",
        "A weight is 0 where the score is minus infinity: scores.masked_fill(later.bool(), -math.inf).",
        "Then .softmax(dim=-1): each row adds up to 1.",
    ),
    reference=causal_weights,
)

# ---- 4. what attention costs -----------------------------------------------------------------------------------------


def attention_size(side, patch):
    tokens = (side // patch) ** 2 + 1
    return tokens**2


def _check_attention_size(attention_size):
    for side, patch in ((224, 16), (448, 16), (224, 32)):
        count, places = number(attention_size(side, patch)), (side // patch) ** 2
        what = f"side {side}, patch {patch}: "
        mistakes = {
            places**2: "The class token is missing. It sees all patches and is seen by them.",
            places**2 + 1: "The class token is one more token, so it adds a row and a column: (patches + 1) squared.",
            places + 1: "This is the number of tokens. Each of them has a weight for each.",
            places: "This is the number of patches. Each token has a weight for each token.",
            (side // patch + 1) ** 2: "Patches lie in rows *and* columns: their number is (side / patch) squared.",
            side**4: "These are pairs of pixels. Tokens are patches.",
        }
        for value, message in mistakes.items():
            assert count != value, what + message
        assert count == (places + 1) ** 2, f"{what}expected {(places + 1) ** 2:,} weights; {count:,} came."
    return "38,809 for 224 pixels and 616,225 for 448: twice the side, sixteen times the weights."


attention_size = Exercise(
    "What a larger picture costs",
    test=_check_attention_size,
    hints=(
        "How many patches are in a row, and how many in the picture? Then add the class token.",
        "Each token has one weight for each token: the number of tokens, squared.",
    ),
    reference=attention_size,
)

# ---- 5. one capsule alone --------------------------------------------------------------------------------------------


def keep_one(capsules, digits):
    chosen = F.one_hot(digits, capsules.shape[1])
    return (capsules * chosen[..., None]).flatten(1)


def _check_keep_one(keep_one):
    capsules = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(0))
    digits = torch.tensor([4, 0, 9])
    given = capsules.clone()
    result = keep_one(given, digits.clone())
    own = capsules[torch.arange(3), digits]
    if isinstance(result, torch.Tensor):
        assert not (result.shape == own.shape and torch.allclose(result, own)), (
            "These are the eight numbers of the chosen capsule. The drawing layers want 80, with zeros for the others, "
            "so that they know by the place which digit it is."
        )
        assert result.shape != capsules.shape, "Nearly: flatten(1) makes 80 numbers of 10 x 8."
    result = _check_tensor(result, (3, 80), "80 numbers for each of 3 pictures")
    expected = torch.zeros(3, 10, 8)
    expected[torch.arange(3), digits] = own
    everything, rest = capsules.flatten(1), (capsules - expected).flatten(1)
    assert not torch.allclose(result, everything), "All ten capsules are still there: set nine of them to zero."
    assert not torch.allclose(result, rest), "The chosen capsule is the one that you removed."
    longest = F.one_hot(capsules.norm(dim=2).argmax(dim=1), 10)
    assert not torch.allclose(result, (capsules * longest[..., None]).flatten(1)), (
        "You keep the longest capsule. In training it is the one of the given digit that draws."
    )
    assert torch.allclose(result, expected.flatten(1)), (
        "Expected the numbers of the capsule `digits` at their own places, 8 · digit to 8 · digit + 7, zeros elsewhere."
    )
    narrow = keep_one(torch.ones(5, 10, 4), torch.arange(5))
    narrow = _check_tensor(narrow, (5, 40), "10 · 4 numbers for each of 5 pictures")
    assert torch.equal(narrow, torch.eye(10)[:5].repeat_interleave(4, dim=1)), (
        "Right with capsules of 8 numbers, and not with capsules of 4."
    )
    assert torch.equal(given, capsules), "You have changed `capsules` itself. Multiply, or work on a copy."
    return "The mask of Sabour et al.: only the capsule of the digit may help to draw it."


keep_one = Exercise(
    "One capsule draws",
    test=_check_keep_one,
    hints=(
        "F.one_hot(digits, 10) is 1 at each picture's digit and 0 elsewhere: (N, 10).",
        "Give it a third axis, [..., None], and multiply. Then flatten(1).",
    ),
    reference=keep_one,
)

# ---- 6. several heads ------------------------------------------------------------------------------------------------


def multi_head(x, W_q, W_k, W_v, W_o, heads):
    def split(y):  # (N, T, D) -> (N, heads, T, D / heads)
        return y.unflatten(2, (heads, -1)).transpose(1, 2)

    q, k, v = split(x @ W_q), split(x @ W_k), split(x @ W_v)
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3)
    return (weights @ v).transpose(1, 2).flatten(2) @ W_o


def _check_multi_head(multi_head):
    not_used(
        multi_head,
        "scaled_dot_product_attention",
        "MultiheadAttention",
        "multi_head_attention_forward",
        "_native_multi_head_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_attention_math",
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 12, generator=generator)
    W = [torch.randn(12, 12, generator=generator) / 2 for _ in range(4)]

    def by_pytorch(heads, scale=None, value=None):
        q, k, v = ((x @ w).unflatten(2, (heads, -1)).transpose(1, 2) for w in W[:3])
        y = F.scaled_dot_product_attention(q, k, v if value is None else value, scale=scale)
        return y.transpose(1, 2).flatten(2)

    result = multi_head(x.clone(), *(w.clone() for w in W), 3)
    result = _check_tensor(result, (2, 5, 12), "a vector of 12 for each of 5 tokens, in a batch of 2")

    def is_(value):
        return torch.allclose(result, value, atol=1e-4)

    assert not is_(by_pytorch(3)), "W_o is missing: the joined heads are multiplied by it at the end."
    assert not is_(by_pytorch(1) @ W[3]), "This is one head of width 12. Cut q, k and v into three heads of 4 first."
    assert not is_(by_pytorch(3, scale=1.0) @ W[3]), "The scores are not divided by the root of a head's width."
    assert not is_(by_pytorch(3, scale=1 / math.sqrt(12)) @ W[3]), (
        "You divide by the root of 12. A head is 4 wide, and its scores are sums of 4 products."
    )
    turned = [(x @ w.T).unflatten(2, (3, -1)).transpose(1, 2) for w in W[:3]]
    turned = F.scaled_dot_product_attention(*turned).transpose(1, 2).flatten(2)
    assert not is_(turned @ W[3].T) and not is_(turned @ W[3]), (
        "Your matrices are transposed: F.linear(x, W) is x @ W.T. Queries are x @ W_q here, as in section 2."
    )
    expected = by_pytorch(3) @ W[3]
    q, k, v = (x @ w for w in W[:3])
    mixed = [y.reshape(2, 3, 5, 4) for y in (q, k, v)]
    wrong = F.scaled_dot_product_attention(*mixed)
    assert not is_(wrong.reshape(2, 5, 12) @ W[3]), (
        "A reshape to (N, heads, T, D / heads) mixes tokens and numbers. Cut the last axis, then transpose."
    )
    joined = F.scaled_dot_product_attention(*(y.unflatten(2, (3, -1)).transpose(1, 2) for y in (q, k, v)))
    assert not is_(joined.reshape(2, 5, 12) @ W[3]), (
        "Each head is right, but they are joined in the wrong order: transpose(1, 2) comes before flatten(2)."
    )
    assert is_(expected), (
        f"The values differ from PyTorch's by up to {(result - expected).abs().max():.3f}. "
        "For each head: (q kᵀ / root of its width), softmax over the keys, times v; then join the heads, times W_o."
    )
    again = multi_head(x.clone(), *(w.clone() for w in W), 1)
    assert torch.allclose(again, by_pytorch(1) @ W[3], atol=1e-4), "With 3 heads it is right, with 1 it is not."
    return "The same numbers as PyTorch's own, for any number of heads."


multi_head = Exercise(
    "Several heads",
    test=_check_multi_head,
    hints=(
        "x @ W_q is (N, T, D). unflatten(2, (heads, -1)) cuts its last axis; transpose(1, 2) brings the heads forward.",
        "Then it is section 2's attention for all heads at once: @ and softmax work on the last two axes.",
        "Join with .transpose(1, 2).flatten(2), and multiply by W_o.",
    ),
    reference=multi_head,
)

# ---- the lab: read a number of any length ----------------------------------------------------------------------------

LAB_GOOD, LAB_VERY_GOOD = 0.80, 0.92


def make_strips(part, num, most=5, seed=None):
    """`num` numbers of 1 to `most` digits from a part of the digits: (strips, answers).

    strips: floats (8, W) from 0 to 1, W differs; blank columns between the digits, 0 to 3, are drawn at random, and
    each digit is moved up or down by a pixel or not. answers: the digits of each, a list of int.
    """
    generator = torch.Generator().manual_seed(torch.seed() if seed is None else seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    images, labels = part.images[:, 0].float() / 255, part.targets["label"]
    strips, answers = [], []
    for _ in range(num):
        rows = torch.randint(len(labels), (draw(1, most),), generator=generator)
        columns = [torch.zeros(8, draw(0, 3))]
        for image in images[rows]:
            columns += [torch.roll(image, draw(-1, 1), dims=0), torch.zeros(8, draw(0, 3))]
        strips.append(torch.cat(columns, dim=1))
        answers.append(labels[rows].tolist())
    return strips, answers


def train_reader():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            first, second = nn.Conv2d(1, 24, 3, padding=1), nn.Conv2d(24, 32, 3, padding=1)
            self.see = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d((2, 2)))
            self.read = nn.GRU(32 * 4, 64, batch_first=True, bidirectional=True)
            self.say = nn.Linear(128, 11)  # 0 is the blank, k + 1 the digit k

        def forward(self, strips):  # (N, 1, 8, W) -> (N, W / 2, 11)
            columns = self.see(strips).flatten(1, 2).transpose(1, 2)
            return self.say(self.read(columns)[0]).log_softmax(dim=2)

    def batch(strips):
        width = max(strip.shape[1] for strip in strips)
        return torch.stack([F.pad(strip, (0, width - strip.shape[1])) for strip in strips])[:, None]

    model, steps = Reader(), 650
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        strips, answers = make_strips(datasets.digits().train, 48)
        log_p = model(batch(strips)).transpose(0, 1)
        targets = torch.tensor([digit + 1 for answer in answers for digit in answer])
        widths = torch.tensor([strip.shape[1] // 2 for strip in strips])
        lengths = torch.tensor([len(answer) for answer in answers])
        loss = F.ctc_loss(log_p, targets, widths, lengths)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()

    def read(strips):
        with torch.no_grad():
            best = [model(batch([strip]))[0].argmax(dim=1) for strip in strips]
        runs = [torch.unique_consecutive(codes) for codes in best]
        return [[code - 1 for code in run.tolist() if code] for run in runs]

    return read


def _check_lab(train_reader):
    with one_thread():
        read = train_reader()
        assert callable(read), (
            f"train_reader returned a {type(read).__name__}; expected a function: strips in, lists of digits out."
        )
        strips, answers = make_strips(datasets.digits().test, 500, seed=secrets.randbits(60))
        told = read([strip.clone() for strip in strips])
    assert isinstance(told, list | tuple), f"read gave {came(told)}; expected a list of lists of digits."
    assert len(told) == len(strips), f"{len(strips)} strips came; expected as many answers, and {len(told)} came."
    for one in told:
        assert isinstance(one, list | tuple | torch.Tensor), (
            f"Expected a list of digits for each strip, such as [4, 0, 7]; {came(one)} came."
        )
    told = [[number(digit, "digits, such as [4, 0, 7]") for digit in one] for one in told]
    right = sum(a == b for a, b in zip(told, answers, strict=True)) / len(answers)
    count = sum(len(a) == len(b) for a, b in zip(told, answers, strict=True)) / len(answers)
    score = f"{right:.1%} of {len(answers)} new strips are right (in {count:.1%} the number of digits is)"
    assert right >= LAB_GOOD, f"{score}; {LAB_GOOD:.0%} counts as good. " + (
        "Begin with the number of digits: where does one end?" if count < 0.9 else "Which digits does it confuse?"
    )
    return f"{score}; {LAB_GOOD:.0%} is good, {LAB_VERY_GOOD:.0%} very good."


lab = Exercise(
    "Lab: read a number of any length",
    test=_check_lab,
    hints=(
        "Nothing says where a digit ends, so no column has a label. A loss that needs none is F.ctc_loss: it adds up "
        "all ways to write the answer along the columns, with blanks between.",
        "A small convolution over the strip, a bidirectional GRU along its columns, 11 logits per column (ten digits "
        "and the blank). Draw new strips from the training digits in every step: exercises.make_strips(train_set, 48).",
        "To read: the best code of each column, equal neighbours merged (torch.unique_consecutive), blanks dropped.",
    ),
    reference=train_reader,
)
