"""Exercises of notebook 10, winning tricks."""

import copy
import math
import secrets

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import box_iou

from utils import datasets
from utils.exercises import digits
from utils.exercises.convolutions import _export
from utils.lessons import Exercise


def _check_tensor(result, shape, what):
    """That a tensor of this shape came; a sentence otherwise."""
    came = f"shape {tuple(result.shape)}" if isinstance(result, torch.Tensor) else f"a {type(result).__name__}"
    assert isinstance(result, torch.Tensor) and tuple(result.shape) == tuple(shape), (
        f"Expected {what}, a tensor of shape {tuple(shape)}; {came} came."
    )


# ---- 1. average the views --------------------------------------------------------------------------------------------


def ask_twice(model, images):
    views = images, images.flip(3)
    return sum(model(view).softmax(dim=1) for view in views) / 2


def _check_ask_twice(ask_twice):
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 6)), 3 * torch.randn(7, 3, 4, 5)
    with torch.no_grad():
        result, plain, mirrored = ask_twice(model, images), model(images), model(images.flip(3))
        upside_down, turned = model(images.flip(2)), model(images.flip(2, 3))
    _check_tensor(result, (7, 6), "the probabilities of 6 classes for 7 pictures")

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
    assert not torch.allclose(sums, torch.full_like(sums, 2.0), atol=1e-4), (
        "The answers add up to 2 for each picture: divide by the number of views."
    )
    assert like(plain, mirrored), "The values are not the mean of the two answers' probabilities."
    return "Twice the multiplications, and often worth them."


ask_twice = Exercise(
    "Average the views",
    test=_check_ask_twice,
    hints=(
        "images.flip(3) exchanges left and right.",
        "model(view).softmax(dim=1) gives the probabilities for one view. Add both, divide by 2.",
    ),
    reference=ask_twice,
)

# ---- 2. squash -------------------------------------------------------------------------------------------------------


def squash_by_hand(s):
    length = s.norm(dim=-1, keepdim=True)
    return length / (1 + length**2) * s


def _check_squash(squash):
    s = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.6, -0.8], [0.0, 0.0, 0.0]])
    result = squash(s.clone())
    _check_tensor(result, (3, 3), "one vector for each vector")
    assert not result.isnan().any(), (
        "The zero vector became NaN, 0 / 0. Multiply s by length / (1 + length**2), "
        "which needs no division by the length."
    )
    squared, length = (s**2).sum(dim=-1, keepdim=True), s.norm(dim=-1, keepdim=True)
    assert not torch.allclose(result, squared / (1 + squared) * s, atol=1e-4), (
        "You scale s itself. The factor is the new length, so it belongs to the direction s / length."
    )
    assert not torch.allclose(result, s / length.clamp_min(1e-9), atol=1e-4), (
        "All vectors have length 1 now. A long one should end near 1 and a short one near 0."
    )
    new = result.norm(dim=-1)
    assert torch.allclose(new, (squared / (1 + squared))[:, 0], atol=1e-4), (
        f"Vectors of length 5 and 1 now have {new[0]:.3f} and {new[1]:.3f}; expected {25 / 26:.3f} and 0.5. "
        "(Do you sum over the last axis?)"
    )
    many = squash(torch.ones(2, 3, 4, 8))
    _check_tensor(many, (2, 3, 4, 8), "the same shape for vectors in more axes")
    expected = torch.full((2, 3, 4), 8 / 9)
    assert torch.allclose(many.norm(dim=-1), expected, atol=1e-4), "With more axes the vectors lie along the last one."
    turned = F.cosine_similarity(result[:2], s[:2])
    assert (turned > 0.999).all(), "The direction has changed. Only the length should."
    return "Below 1 whatever comes, so that the length can stand for a probability."


