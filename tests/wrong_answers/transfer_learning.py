"""Wrong answers to the exercises of notebook 05: (exercise, answer, a piece of the message that fits the mistake)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader


def head(change):
    def replace_head(model, num_classes):
        change(model, num_classes)
        return model

    return replace_head


def set_last(make):
    def change(model, num_classes):
        model.classifier[1] = make(model.classifier[1], num_classes)

    return change


def forget_features(model, num_classes):
    model.classifier[1] = nn.Linear(model.classifier[1].in_features, num_classes)
    for parameter in model.features.parameters():
        nn.init.normal_(parameter)


def frozen(change, count=lambda model: sum(p.numel() for p in model.parameters() if p.requires_grad)):
    def freeze(model):
        change(model)
        return count(model)

    return freeze


def freeze_features(model):
    model.features.requires_grad_(False)


def neighbour(function):
    return lambda points, known, labels: function(F.normalize(points, dim=1), F.normalize(known, dim=1), labels)


def cache(mode="eval", grad=False, shuffle=False, drop_last=False):
    def cache_features(encoder, dataset):
        getattr(encoder, mode)()
        with torch.set_grad_enabled(grad):
            return torch.cat([encoder(x) for x, _ in DataLoader(dataset, 32, shuffle=shuffle, drop_last=drop_last)])

    return cache_features


WRONG = [
    ("replace_head", lambda model, num_classes: nn.Linear(1280, 3), "returned a Linear; expected the whole model"),
    ("replace_head", lambda model, num_classes: 3, "returned a int; expected the whole model"),
    ("replace_head", head(set_last(lambda old, n: nn.Linear(1280, n))), "expects 1280 features; its features are 64"),
    ("replace_head", head(set_last(lambda old, n: nn.Linear(old.in_features, 2))), "asked for 3 classes and gives 2"),
    (
        "replace_head",
        head(lambda model, n: nn.Linear(model.classifier[1].in_features, n)),
        "asked for 3 classes and gives",
    ),
    ("replace_head", head(forget_features), "features of SmallResNet have changed"),
    ("freeze", lambda model: model, "Expected how many numbers are left"),
    ("freeze", frozen(lambda model: model.features.eval()), "Every weight of model.features is still trained"),
    ("freeze", frozen(lambda model: model.requires_grad_(False)), "classifier is frozen too"),
    ("freeze", frozen(lambda model: model.features[0].requires_grad_(False)), "are still trained. Loop over all"),
    ("freeze", frozen(freeze_features, lambda model: len(list(model.classifier.parameters()))), "Count with p.numel"),
    ("freeze", frozen(freeze_features, lambda model: sum(p.numel() for p in model.parameters())), "Count with p.numel"),
    ("nearest_label", neighbour(lambda p, k, labels: (p @ k.T).argmax(1)), "places of the nearest"),
    ("nearest_label", neighbour(lambda p, k, labels: labels[(p @ k.T).argmin(1)]), "farthest"),
    ("nearest_label", lambda p, k, labels: labels[(p @ k.T).argmax(1)], "Long vectors win"),
    ("nearest_label", lambda p, k, labels: labels[torch.cdist(p, k).argmin(1)], "nearest by distance"),
    ("nearest_label", neighbour(lambda p, k, labels: (p @ k.T).max()), "one label for each of the 30"),
    ("nearest_label", neighbour(lambda p, k, labels: [1] * 30), "list came"),
    ("cache_features", cache(mode="train"), "call encoder.eval"),
    ("cache_features", cache(grad=True), "torch.no_grad"),
    ("cache_features", cache(shuffle=True), "Do not shuffle"),
    ("cache_features", cache(drop_last=True), "the last one too"),
    ("cache_features", lambda encoder, dataset: [encoder(x) for x, _ in DataLoader(dataset, 32)], "a list came"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "guessing gives 50 %"),
    ("lab", lambda images: torch.arange(len(images)) % 2, "guessing gives 50 %"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]
