"""Exercises of notebook 08, regularisation."""

import math
import secrets
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from utils import critters, models
from utils.exercises import came, not_used, number, one_thread, pair, tensor
from utils.lessons import Exercise

# ---- 1. learned by heart ---------------------------------------------------------------------------------------------


def by_heart(answers, labels, truth):
    wrong = labels != truth
    return (answers == labels)[wrong].float().mean()


def _check_by_heart(by_heart):
    truth = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 3, 2, 1, 5, 6])  # the last five are wrong
    answers = torch.tensor([0, 1, 2, 3, 4, 9, 8, 3, 2, 9, 5, 7])
    answer = number(by_heart(answers.clone(), labels.clone(), truth.clone()), "one number, a share")
    answer, wrong, repeated = torch.tensor(answer).double(), labels != truth, answers == labels

    def is_(share):
        return torch.isclose(answer, torch.as_tensor(share).double(), atol=1e-3)

    about = f"Of 12 pictures 5 have a wrong label, and for 3 of these the answer is that label. {answer:.3f} came"
    assert not is_(3.0), f"{about}, their number. Divide by how many wrong labels there are."
    assert not is_(repeated.double().mean()), f"{about}: the share of *all* labels repeated. Take the wrong ones."
    assert not is_(3 / 12), f"{about}: you divide by all pictures. Divide by those that have a wrong label."
    assert not is_((answers == truth)[wrong].double().mean()), (
        f"{about}: the share of wrong labels for which it knows better. Asked is how often it repeats them."
    )
    assert not is_((answers != labels)[wrong].double().mean()), f"{about}: how often it does *not* repeat them."
    assert is_(3 / 5), f"{about}; expected 0.6. Choose the pictures by their labels, not by the answers."
    fewer = number(by_heart(answers[:9].clone(), labels[:9].clone(), truth[:9].clone()), "one number, a share")
    assert abs(fewer - 1) < 1e-3, f"Of the first nine pictures 2 of 2 wrong labels are repeated, 1; {fewer:.3f} came."
    return "3 of 5 wrong labels were learned by heart."


by_heart = Exercise(
    "Learned by heart",
    test=_check_by_heart,
    hints=(
        "labels != truth is True where a label is wrong, and a[labels != truth] are the elements of a there.",
        "Of those, how often is answers == labels? The mean of .float() of it is a share.",
    ),
    reference=by_heart,
)

# ---- 2. dropout ------------------------------------------------------------------------------------------------------


def dropout_by_hand(x, p, training):
    if not training:
        return x
    kept = torch.rand_like(x) >= p
    return x * kept / (1 - p)


