"""Exercises of notebook 10, winning tricks."""

import copy
import math
import secrets

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils import datasets
from utils.exercises import came, digits, number, tensor
from utils.exercises.convolutions import _export
from utils.lessons import Exercise
from utils.models import num_parameters

# ---- 1. which bin ----------------------------------------------------------------------------------------------------


def bin_of(angles):
    return (angles % 180 / 20).long()


def _check_bin_of(bin_of):
    angles = torch.tensor([10.0, 30, 95, 179, 185, 350, -10, -170, 0, 180])
    result = tensor(bin_of(angles.clone()), "one bin for each angle, a tensor", angles.shape)
    result, expected = result.double(), torch.tensor([0.0, 1, 4, 8, 0, 8, 8, 0, 0, 0]).double()
    assert not ((result < 0) | (result >= 9)).any(), (
        f"The bins of {angles.int().tolist()} are {result.tolist()}; there are only bins 0 to 8. "
        "An angle and its opposite count as one: angles % 180."
    )
    assert (result == result.floor()).all(), (
        f"{result[1].item():g} came for 30 degrees. A bin is a whole number: .long() cuts off the rest."
    )
    assert result[2] == 4, (
        f"95 degrees lies in bin 4, from 80 to 100; {result[2].item():g} came. Cut off, do not round."
    )
    assert (result[4:8] == expected[4:8]).all(), (
        f"185 and -170 degrees are opposite to 5 and 10, so bin 0; 350 and -10 are opposite to 170, so bin 8. "
        f"{result[[4, 7]].int().tolist()} and {result[[5, 6]].int().tolist()} came."
    )
    assert (result == expected).all(), f"{angles.int().tolist()} gave {result.int().tolist()}."
    return "An edge from dark to light and one from light to dark vote for the same bin."


bin_of = Exercise(
    "Which bin?",
    test=_check_bin_of,
    hints=("angles % 180 brings opposite angles together.", "A bin is 20 degrees wide: divide, then .long()."),
    reference=bin_of,
)

# ---- 2. the errors that are left -------------------------------------------------------------------------------------


def errors_left(before, after):
    return (1 - after) / (1 - before)


def _check_errors_left(errors_left):
    result = number(errors_left(0.9, 0.96))
    assert abs(result - 0.96 / 0.9) > 1e-4, "This compares the right answers. The errors are 1 - accuracy."
    assert abs(result - 0.06) > 1e-4, "This is the gain in points. Divide the errors after by the errors before."
    assert abs(result - 2.5) > 1e-4, "The other way round: divide the errors after by the errors before."
    assert abs(result - 0.6) > 1e-4, "This is the share of the errors that are gone; expected what is left."
    assert abs(result - 40) > 1e-3, "Expected a share such as 0.4, not a percentage."
    assert abs(result - 0.4) < 1e-4, f"From 90 % to 96 %: {result:.3f} came; expected 0.4, as 4 of 10 errors are left."
    assert abs(number(errors_left(0.5, 0.5)) - 1) < 1e-4, "Without a gain all errors are left; expected 1."
    return "Near 100 %, count errors: there, one point is a lot."


errors_left = Exercise(
    "The errors that are left",
    test=_check_errors_left,
    hints=("An accuracy of 0.9 means a share of 0.1 of errors.", "Divide the errors after by the errors before."),
    reference=errors_left,
)

# ---- 3. disagreement -------------------------------------------------------------------------------------------------


def disagreement(p, q):
    return (p.argmax(dim=1) != q.argmax(dim=1)).float().mean().item()