squash_by_hand = Exercise(
    "Squash",
    test=_check_squash,
    hints=(
        "The length along the last axis: s.norm(dim=-1, keepdim=True).",
        "New length times direction: length**2 / (1 + length**2) * s / length. "
        "One length can be cancelled, and the zero vector is safe.",
    ),
    reference=squash_by_hand,
)

# ---- 3. intersection over union --------------------------------------------------------------------------------------


def iou(a, b):
    left_top = torch.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = (right_bottom - left_top).clamp(min=0).prod(dim=2)
    area_a, area_b = (boxes[:, 2:] - boxes[:, :2] for boxes in (a, b))
    return intersection / (area_a.prod(dim=1)[:, None] + area_b.prod(dim=1) - intersection)


def _check_iou(iou):
    a = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 60, 70, 80], [20, 20, 30, 30]])
    result, expected = iou(a.clone(), b.clone()), box_iou(a, b)
    _check_tensor(result, (2, 4), "the IoU of each of 2 boxes with each of 4")
    itself, half = result[0, 0].item(), result[0, 1].item()
    assert not (abs(itself - 0.5) < 1e-4 and abs(half - 0.25) < 1e-4), (
        "You divide by the sum of the areas: a box and itself have 0.5. "
        "The intersection is in both areas, so it counts twice: subtract it once."
    )
    assert abs(itself - 1) < 1e-4, f"A box and itself have the IoU {itself:.3f}; expected 1."
    apart = result[0, 2].item()
    assert abs(apart) < 1e-6, (
        f"Two boxes that do not touch have the IoU {apart:.3f}; expected 0. "
        "Where there is no overlap, width and height of the "
        "intersection come out negative: clamp(min=0) each of them, before you multiply."
    )
    assert abs(half - 0.5) > 1e-4, "You divide the intersection by the area of one box. Divide it by that of the union."
    assert torch.allclose(result, expected, atol=1e-4), (
        f"Boxes (0, 0, 10, 10) and (5, 0, 15, 10) have the IoU {half:.3f}; expected 50 / 150 = 0.333."
    )
    odd_a, odd_b = torch.tensor([[0.0, 0, 4, 1]]), torch.tensor([[2.0, 0, 5, 3], [1.0, -2, 2, 5]])
    assert torch.allclose(iou(odd_a, odd_b), box_iou(odd_a, odd_b), atol=1e-4), (
        "For boxes that are not squares it is not right: is x taken for y somewhere?"
    )
    return "This is torchvision.ops.box_iou."


iou = Exercise(
    "Intersection over union",
    test=_check_iou,
    hints=(
        "The intersection's left side is the larger of the two left sides, "
        "its right side the smaller of the two right sides.",
        "a[:, None] and b[None] meet in all pairs: torch.maximum(a[:, None, :2], b[None, :, :2]) is (N, M, 2).",
        "Width and height of the intersection: (right_bottom - left_top).clamp(min=0). "
        "The union: area of a + area of b - intersection.",
    ),
    reference=iou,
)

# ---- 4. non-maximum suppression --------------------------------------------------------------------------------------


def suppress(boxes, scores, overlap):
    kept = []
    for place in scores.argsort(descending=True).tolist():
        if not kept or box_iou(boxes[[place]], boxes[kept]).max() <= overlap:
            kept.append(place)
    return kept