def _check_dropout(dropout):
    not_used(dropout, "Dropout", "dropout", "dropout_", "dropout1d", "Dropout1d", "native_dropout", "bernoulli_dropout")
    x = torch.rand(40, 10, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    before = x.clone()
    in_use = dropout(x, 0.2, False)
    assert isinstance(in_use, torch.Tensor), f"Expected a tensor; {came(in_use)} came."
    assert torch.equal(in_use, before), (
        "When not training, all numbers stay as they are: no zeros, "
        "and no factor either (the factor is applied in training)."
    )
    result = dropout(x, 0.2, True)
    assert torch.equal(x, before), "Your function changes the tensor that it was given. Make a new one."
    assert isinstance(result, torch.Tensor) and result.shape == x.shape, (
        f"Expected a tensor of shape {tuple(x.shape)}; {came(result)} came."
    )
    result = result.float()
    off = result == 0
    share = off.float().mean().item()
    assert share > 0, "In training no number was turned off."
    for dim in range(4):
        alike = (off == off.narrow(dim, 0, 1)).float().mean().item()
        assert alike < 0.99, (
            f"Along dimension {dim} of a tensor of shape {tuple(x.shape)}, numbers are on or off together. "
            "Every number has its own coin: torch.rand_like(x)."
        )
    assert abs(share - 0.8) > 0.02, "With p = 0.2 you turned off 80 %: p is the probability of being turned OFF."
    assert abs(share - 0.2) < 0.02, f"With p = 0.2 you turned off {share:.0%} of the numbers."
    factor = (result[~off] / x[~off]).mean().item()
    assert abs(factor - 1) > 1e-3, (
        "The numbers that stay on are as they were, so the mean has fallen by a fifth. Multiply them by 1 / (1 - p)."
    )
    assert abs(factor - 5) > 1e-3, "You divide by p. Divide by the share that stays on, 1 - p."
    assert abs(factor - 0.8) > 1e-3, "You multiply by 1 - p. Divide by it: fewer numbers have to make the same sum."
    assert torch.allclose(result[~off], x[~off] / 0.8), (
        f"What stays on is multiplied by {factor:.3f}; expected 1 / (1 - p) = 1.25."
    )
    assert not torch.equal(off, dropout(x, 0.2, True) == 0), (
        "Two calls turned off the same numbers. Draw anew each time."
    )
    half = dropout(x.flatten(1), 0.5, True).float()  # two dimensions
    x = x.flatten(1)
    assert abs((half == 0).float().mean() - 0.5) < 0.02 and torch.allclose(half[half != 0], 2 * x[half != 0]), (
        "Right with p = 0.2, but not with p = 0.5. Is p used?"
    )
    return f"{share:.0%} are off, and the mean is {result.mean() / before.mean():.2f} of what it was."


dropout_by_hand = Exercise(
    "Dropout by hand",
    test=_check_dropout,
    hints=(
        "torch.rand_like(x) >= p is true with probability 1 - p, for each number by itself.",
        "Multiply x by that, and divide by what keeps the mean.",
        "x * kept / (1 - p) in training, x otherwise.",
    ),
    reference=dropout_by_hand,
)

# ---- 3. the elastic net ----------------------------------------------------------------------------------------------


def elastic_net(model, l1, l2):
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return sum(l1 * layer.weight.abs().sum() + l2 * layer.weight.square().sum() for layer in layers)


def _check_elastic_net(elastic_net):
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(8, 3))
    weights = [block[0].weight, model[2].weight]
    absolute, squares = sum(w.abs().sum() for w in weights), sum(w.square().sum() for w in weights)
    penalty = elastic_net(model, 0.5, 2.0)
    assert isinstance(penalty, torch.Tensor), (
        f"Expected a tensor; a {type(penalty).__name__} came. (.item() and float() cut it off from backward.)"
    )
    assert penalty.numel() == 1, f"Expected one number; the shape {tuple(penalty.shape)} came. Sum over all weights."
    assert penalty.requires_grad, "The penalty has no gradient, so it cannot change the weights. No detach, no no_grad."

    gradients = torch.autograd.grad(penalty.sum(), weights, allow_unused=True, retain_graph=True)
    penalty = penalty.detach().float().reshape(())

    def is_(value):
        return torch.isclose(penalty, torch.as_tensor(value).detach(), rtol=1e-4).all()

    def alone(w):
        return 0.5 * w.abs().sum() + 2 * w.square().sum()

    assert not is_(alone(weights[1])), (
        "The convolution is missing: only the last layer is in it. It may lie in a block: model.modules() finds every "
        "layer, however deep."
    )
    assert not is_(alone(weights[0])), "The linear layer is missing: only the convolution is in it."
    everything = list(model.parameters())
    assert not is_(sum(0.5 * w.abs().sum() + 2 * w.square().sum() for w in everything)), (
        "You penalise all parameters. Biases and all that belongs to batch norm are left alone."
    )
    no_bias = [p for name, p in model.named_parameters() if "bias" not in name]
    assert not is_(sum(0.5 * w.abs().sum() + 2 * w.square().sum() for w in no_bias)), (
        "The scales of batch norm are called `weight` too, and are left alone: "
        "look at the kind of layer, or at the number of dimensions."
    )
    assert not is_(0.5 * squares + 2 * absolute), "l1 and l2 have changed places: l1 belongs to |w|, l2 to its square."
    assert not is_(0.5 * absolute + 2 * sum(w.norm() for w in weights)), (
        "For L2 sum the squares; norm() is the root of that."
    )
    assert not is_(0.5 * absolute + squares), "There is no 1/2 in this formula: l2 times the sum of the squares."
    assert not is_(0.5 * sum(w.abs().mean() for w in weights) + 2 * sum(w.square().mean() for w in weights)), (
        "Expected sums over all weights, not means."
    )
    assert not is_(0.5 * sum(w.sum() for w in weights) + 2 * squares), (
        "Without abs(), a negative weight would make the penalty smaller."
    )
    assert is_(0.5 * absolute + 2 * squares), (
        f"The penalty is {penalty.item():.3f}; expected {(0.5 * absolute + 2 * squares).item():.3f}."
    )
    right = torch.autograd.grad(0.5 * absolute + 2 * squares, weights)
    assert all(g is not None and torch.allclose(g, r, atol=1e-4) for g, r in zip(gradients, right, strict=True)), (
        "The number is right, and its gradient is not: it was cut off from the weights on the way. "
        "No .item(), .detach(), .data or torch.tensor(...)."
    )
    return "With l2 = 0 it is L1 (lasso), with l1 = 0 it is L2 (ridge)."