def _check_disagreement(disagreement):
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])
    q = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.2, 0.1, 0.7], [0.4, 0.5, 0.1], [0.1, 0.2, 0.7]])
    result = number(disagreement(p.clone(), q.clone()), "one number, the share of pictures")
    assert not isinstance(result, bool), "Expected one number, the share of pictures; True or False came."
    assert abs(result - 0.6) > 1e-4, "This is the share on which the two agree. Count where the answers differ."
    assert abs(result - 2) > 1e-4, "This is a number of pictures. Divide it by how many there are."
    assert abs(result - 1) > 1e-4, "You compare probabilities. The answer is the class of the largest: argmax(dim=1)."
    assert abs(result - 0.4) < 1e-4, (
        f"{result:.3f} came; expected 0.4: pictures 1 and 3 of five get two answers. The classes lie along dim=1."
    )
    assert number(disagreement(p, p.clone())) == 0, "A network never disagrees with itself; expected 0."
    p, q = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).repeat(8, 1), torch.tensor([[0.4, 0.2, 0.3, 0.1]]).repeat(8, 1)
    p[6], q[7] = torch.tensor([0.2, 0.3, 0.2, 0.3]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    result = number(disagreement(p.clone(), q.clone()))
    assert abs(result - 0.25) < 1e-4, (
        f"Of eight pictures with four classes two get two answers: expected 0.25; {result:.3f} came. The answer is the "
        "largest of the probabilities, however small it is."
    )
    return "Members that never disagree would gain nothing from each other."


disagreement = Exercise(
    "Disagreement",
    test=_check_disagreement,
    hints=(
        "The answer to a picture is the class with the largest probability: p.argmax(dim=1).",
        "(answers != others).float().mean() is the share on which two lists of answers differ.",
    ),
    reference=disagreement,
)

# ---- 4. average the views --------------------------------------------------------------------------------------------


def ask_twice(model, images):
    views = images, images.flip(3)
    return sum(model(view).softmax(dim=1) for view in views) / 2


def _check_ask_twice(ask_twice):
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 6)), 3 * torch.randn(7, 3, 4, 5)
    with torch.no_grad():
        result, plain, mirrored = ask_twice(model, images), model(images), model(images.flip(3))
        upside_down, turned = model(images.flip(2)), model(images.flip(2, 3))
    assert isinstance(result, torch.Tensor) and result.shape == (7, 6), (
        f"Expected the probabilities of 6 classes for 7 pictures, a tensor of shape (7, 6); {came(result)} came."
    )
    result = result.float()

    def like(*logits):
        return torch.allclose(result, sum(x.softmax(dim=1) for x in logits) / len(logits), atol=1e-5)

    assert not torch.allclose(result, (plain + mirrored) / 2, atol=1e-5), (
        "These are logits. Apply softmax(dim=1) to each of the two answers, then take the mean."
    )
    assert not torch.allclose(result, ((plain + mirrored) / 2).softmax(dim=1), atol=1e-5), (
        "You average the logits and then apply softmax. Here the probabilities are averaged: softmax first."
    )
    assert not like(plain), "This is the answer for the pictures as they are. The mirror images are to be asked, too."
    assert not like(plain, upside_down), (
        "You turn the pictures upside down. Left and right are the last axis, dim 3: images.flip(3)."
    )
    assert not like(plain, turned), "You flip both axes. Mirrored means left and right exchanged only: images.flip(3)."
    sums = result.sum(dim=1)
    over_pictures = (plain.softmax(dim=0) + mirrored.softmax(dim=0)) / 2
    assert not torch.allclose(result, over_pictures, atol=1e-5), (
        "Your softmax runs over the pictures: each picture's probabilities add up to 1 with softmax(dim=1)."
    )
    assert not like(mirrored), "This is the answer for the mirror images alone."
    twice = ((plain.softmax(dim=1) + mirrored.softmax(dim=1)) / 2).softmax(dim=1)
    assert not torch.allclose(result, twice, atol=1e-5), "A softmax too many: the mean of probabilities is one already."
    assert not torch.allclose(sums, torch.full_like(sums, 2.0), atol=1e-4), (
        "The answers add up to 2 for each picture: divide by the number of views."
    )
    assert like(plain, mirrored), "The values are not the mean of the two answers' probabilities."
    return "It costs twice the multiplications, and is often worth it."


ask_twice = Exercise(
    "Average the views",
    test=_check_ask_twice,
    hints=(
        "images.flip(3) exchanges left and right.",
        "model(view).softmax(dim=1) gives the probabilities for one view. Add both, divide by 2.",
    ),
    reference=ask_twice,
)

# ---- 5. names with a prefix ------------------------------------------------------------------------------------------


