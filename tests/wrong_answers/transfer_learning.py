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


def groups(rates=(100, 10, 1), late="features"):
    """Groups for the first half, the second half and the head, at lr divided by these."""

    def parameter_groups(model, lr):
        half = len(model.features) // 2
        layers = [model.features[:half], model.features[half:] if late == "features" else model, model.classifier]
        return [{"params": part.parameters(), "lr": lr / by} for part, by in zip(layers, rates, strict=True)]

    return parameter_groups


def schedule(trained, classifier=lambda epoch: True):
    """Freezes and thaws layer `number` of six as trained(number, epoch) says."""

    def unfreeze(model, epoch):
        for number, layer in enumerate(model.features):
            layer.requires_grad_(trained(number, epoch))
        model.classifier.requires_grad_(classifier(epoch))
        return model

    return unfreeze


def by_channel(function):
    def normalise(images, mean, std):
        mean, std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        return function(images.float(), mean, std)

    return normalise


def own_statistics(x, mean, std):
    x = x / 255
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


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
    ("parameter_groups", lambda model, lr: model.parameters(), "Expected a list of dicts"),
    ("parameter_groups", lambda model, lr: [{"params": model.parameters()}], "A group has no learning rate"),
    ("parameter_groups", lambda model, lr: [{"params": model.parameters(), "lr": lr}], "first half get 0.02"),
    ("parameter_groups", groups(late="all"), "is in two groups"),
    ("parameter_groups", groups(rates=(1, 10, 100)), "first half get 0.02"),
    ("parameter_groups", groups(rates=(100, 1, 10)), "second half get 0.02"),
    ("parameter_groups", lambda model, lr: groups()(model, lr)[1:], "are in no group"),
    ("unfreeze", lambda model, epoch: epoch, "returned a int; expected the model itself"),
    ("unfreeze", schedule(lambda number, epoch: True), "features[-0:] is everything"),
    ("unfreeze", schedule(lambda number, epoch: number < epoch), "the first layers are trained"),
    (
        "unfreeze",
        schedule(lambda number, epoch: number >= 5 - epoch),
        "1 of 6 layers of features are trained; expected 0",
    ),
    ("unfreeze", schedule(lambda number, epoch: number >= 6 - epoch, lambda epoch: epoch == 0), "classifier is frozen"),
    (
        "unfreeze",
        schedule(lambda number, epoch: number == 6 - epoch),
        "1 of 6 layers of features are trained; expected 2",
    ),
    ("normalise", by_channel(lambda x, m, s: (x - m) / s), "divide the bytes by 255 first"),
    ("normalise", by_channel(lambda x, m, s: x / 255), "not normalised yet"),
    ("normalise", by_channel(lambda x, m, s: x / 255 - m / s), "Brackets"),
    ("normalise", by_channel(lambda x, m, s: (x / 255 - m) * s), "do not multiply"),
    ("normalise", by_channel(own_statistics), "mean and std of these pictures"),
    ("normalise", by_channel(lambda x, m, s: ((x / 255 - m) / s).double()), "Expected float32"),
    ("normalise", by_channel(lambda x, m, s: (x / 255 - m[:, 0]) / s[:, 0]), "does it meet the channel axis"),
    ("normalise", lambda x, mean, std: x[0], "Expected a tensor of the same shape"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "guessing gives 50 %"),
    ("lab", lambda images: torch.arange(len(images)) % 2, "guessing gives 50 %"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]