elastic_net = Exercise(
    "The elastic net",
    test=_check_elastic_net,
    hints=(
        "model.modules() gives every layer; isinstance(layer, (nn.Linear, nn.Conv2d)) tells those whose "
        "weights are penalised.",
        "For one weight tensor: l1 * weight.abs().sum() + l2 * weight.square().sum(). Sum over all layers.",
    ),
    reference=elastic_net,
)

# ---- 4. a step with decay --------------------------------------------------------------------------------------------


def decay_step(w, gradient, velocity, lr, momentum, decay):
    velocity = momentum * velocity + gradient
    return (1 - lr * decay) * w - lr * velocity, velocity


def _check_decay_step(decay_step):
    generator = torch.Generator().manual_seed(0)
    w, g, v = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    lr, momentum, decay = 0.1, 0.9, 0.4
    result = decay_step(w.clone(), g.clone(), v.clone(), lr, momentum, decay)
    new_w, new_v = (
        tensor(part, "two tensors, each", (5,))
        for part in pair(result, "two tensors, the new weights and the new velocity")
    )
    right_v = momentum * v + g
    right_w = (1 - lr * decay) * w - lr * right_v

    def same(a, b):
        return torch.allclose(a.double(), b, atol=1e-6)

    assert not (same(new_v, right_w) and same(new_w, right_v)), "The other way round: the weights come first."
    assert not same(new_v, right_v + decay * w), (
        "The decay is in the velocity: that is L2, as SGD(weight_decay=...) has it. Decay the weights only."
    )
    assert not same(new_v, momentum * v + (1 - momentum) * g), (
        "The gradient is added as it is, as torch.optim.SGD does; no factor 1 - momentum."
    )
    assert not same(new_v, v), "The velocity is the old one. First it becomes momentum * velocity + gradient."
    assert same(new_v, right_v), "The new velocity is not momentum * velocity + gradient."
    assert not same(new_w, (1 - decay) * w - lr * right_v), (
        "You take the share `decay` of the weights. It is lr * decay: the learning rate belongs to it."
    )
    assert not same(new_w, (1 - lr * decay) * (w - lr * right_v)), (
        "The decay shrinks the step, too. Shrink the old weights only: (1 - lr * decay) * w."
    )
    assert not same(new_w, w - lr * right_v), "The weights do not decay."
    assert not same(new_w, (1 + lr * decay) * w - lr * right_v), "The weights grow: it is 1 minus lr * decay."
    assert not same(new_w, (1 - lr * decay) * w - lr * v), "The step is made with the old velocity; take the new one."
    assert not same(new_w, (1 - lr * decay) * w - lr * g), "The step is made with the gradient; take the velocity."
    assert same(new_w, right_w), "The new weights are not (1 - lr * decay) * w - lr * velocity."
    return "Put the decay into the gradient instead, and you have SGD(weight_decay=...), which is L2."