def without_prefix(state):
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _check_without_prefix(without_prefix):
    inner = {
        "0.weight": torch.ones(2),
        "0.bias": torch.zeros(2),
        "my_module.scale": torch.ones(1),
        "eleven": torch.ones(3),
    }
    state = {f"module.{name}": tensor for name, tensor in inner.items()}
    given = dict(state)
    result = without_prefix(state)
    assert list(state) == list(given), "The state dict that was given has changed. Build a new one."
    assert isinstance(result, dict), f"Expected a dict of names and tensors; a {type(result).__name__} came."
    assert all(isinstance(name, str) for name in result), "Expected texts as names."
    assert not any(name.startswith("module.") for name in result), (
        f"Still with the prefix: {next(name for name in result if name.startswith('module.'))!r}."
    )
    assert "my_scale" not in result, (
        "my_module.scale became my_scale. Only what stands at the beginning goes: removeprefix, not replace."
    )
    assert "ven" not in result and "eleven" in result, (
        "module.eleven should become eleven. strip and lstrip take away letters, not a word: use removeprefix."
    )
    assert set(result) == set(inner), f"Expected the names {list(inner)}; {list(result)} came."
    assert all(isinstance(value, torch.Tensor) for value in result.values()), (
        f"The names are right; expected tensors with them, and {came(next(iter(result.values())))} came."
    )
    assert all(torch.equal(result[name], value) for name, value in inner.items()), (
        "The names are right, and the tensors have changed."
    )
    assert set(without_prefix(dict(inner))) == set(inner), "Names without the prefix should stay as they are."
    return "Now strict=True, the default, can check that every name fits."


without_prefix = Exercise(
    "Names with a prefix",
    test=_check_without_prefix,
    hints=(
        "A dict comprehension over state.items() builds the new one.",
        'name.removeprefix("module.") removes the prefix if it is there, and nothing else.',
    ),
    reference=without_prefix,
)

# ---- 6. calibration error --------------------------------------------------------------------------------------------


def calibration_error(p, labels):
    confidence, answer = p.max(dim=1)
    right = (answer == labels).float()
    place = (confidence * 10).long().clamp(max=9)
    error = 0.0
    for b in range(10):
        inside = place == b
        if inside.any():
            error += inside.float().mean().item() * abs((confidence[inside] - right[inside]).mean().item())
    return error


def _answers(confidences, rights):
    """Probabilities of three classes with these confidences; the right class is the answer where it should be."""
    confidence, right = torch.tensor(confidences), torch.tensor(rights)
    answer = torch.arange(len(right)) % 3
    p = ((1 - confidence) / 2)[:, None].repeat(1, 3)
    p[torch.arange(len(right)), answer] = confidence
    return p, torch.where(right, answer, (answer + 1) % 3)


def _check_calibration_error(calibration_error):
    # 0.95 five times, four of them right; 0.55 five times, one right. Off by 0.15 and 0.35, half of the answers each.
    p, labels = _answers([0.95] * 5 + [0.55] * 5, [True] * 4 + [False] + [True] + [False] * 4)
    result = number(calibration_error(p, labels))
    assert not math.isnan(result), "NaN came: the mean of an empty bin. Leave empty bins out."
    assert abs(result - 0.5) > 1e-4, (
        "Add up with the bins' shares of the answers as weights, not the plain sum over bins."
    )
    assert abs(result - 0.05) > 1e-4, "You divide by the number of bins. Weigh each bin by its share of the answers."
    assert abs(result - 0.25) < 1e-4, (
        f"{result:.4f} came; expected 0.25. The bin at 0.95: confidence 0.95, 80 % right, half of the answers. "
        "The bin at 0.55: 20 % right."
    )
    p, labels = _answers([0.95] * 10 + [0.55] * 10, [True] * 8 + [False] * 2 + [True] * 7 + [False] * 3)
    result = float(calibration_error(p, labels))
    assert abs(result) > 1e-4, (
        "Two bins that are wrong in opposite directions cancel out. "
        "Take the absolute difference in each bin, then add up."
    )
    assert abs(result - 0.15) < 1e-4, f"{result:.4f} came; expected 0.15, as both bins are off by 0.15."
    p, labels = _answers([0.91, 0.99] * 10, [True, True] * 9 + [True, False])
    result = float(calibration_error(p, labels))
    assert abs(result - 0.0) < 1e-4, (
        f"Within a bin, confidences of 0.91 and 0.99 and 95 % right answers are perfect, 0; {result:.4f} came. "
        "First the means of the "
        "bin, then their difference."
    )
    p, labels = _answers([0.82] * 10 + [0.98] * 10, [True] * 9 + [False] + [True] * 9 + [False])
    result = float(calibration_error(p, labels))
    assert abs(result - 0.08) < 1e-4, (
        f"Confidences of 0.82 and 0.98, each right in 90 %, are off by 0.08 both; {result:.4f} came. With ten bins of "
        "equal width 0.82 lies in the one from 0.8 to 0.9, and 0.98 in the one from 0.9 to 1."
    )
    p, labels = _answers([0.72] * 10 + [0.78] * 10, [True] * 9 + [False] + [True] * 6 + [False] * 4)
    result = float(calibration_error(p, labels))
    assert abs(result) < 1e-4, (
        f"0.72 and 0.78 lie in one bin, from 0.7 to 0.8, where the mean confidence and the share of right answers are "
        f"0.75 both: expected 0; {result:.4f} came. Ten bins of equal width: (confidence * 10).long()."
    )
    p, labels = _answers([1.0] * 10, [True] * 10)
    result = float(calibration_error(p, labels))
    assert abs(result) < 1e-4, f"Sure (confidence 1) and right every time is perfect, 0; {result:.4f} came."
    p, labels = _answers([1.0] * 10, [False] * 10)
    result = float(calibration_error(p, labels))
    assert abs(result - 1) < 1e-4, (
        f"Sure (confidence 1) and wrong every time is 1; {result:.4f} came. "
        "Into which bin does a confidence of exactly 1 go?"
    )
    return "A network can often be right and still not know when."