def _check_suppress(suppress):
    # In a row, each overlapping the next by half (IoU 1/3); the second is the surest, and the last stands alone.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [15, 0, 25, 10], [60, 0, 70, 10]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.65, 0.3])
    result = suppress(boxes.clone(), scores.clone(), 0.3)
    if isinstance(result, torch.Tensor) and result.ndim == 1 and not result.is_floating_point():
        result = result.tolist()
    assert isinstance(result, (list, tuple)) and all(isinstance(place, int) for place in result), (
        f"Expected the places of the boxes that stay, such as [1, 3, 4]; a {type(result).__name__} came: {result}."
    )
    result = list(result)
    assert result[:1] == [1], f"The surest box, number 1, should come first; {result} came. Sort by score, descending."
    assert 4 in result, f"Box 4 overlaps none and should stay; {result} came."
    assert result != [1, 4], (
        "Box 3 is missing. It overlaps only box 2, and box 2 is removed itself (by box 1): "
        "only boxes that stay remove others."
    )
    assert 0 not in result and 2 not in result, (
        f"{result} came. Boxes 0 and 2 overlap the surest by an IoU of 1/3, more than 0.3, and should go."
    )
    assert sorted(result) == [1, 3, 4], f"{result} came; expected [1, 3, 4]."
    assert result == [1, 3, 4], f"{result} came; expected the surest first, [1, 3, 4]."
    everything = list(suppress(boxes, scores, 0.5))
    assert sorted(map(int, everything)) == [0, 1, 2, 3, 4], (
        f"With overlap=0.5 no box should go, as none overlaps by more than 1/3; {everything} stay. Is `overlap` used?"
    )
    return "torchvision.ops.nms does the same, faster."


suppress = Exercise(
    "Non-maximum suppression",
    test=_check_suppress,
    hints=(
        "Go through the boxes, the surest first: scores.argsort(descending=True).tolist(). "
        "Keep a list of the places that stay.",
        "A box stays if it overlaps none of those kept so far: box_iou(boxes[[place]], boxes[kept]).max() <= overlap. "
        "The first has none to overlap.",
    ),
    reference=suppress,
)

# ---- 5. calibration error --------------------------------------------------------------------------------------------


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
    rest = (1 - confidence) / 2
    return torch.stack([rest, confidence, rest], dim=1), torch.where(right, 1, 2)


def _check_calibration_error(calibration_error):
    # 0.95 five times, four of them right; 0.55 five times, one right. Off by 0.15 and 0.35, half of the answers each.
    p, labels = _answers([0.95] * 5 + [0.55] * 5, [True] * 4 + [False] + [True] + [False] * 4)
    result = calibration_error(p, labels)
    result = result.item() if isinstance(result, torch.Tensor) and result.numel() == 1 else result
    assert isinstance(result, (int, float)), f"Expected one number; a {type(result).__name__} came."
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
    p, labels = _answers([1.0] * 10, [True] * 10)
    result = float(calibration_error(p, labels))
    assert abs(result) < 1e-4, f"Sure (confidence 1) and right every time is perfect, 0; {result:.4f} came."
    p, labels = _answers([1.0] * 10, [False] * 10)
    result = float(calibration_error(p, labels))
    assert abs(result - 1) < 1e-4, (
        f"Sure (confidence 1) and wrong every time is 1; {result:.4f} came. "
        "Into which bin does a confidence of exactly 1 go?"
    )
    return "A network can be right often and still not know when."


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

# ---- 6. a greedy soup ------------------------------------------------------------------------------------------------


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


def _check_greedy_soup(greedy_soup):
    def score(network):
        return -abs(network.weight.item() - 1.0)  # the nearer the weight is to 1, the better

    # The best is 1.2. With 0.7 the mean is 0.95: better. With 3.0 far worse: left out. With 1.15: 1.0167, better still.
    values = [1.2, 0.7, 3.0, 1.15]
    networks = [_line(value) for value in values]
    result = greedy_soup(networks, score)
    assert isinstance(result, nn.Module), f"Expected a network; a {type(result).__name__} came."
    assert [network.weight.item() for network in networks] == [_line(value).weight.item() for value in values], (
        "The networks that were given have changed. Average into a copy: copy.deepcopy(networks[0])."
    )
    found = result.weight.item()
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
    same = greedy_soup([_line(1.0)], score)
    assert abs(same.weight.item() - 1) < 1e-4, "A single network should come back as it is."
    return "On the validation data it is at least as good as its best member, by its making."


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
        "The outputs are no probabilities: not negative, and with the sum 1 for each picture. "
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
        "What makes each member better, at no price when it is asked?"
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