decay_step = Exercise(
    "A step with decay",
    test=_check_decay_step,
    hints=(
        "First the new velocity: momentum * velocity + gradient. The decay has no part in it.",
        "Then the weights: (1 - lr * decay) * w - lr * velocity, with the new velocity.",
    ),
    reference=decay_step,
)

# ---- 5. early stopping, on paper -------------------------------------------------------------------------------------


def best_and_last():
    return early_stopping.reference([1.9, 1.2, 0.9, 1.0, 0.8, 0.9, 0.85, 0.95, 0.7], patience=3)


def _check_best_and_last(answer):
    epochs = pair(answer, "two epochs, such as (1, 2)")
    found = tuple(number(epoch, "two whole numbers, such as (1, 2)") for epoch in epochs)
    assert all(float(epoch).is_integer() for epoch in found), f"Expected numbers of epochs, from 0 to 8; {found} came."
    found = tuple(map(int, found))
    assert found[0] != 8, "Epoch 8 has the lowest loss of all, but training has stopped before it: nobody ever sees it."
    assert found != (7, 4), "The other way round: first the epoch whose weights are taken, then the last one."
    assert found != (5, 8), "Epochs are numbered from 0."
    assert found != (2, 5), "In epoch 4 there is a new lowest loss, 0.8. It starts the count anew."
    assert found != (2, 3), "A rise alone does not end it: three epochs in a row without a new lowest loss do."
    assert found != (4, 8), "Epochs 5, 6 and 7 are three without a new lowest loss. Epoch 8 is not trained."
    assert found != (7, 7), "The weights of the best epoch are taken, not those of the last."
    assert found != (4, 6), "0.85 is lower than 0.9, but not than the lowest. Epochs 5, 6 and 7 are the three."
    assert found == (4, 7), f"{found} is not it. Which loss is the lowest, and when has it stood for three epochs?"
    return "The 0.7 of epoch 8 is never found. With a patience of 4 it would be."


best_and_last = Exercise(
    "Early stopping, on paper",
    test=_check_best_and_last,
    hints=("Keep a finger on the lowest loss so far.", "0.8 is not beaten in epochs 5, 6 and 7."),
    reference=best_and_last,
    computed=True,
)

# ---- 6. a lead and its interval --------------------------------------------------------------------------------------


def lead(way, none):
    difference = way - none
    return difference.mean(), 2.26 * difference.std() / math.sqrt(len(difference))


def _check_lead(lead):
    none = torch.tensor([0.80, 0.84, 0.78, 0.86, 0.82, 0.79, 0.85, 0.81, 0.83, 0.80], dtype=torch.float64)
    way = none + torch.tensor([1, 3, 2, 2, 1, 3, 2, 2, 3, 1], dtype=torch.float64) / 100
    result = lead(way.clone(), none.clone())
    numbers = pair(result, "two numbers, the mean lead and half the width of its interval")
    mean, half = (torch.tensor(number(value, "one number each")).double() for value in numbers)
    difference = way - none
    spread = difference.std()

    def is_(came, value):
        return torch.isclose(came, torch.as_tensor(value).double(), rtol=1e-3)

    assert not is_(mean, -difference.mean()), "The sign: the lead is positive where `way` is better."
    assert is_(mean, difference.mean()), f"The mean lead is {difference.mean():.3f}; {mean.item():.3f} came."
    apart = torch.sqrt(way.var() + none.var())
    assert not is_(half, 2.26 * apart / 10**0.5) and not is_(half, 2.26 * way.std() / 10**0.5), (
        "This is the interval of two groups that have nothing in common. The seeds are the same: "
        "take the standard deviation of the ten *differences*."
    )
    assert not is_(half, spread), (
        "This is the standard deviation of a difference. That of their mean is smaller by the root of 10."
    )
    assert not is_(half, 2.26 * spread), "Divide by the root of the number of seeds: a mean varies less."
    assert not is_(half, 2.26 * spread / 10), "Divide by the root of ten, not by ten."
    assert not is_(half, 2.26 * difference.std(correction=0) / 10**0.5), (
        "Nearly: with so few numbers the standard deviation divides by N - 1 (in NumPy ddof=1)."
    )
    assert not is_(half, 2 * 2.26 * spread / 10**0.5), "This is the whole width. Half of it was asked for."
    assert is_(half, 2.26 * spread / 10**0.5), (
        f"Half the width is 2.26 · s / sqrt(10) = {2.26 * spread / 10**0.5:.4f}; {half.item():.4f} came. "
        "s is the standard deviation of the ten differences, seed by seed."
    )
    return "Seed by seed the lead is clear, though the two groups overlap."


