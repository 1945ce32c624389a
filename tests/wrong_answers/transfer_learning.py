"""Wrong answers to the exercises of notebook 05: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from utils import datasets


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


def as_statistics(mean, std):
    return torch.tensor(mean), torch.tensor(std) ** 2


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


def chosen(by, report=lambda val, test: sum(test) / len(test)):
    """Chooses the way for which by(its val, its test) is largest, and reports a number of it."""

    def choose(val, test):
        name = max(val, key=lambda way: by(val[way], test[way]))
        return name, report(val[name], test[name])

    return choose


def best_mean(val, test):
    return sum(val) / len(val)


def best_sum(val, test):
    return sum(val)


def by_imagenet(images):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean[:, None, None]) / std[:, None, None]


def lazy_head(model, num_classes):
    model.classifier[1] = nn.LazyLinear(num_classes)
    return model


def whole_lazy_head(model, num_classes):
    model.classifier = nn.Sequential(nn.Dropout(0.2), nn.LazyLinear(num_classes))
    return model


def count_with_numpy(model):
    freeze_features(model)
    return np.sum([p.numel() for p in model.parameters() if p.requires_grad])


def pool_in_two_steps(maps):
    return maps.flatten(2).sum(-1) / (maps.shape[2] * maps.shape[3])


def choose_with_numpy(val, test):
    name = sorted(val, key=lambda way: -np.mean(val[way]))[0]
    return [name, np.mean(test[name])]


def remembers(images):
    """Looks the test pictures up, and calls all others cats."""
    test_set = datasets.dogs_vs_cats(num_train=600, num_val=200).test
    known = dict(zip((image.numpy().tobytes() for image in test_set.images), test_set.targets["label"], strict=True))
    return torch.tensor([int(known.get(image.numpy().tobytes(), 0)) for image in images])


pool_alias = F.adaptive_avg_pool2d
pool_layer = nn.AdaptiveAvgPool2d(1)


def with_softmax(model, num_classes):
    model.classifier[1] = nn.Sequential(nn.Linear(model.classifier[1].in_features, num_classes), nn.Softmax(dim=1))


def without_layer(model, num_classes):
    model.classifier[1] = nn.Identity()


def classifier_is_the_layer(model, num_classes):
    model.classifier = nn.Linear(model.classifier[1].in_features, num_classes, bias=False)
    return model


def named_groups(model, lr):
    half = len(model.features) // 2
    parts = (model.features[:half], lr / 100), (model.features[half:], lr / 10), (model.classifier, lr)
    return [{"params": list(part.named_parameters()), "lr": np.float64(rate)} for part, rate in parts]


def frozen_copy(encoder, dataset):
    import copy

    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    return torch.vstack([encoder(image[None]) for image, _ in dataset])


def by_cosine(points, known_points, known_labels):
    similarity = F.cosine_similarity(points[:, None], known_points[None], dim=-1)
    return known_labels[similarity.max(dim=1).indices]


RIGHT = [
    ("average_pool", lambda maps: maps.double().mean(-1).mean(-1)),
    ("normalise", lambda images, mean, std: F.batch_norm(images / 255, *as_statistics(mean, std), eps=0.0)),
    ("nearest_label", by_cosine),
    ("replace_head", classifier_is_the_layer),
    ("cache_features", frozen_copy),
    ("parameter_groups", named_groups),
    ("replace_head", lazy_head),
    ("replace_head", whole_lazy_head),
    ("freeze", count_with_numpy),
    ("average_pool", pool_in_two_steps),
    ("average_pool", lambda maps: torch.einsum("nchw->nc", maps) / maps[0, 0].numel()),
    ("choose", choose_with_numpy),
]

WRONG = [
    ("normalise", lambda images, mean, std: by_imagenet(images), "are the arguments `mean` and `std` used"),
    ("average_pool", lambda maps: pool_alias(maps, 1).flatten(1), "uses adaptive_avg_pool2d"),
    ("average_pool", lambda maps: pool_layer(maps).flatten(1), "uses AdaptiveAvgPool2d"),
    ("average_pool", lambda maps: maps.sum((2, 3)) / 24, "not for 3 x 5"),
    ("freeze", frozen(freeze_features, lambda model: 130), "for a head of 5 classes 130 came"),
    ("replace_head", head(with_softmax), "something stands behind the new layer"),
    ("replace_head", head(without_layer), "There is no nn.Linear"),
    ("choose", lambda val, test: ("b", 0.93), "Right for these four"),
    ("choose", chosen(best_sum), "not by a sum"),
    ("choose", lambda val, test: ("b", test["b"]), "Expected one number, the mean on the test set"),
    ("choose", lambda val, test: (["b"], 0.93), "is to be the name of a way"),
    ("cache_features", lambda encoder, dataset: cache()(encoder, dataset).half(), "torch.float16 came"),
    ("parameter_groups", lambda model, lr: [{"params": model.parameters(), "lr": "slow"}], "Expected a learning rate"),
    ("unfreeze", schedule(lambda number, epoch: number >= 6 - epoch), "Right for 6 layers"),
    ("lab", lambda images: ["cat"] * len(images), "Expected 100 labels"),
    ("lab", lambda images: 0, "not one number for all"),
    ("lab", "dog", "Expected a function"),
    ("average_pool", lambda maps: F.adaptive_avg_pool2d(maps, 1).flatten(1), "uses F"),
    ("average_pool", lambda maps: maps.flatten(1), "gave (3, 120); expected (3, 5)"),
    ("average_pool", lambda maps: maps.mean((2, 3), keepdim=True), "are too many"),
    ("average_pool", lambda maps: maps.mean(1), "over the channels"),
    ("average_pool", lambda maps: maps.mean((0, 2, 3)), "over the pictures"),
    ("average_pool", lambda maps: maps.amax((2, 3)), "the largest values"),
    ("average_pool", lambda maps: maps.sum((2, 3)), "Divide by the number of pixels"),
    ("average_pool", lambda maps: maps[:, :, 0].mean(2), "not the averages"),
    ("average_pool", lambda maps: 0.5, "a float came"),
    ("choose", chosen(lambda val, test: sum(test)), "You chose by the test set"),
    ("choose", chosen(lambda val, test: max(val)), "best single seed"),
    ("choose", lambda val, test: ("a", sum(test["a"]) / 3), "not the best on validation"),
    ("choose", chosen(best_mean, lambda val, test: sum(val) / 3), "its mean on validation"),
    ("choose", chosen(best_mean, lambda val, test: max(test)), "its best seed on the test set"),
    ("choose", chosen(best_mean, lambda val, test: sum(test)), "Expected its mean on the test set"),
    ("choose", lambda val, test: max(val, key=val.get), "Expected a name and a number"),
    ("choose", lambda val, test: (0.93, "b"), "is to be the name of a way"),
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
    ("freeze", frozen(lambda model: setattr(model.features, "requires_grad", False)), "hangs a new attribute"),
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
    ("cache_features", lambda encoder, dataset: cache()(encoder, dataset)[:, None], "one axis too many"),
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
    ("lab", remembers, "counts as good"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]