calibration_error = Exercise(
    "Calibration error",
    test=_check_calibration_error,
    hints=(
        "confidence, answer = p.max(dim=1). The bin of a confidence: "
        "(confidence * 10).long(), and 1.0 belongs in the last one.",
        "For each bin that is not empty: share of the answers times |mean confidence - share of right "
        "answers|. Add up.",
    ),
    reference=calibration_error,
)

# ---- 7. a greedy soup ------------------------------------------------------------------------------------------------


def greedy_soup(networks, score):
    def average(chosen):
        result, states = copy.deepcopy(chosen[0]), [network.state_dict() for network in chosen]
        result.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
        return result

    chosen, best = [networks[0]], score(networks[0])
    for network in networks[1:]:
        if (found := score(average([*chosen, network]))) >= best:
            chosen, best = [*chosen, network], found
    return average(chosen)


def _line(value):
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(value)
    return network


def _weight(network):
    """Of a line through 0, also where it is wrapped into another module."""
    with torch.no_grad():
        return network(torch.ones(1, 1)).item()


def _check_greedy_soup(greedy_soup):
    def score(network):
        return -abs(_weight(network) - 1.0)  # the nearer the weight is to 1, the better

    # The best is 1.2. With 0.7 the mean is 0.95: better. With 3.0 far worse: left out. With 1.15: 1.0167, better still.
    values = [1.2, 0.7, 3.0, 1.15]
    networks = [_line(value) for value in values]
    result = greedy_soup(list(networks), score)
    assert isinstance(result, nn.Module), f"Expected a network; {came(result)} came."
    assert num_parameters(result) == 1, (
        f"A network with {num_parameters(result)} weights came, and each of those given has 1. Average the weights; "
        "do not ask all networks and average their answers."
    )
    assert [network.weight.item() for network in networks] == [_line(value).weight.item() for value in values], (
        "The networks that were given have changed. Average into a copy: copy.deepcopy(networks[0])."
    )
    found = _weight(result)
    assert abs(found - sum(values) / 4) > 1e-4, "This is the average of all. Leave out those that make it worse."
    assert abs(found - 1.2) > 1e-4, "This is the best network alone. Try each other one in the average with it."
    assert abs(found - 0.95) > 1e-4, (
        "You stop at the first network that does not help. Leave it out and go on: the ones after it may help."
    )
    assert abs(found - (0.95 + 1.15) / 2) > 1e-4, (
        "You average the average so far with the new one, which then counts as much as all before. "
        "Keep a list of the chosen ones and average these."
    )
    expected = (1.2 + 0.7 + 1.15) / 3
    assert abs(found - expected) < 1e-4, (
        f"The averaged weight is {found:.4f}; expected {expected:.4f}, from the first, "
        "the second and the fourth network. Compare each "
        "new average with the best score so far, not with the new network's own."
    )
    # The mean of the first two is 1, the best there is. The third would make it 1.0333: better than the first alone.
    found = _weight(greedy_soup([_line(value) for value in (1.2, 0.8, 1.1)], score))
    assert abs(found - 1) < 1e-4, (
        f"Of the weights 1.2, 0.8 and 1.1, scored by how near they are to 1, {found:.4f} came; expected 1, from the "
        "first two. Compare the score of each new average with the best score so far."
    )
    # The mean of 1.25 and 0.25 is 0.75: as near to 1 as 1.25 is.
    found = _weight(greedy_soup([_line(value) for value in (1.25, 0.25)], score))
    assert abs(found - 0.75) < 1e-4, (
        "An average that is as good as before has not become worse, so the network stays: >= and not >."
    )
    same = greedy_soup([_line(1.0)], score)
    assert abs(_weight(same) - 1) < 1e-4, "A single network should come back as it is."
    return "By construction, it is at least as good as its best member on the validation data."