lead = Exercise(
    "A lead and its interval",
    test=_check_lead,
    hints=(
        "Subtract first, seed by seed. Then there is one group of ten numbers.",
        "Its mean, and 2.26 times its standard deviation, divided by the root of 10.",
    ),
    reference=lead,
)

# ---- 7. zero exactly -------------------------------------------------------------------------------------------------


def shrink(w, amount):
    return torch.sign(w) * (w.abs() - amount).clamp(min=0)


def _short(values):
    return [round(value, 3) for value in values.flatten().tolist()]


def _check_shrink(shrink):
    not_used(shrink, "softshrink", "Softshrink")
    w = torch.tensor([[-0.5, -0.1, -0.02, 0.0], [0.03, 0.05, 0.2, 1.0]])
    before = w.clone()
    result = shrink(w.clone(), 0.05)
    assert isinstance(result, torch.Tensor) and result.shape == w.shape, (
        f"Expected a tensor of the same shape, {tuple(w.shape)}; {came(result)} came."
    )
    result = result.float()
    assert not torch.allclose(result, w * 0.95), "A share of each weight: that is decay. Take the same amount from all."
    assert not any(torch.allclose(result, torch.where(large, w, 0)) for large in (w.abs() > 0.05, w.abs() >= 0.05)), (
        "Small weights are zero, but the large ones are as they were. All move towards zero by 0.05."
    )
    small = w.abs() < 0.05
    assert not (result[small] != 0).any(), (
        f"{_short(w[small])} became {_short(result[small])}: a weight must not go past zero. It stays there."
    )
    assert not (result[w < -0.05] == 0).all(), "Negative weights have become zero. They move up, towards zero."
    assert (result[w < -0.05] > w[w < -0.05]).all(), "Negative weights do not move towards zero. That is up for them."
    expected = before.sign() * (before.abs() - 0.05).clamp(min=0)
    assert not torch.allclose(result, expected.abs()), "The sign of the negative weights is lost."
    assert torch.allclose(result, expected, atol=1e-6), f"Expected {_short(expected)}; {_short(result)} came."
    more = tensor(shrink(w.clone(), 0.15), "a tensor", w.shape).float()
    assert torch.allclose(more, w.sign() * (w.abs() - 0.15).clamp(min=0), atol=1e-6), (
        "Right with amount = 0.05, and not with 0.15. Is amount used?"
    )
    return "After each step with lr, shrink(w, lr * l1) is the L1 penalty, with weights that are exactly zero."


shrink = Exercise(
    "Zero exactly",
    test=_check_shrink,
    hints=(
        "The size of each weight becomes abs(w) - amount, but not less than zero: clamp(min=0).",
        "The sign stays: torch.sign(w) times the new size.",
    ),
    reference=shrink,
)

# ---- 8. early stopping -----------------------------------------------------------------------------------------------


def early_stopping(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses) - 1


def _check_early_stopping(early_stopping):
    cases = (  # losses, patience, best, last
        ([5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.3, 1.0], 3, 2, 5),
        ([5.0, 4.0, 4.5, 3.0, 3.5, 2.0, 2.5], 3, 5, 6),
        ([3.0, 4.0, 5.0, 2.0], 2, 0, 2),
        ([3.0, 2.0, 1.0], 5, 2, 2),
        ([2.0, 2.0, 2.0, 1.0], 2, 0, 2),
        ([5.0, 6.0, 4.0, 6.0, 3.0, 6.0, 6.0], 2, 4, 6),  # two bad ones, and not in a row
    )
    for losses, patience, best, last in cases:
        result = early_stopping(list(losses), patience)
        two = "two numbers, the best epoch and the last one"
        found = tuple(number(value, two) for value in pair(result, two))
        about = f"With the losses {losses} and patience {patience}: expected {(best, last)}, {found} came."
        assert losses[0] != losses[1] or found[0] == best, (
            f"{about} An equal loss is no new lowest one: the first of the three is the best."
        )
        assert best == last or found != (last, best), f"{about} The best one comes first."
        whole = losses.index(min(losses))
        assert found[0] == best or found[0] != whole, (
            f"{about} Epoch {whole} has the lowest loss of all, but training has stopped before it: "
            "nobody ever sees it."
        )
        assert found != (best + 1, last + 1), f"{about} Epochs count from 0."
        assert not (found[0] == best and found[1] == last + 1), (
            f"{about} You wait one epoch too long: stop when `patience` epochs in a row brought nothing."
        )
        assert not found[1] < last, (
            f"{about} You stop too early. A new lowest loss starts the count anew; a rise alone does not end it."
        )
        assert found == (best, last), f"{about} Keep the best epoch so far, and compare each loss with its loss."
    return "This is what fit(patience=...) does, and then it takes the weights of the best epoch."


early_stopping = Exercise(
    "Early stopping",
    test=_check_early_stopping,
    hints=(
        "Keep one number: the best epoch so far.",
        "In each epoch: a lower loss makes it the best; then look at how long ago the best one was.",
        "if epoch - best >= patience: return best, epoch. After the loop, the last epoch is len(losses) - 1.",
    ),
    reference=early_stopping,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD, LAB_VERY_GOOD = 0.85, 0.92  # shares of right answers; without regularisation some 0.70


def _features(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (num, 192), y (num,): drawings of cats and dogs, as the frozen network of notebook 05 sees them."""
    images, labels, _, _ = critters.draw_many(["cat", "dog"], num, seed, size=64)
    encoder, prepare = models.pretrained("critters")
    with torch.no_grad():
        parts = torch.from_numpy(images).permute(0, 3, 1, 2).split(100)
        x = torch.cat([encoder.features(prepare(part)).mean(dim=(2, 3)) for part in parts])
    return x, torch.from_numpy(labels)


@cache
def make_classifier():
    x, labels = _features(num=300, seed=0)
    labels = torch.where(torch.arange(300) % 3 == 0, 1 - labels, labels)  # every third is wrong
    with one_thread():
        networks = []
        for _ in range(10):
            hidden = [nn.Linear(192, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.5)]
            model = nn.Sequential(*hidden, nn.Linear(128, 2))
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            for _ in range(30):  # stopped early
                batch = torch.randint(300, (50,))
                loss = F.cross_entropy(model(x[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            networks.append(model.eval())

    @torch.no_grad()
    def classify(features):
        return sum(model(features).softmax(dim=1) for model in networks).argmax(dim=1)

    return classify


def _check_lab(classify):
    x, y = _features(num=600, seed=secrets.randbits(60))  # nobody has seen these
    answers = tensor(classify(x.clone()), f"{len(y)} labels, one a drawing").cpu()
    assert answers.shape == y.shape, (
        f"{len(y)} drawings came; expected one label each, and not an answer of shape {tuple(answers.shape)}."
    )
    share = (answers == y).float().mean().item()
    score = f"{share:.1%} of {len(y)} drawings, drawn just now, are right"
    assert share >= LAB_GOOD, (
        f"{score}; guessing gives 50 %, no regularisation some 70 %, and {LAB_GOOD:.0%} is good. How many of the wrong "
        "labels does your network repeat? Choose the strength on labels that you keep back."
    )
    return f"{score}; {LAB_GOOD:.0%} is good, {LAB_VERY_GOOD:.0%} is very good."


lab = Exercise(
    "Lab: every third label is wrong",
    test=_check_lab,
    hints=(
        "The network of section 1 with fewer steps: choose how many on a third of the labels, then train on all.",
        "Regularisers add up: dropout, weight decay and early stopping together, chosen together.",
        "Train ten networks from different starts and add up their outputs.",
    ),
    reference=make_classifier,
    computed=True,
)