greedy_soup = Exercise(
    "A greedy soup",
    test=_check_greedy_soup,
    hints=(
        "Start with chosen = [networks[0]] and its score. Go through networks[1:].",
        "Average [*chosen, network]. If its score is at least the best so far, the network stays in the list, "
        "and the score is the new best.",
    ),
    reference=greedy_soup,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_BUDGET = 1_000_000  # multiplications for a picture
LAB_GOOD, LAB_VERY_GOOD = 0.42, 0.36  # negative log-likelihood on new noisy digits


def build_ensemble(images, labels):
    class Ensemble(nn.Module):
        def __init__(self, members):
            super().__init__()
            self.members = nn.ModuleList(members)

        def forward(self, images):
            return sum(member(images).softmax(dim=1) for member in self.members) / len(self.members)

    def moved(images):
        wide = F.pad(images, (1, 1, 1, 1), value=-1)
        return [wide[:, :, y : y + 8, x : x + 8] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]

    def member():
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(512, 10),
        )
        pictures, answers = torch.cat(moved(images)), labels.repeat(5)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=6 * 32)
        for _ in range(6):
            for rows in torch.randperm(len(pictures)).split(64):
                loss = F.cross_entropy(model(pictures[rows]), answers[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
        return model

    return Ensemble([member() for _ in range(3)])


def _lab_data():
    """(images, labels) of 400 noisy digits to learn from, and of all others: drawn anew, as nobody knows the seed."""
    generator = torch.Generator().manual_seed(secrets.randbits(60))
    images, labels = digits("train", "val", "test")
    images = images + 0.6 * torch.randn(images.shape, generator=generator)
    known = torch.zeros(len(labels), dtype=torch.bool)
    known[datasets.digits().train.subset(400, seed=secrets.randbits(30)).indices] = True
    order = torch.randperm(int((~known).sum()), generator=generator)
    return (images[known], labels[known]), (images[~known][order], labels[~known][order])


def _check_lab(build_ensemble):
    (images, labels), (new, new_labels) = _lab_data()
    ensemble = build_ensemble(images.clone(), labels.clone())
    assert isinstance(ensemble, nn.Module), (
        f"build_ensemble returned a {type(ensemble).__name__}; expected an nn.Module. "
        "Put the networks into an nn.ModuleList of a module of yours."
    )
    graph, products = _export(ensemble.cpu().eval(), new[:100])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        p = torch.cat([graph(part) for part in new[: len(new) // 100 * 100].split(100)])
    new_labels = new_labels[: len(p)]
    assert p.shape == (len(new_labels), 10), (
        f"{len(new_labels)} pictures gave outputs of shape {tuple(p.shape)}; "
        f"expected ({len(new_labels)}, 10), ten probabilities a picture."
    )
    assert (p >= 0).all() and (p.sum(dim=1) - 1).abs().max() < 1e-3, (
        "The outputs are not probabilities, which are not negative and sum to 1 for each picture. "
        "Is a softmax(dim=1) missing, or the division by the number of members?"
    )
    macs = counter.get_total_flops() // 2 // len(p) + products
    nll = F.nll_loss(p.clamp_min(1e-9).log(), new_labels).item()
    share = (p.argmax(dim=1) == new_labels).float().mean().item()
    score = f"NLL {nll:.2f} on {len(p):,} new digits ({share:.1%} are right), with {macs:,} multiplications a picture"
    assert macs <= LAB_BUDGET, (
        f"{score}; at most {LAB_BUDGET:,} are allowed. Fewer members or views, or narrower networks: "
        "half the width needs about a quarter."
    )
    assert nll <= LAB_GOOD, (
        f"{score}; guessing has {math.log(10):.2f}, and {LAB_GOOD} or less counts as good. "
        "What makes each member better without more multiplications?"
    )
    return f"{score}; {LAB_GOOD} is good, {LAB_VERY_GOOD} very good."


lab = Exercise(
    "Lab: an ensemble under a budget",
    test=_check_lab,
    hints=(
        "Multiplications are counted when the ensemble is asked, not in training. What improves a network in training? "
        "Notebook 06 has a list.",
        "Train each member on the digits moved by a pixel too, with weight decay and dropout, and stop early enough. "
        "Then average the probabilities of as many as the budget allows.",
    ),
    reference=build_ensemble,
)
