"""Exercises of notebook 05, transfer learning."""

import copy
import io
import secrets
from contextlib import redirect_stdout
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

from utils import critters, datasets
from utils.exercises import came, names_in, not_used, number, share_right
from utils.lessons import Exercise
from utils.models import SmallResNet, num_parameters

# ---- 1. normalise by hand --------------------------------------------------------------------------------------------


def normalise(images, mean, std):
    mean, std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    return (images.float() / 255 - mean) / std


def _check_normalise(normalise):
    not_used(normalise, "v2", "normalize", "Normalize")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, for numbers between 0 and 1
    images = torch.randint(0, 256, (5, 3, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = normalise(images.clone(), list(mean), list(std))
    assert isinstance(result, torch.Tensor) and result.shape == images.shape, (
        f"Expected a tensor of the same shape, (5, 3, 3, 4); "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    assert result.dtype == torch.float32, f"Expected float32, as weights have it; {result.dtype} came."
    m, s, x = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None], images.float()

    def like(other):
        return torch.allclose(result, other, atol=1e-4)

    assert not like((x - m) / s), "mean and std are for numbers between 0 and 1: divide the bytes by 255 first."
    assert not like(x / 255), "The bytes are scaled to 0..1 and not normalised yet: subtract mean, divide by std."
    assert not like(x / 255 - m / s), "Brackets: subtract the mean first, then divide the difference by std."
    assert not like((x / 255 - m) * s), "Divide by std, do not multiply."
    own = x / 255
    own_stats = (own - own.mean((0, 2, 3), keepdim=True)) / own.std((0, 2, 3), keepdim=True)
    assert not torch.allclose(result, own_stats, atol=0.05), (
        "You normalise with the mean and std of these pictures. "
        "The network wants the ones that it was trained with: the arguments."
    )
    assert like((x / 255 - m) / s), (
        "The values are not (images / 255 - mean) / std. Each of the three channels has its own mean: "
        "does it meet the channel axis? "
        "torch.tensor(mean)[:, None, None] has the shape (3, 1, 1)."
    )
    other = normalise(images.clone(), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    expected = (x / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    assert torch.allclose(other, expected, atol=1e-4), (
        "Right for ImageNet's mean and std, not for others: are the arguments `mean` and `std` used?"
    )
    return "This is all that v2.ToDtype(scale=True) and v2.Normalize do."


normalise = Exercise(
    "Normalise by hand",
    test=_check_normalise,
    hints=(
        "Two steps: bytes to numbers between 0 and 1, then (x - mean) / std for each channel.",
        "Shapes are matched from the right. To match the channels of (N, 3, H, W), mean must have the shape (3, 1, 1).",
        "torch.tensor(mean)[:, None, None] has that shape.",
    ),
    reference=normalise,
)

# ---- 2. pool by hand -------------------------------------------------------------------------------------------------


def average_pool(maps):
    return maps.mean(dim=(2, 3))


def _check_average_pool(average_pool):
    not_used(average_pool, "nn", "F", *names_in(torch, F, nn, like="pool"))
    maps = torch.rand(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    result, expected = average_pool(maps.clone()), maps.mean((2, 3))
    assert isinstance(result, torch.Tensor), f"Expected a tensor (N, C); a {type(result).__name__} came."
    assert result.shape != (3, 5, 1, 1), "The numbers may be right; the two axes of one pixel are too many: (N, C)."
    assert result.shape != (3, 4, 6), "You average over the channels. Each channel keeps a number of its own."
    assert result.shape != (5,) and result.shape != (5, 4, 6), "You average over the pictures, too. Each keeps its own."
    assert result.shape == (3, 5), (
        f"Maps of shape (3, 5, 4, 6) gave {tuple(result.shape)}; expected (3, 5), a number for each channel."
    )
    result = result.to(maps.dtype)  # a result in double precision is as right
    assert not torch.allclose(result, maps.amax((2, 3))), "These are the largest values; expected the averages."
    assert not torch.allclose(result, maps.sum((2, 3))), "These are the sums. Divide by the number of pixels, 4 x 6."
    assert torch.allclose(result, expected, atol=1e-5), (
        "These are not the averages over the last two axes, height and width."
    )
    small = maps[..., :3, :5]
    assert torch.allclose(average_pool(small.clone()).to(maps.dtype), small.mean((2, 3)), atol=1e-5), (
        "Right for maps of 4 x 6, not for 3 x 5. Maps may have any size."
    )
    return "It has no weights, and it takes maps of any size."


average_pool = Exercise(
    "Pool by hand",
    test=_check_average_pool,
    hints=(
        "Each channel of each picture becomes one number. Which axes go?",
        "Tensors have a method mean, which takes the axes: dim=(...).",
    ),
    reference=average_pool,
)

# ---- 3. classify by the nearest neighbour ----------------------------------------------------------------------------


def nearest_label(points, known_points, known_labels):
    similarity = F.normalize(points, dim=1) @ F.normalize(known_points, dim=1).T
    return known_labels[similarity.argmax(dim=1)]


def _check_nearest_label(nearest_label):
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(40, 8, generator=generator) * torch.logspace(-1, 1, 40)[:, None]  # of very different lengths
    labels = torch.randint(10, 15, (40,), generator=generator)
    points = torch.randn(30, 8, generator=generator)
    result = nearest_label(points.clone(), known.clone(), labels.clone())
    assert isinstance(result, torch.Tensor) and result.shape == (30,), (
        f"Expected one label for each of the 30 points, a tensor of shape (30,); "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    similarity = F.normalize(points, dim=1) @ F.normalize(known, dim=1).T
    best = similarity.argmax(1)
    assert not torch.equal(result, best), (
        "These are the places of the nearest neighbours. Look up their labels: known_labels[places]."
    )
    assert not torch.equal(result, labels[similarity.argmin(1)]), (
        "These are the labels of the farthest points: argmax, not argmin."
    )
    assert not torch.equal(result, labels[(points @ known.T).argmax(1)]), (
        "Long vectors win everywhere: the similarity is the cosine, "
        "so bring all points to length 1 first (F.normalize)."
    )
    by_distance = labels[torch.cdist(points, known).argmin(1)]
    assert not torch.equal(result, by_distance), (
        "These are the nearest by distance. By cosine similarity only the direction counts."
    )
    wrong = (result != labels[best]).sum().item()
    assert wrong == 0, (
        f"{wrong} of 30 labels are not those of the nearest neighbour in cosine similarity. "
        "Does F.normalize work along dim=1, point by point?"
    )
    return "A classifier without any training: its only parameter is the data."


nearest_label = Exercise(
    "Classify by the nearest neighbour",
    test=_check_nearest_label,
    hints=(
        "Section 3 computes all similarities with one matrix product of normalised points.",
        "similarity = F.normalize(points, dim=1) @ F.normalize(known_points, dim=1).T has a row for each point.",
        "argmax(dim=1) gives the positions of the nearest points; known_labels[positions] are their labels.",
    ),
    reference=nearest_label,
)

# ---- 4. cache the features -------------------------------------------------------------------------------------------


def cache_features(encoder, dataset):
    encoder.eval()
    loader = DataLoader(dataset, batch_size=64)
    with torch.no_grad():
        return torch.cat([encoder(images) for images, _ in loader])


def _check_cache_features(cache_features):
    torch.manual_seed(0)
    encoder = SmallResNet(num_classes=2, width=8)
    encoder.classifier = nn.Dropout(0.5)  # what remains of the head: active in training mode only
    encoder.train()
    images = torch.rand(70, 3, 32, 32)
    expected = copy.deepcopy(encoder).eval()(images).detach()
    features = cache_features(encoder, TensorDataset(images, torch.zeros(70)))
    assert isinstance(features, torch.Tensor), (
        f"Expected one tensor of shape (70, 64); a {type(features).__name__} came. torch.cat joins batches."
    )
    assert features.dtype == torch.float32, f"Expected float32, as the encoder gives; {features.dtype} came."
    assert features.ndim != 3, (
        f"Expected features of shape (70, 64); {tuple(features.shape)} came: one axis too many. "
        "Is it torch.cat, and not torch.stack?"
    )
    assert features.shape == (70, 64), (
        f"Expected features of shape (70, 64); {tuple(features.shape)} came. Is every batch there, the last one too?"
    )
    assert not features.requires_grad, (
        "The features still carry their graph, which fills the memory. Compute them under torch.no_grad()."
    )
    if not torch.allclose(features, expected, atol=1e-4):
        in_order = torch.cdist(features, expected).argmin(dim=1)
        assert not torch.allclose(features, expected[in_order], atol=1e-4), (
            "These are the right features in another order. Do not shuffle: features and labels must stay together."
        )
        raise AssertionError(
            "The features differ from those in evaluation mode. "
            "In training mode batch norm and dropout depend on chance: call encoder.eval() first."
        )
    return "Computed once, these features serve every classifier that you will ever try on them."


cache_features = Exercise(
    "Cache the features",
    test=_check_cache_features,
    hints=(
        "A DataLoader without shuffle gives the batches in order; the last one may be smaller.",
        "Two things belong before the loop: encoder.eval(), and with torch.no_grad().",
        "Collect encoder(images) for each batch in a list, then torch.cat(list).",
    ),
    reference=cache_features,
)

# ---- 5. freeze -------------------------------------------------------------------------------------------------------


def freeze(model):
    for parameter in model.features.parameters():
        parameter.requires_grad = False
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _check_freeze(freeze):
    model = SmallResNet(num_classes=2, width=8)
    count = freeze(model)
    head = num_parameters(model.classifier)
    frozen = [not parameter.requires_grad for parameter in model.features.parameters()]
    assert any(frozen) or "requires_grad" not in vars(model.features), (
        "`model.features.requires_grad = False` only hangs a new attribute on the module. Set it on each of "
        "model.features.parameters(), or call model.features.requires_grad_(False)."
    )
    assert isinstance(count, Integral) or (isinstance(count, torch.Tensor) and count.ndim == 0), (
        f"Expected how many numbers are left to train, an integer; a {type(count).__name__} came."
    )
    assert any(frozen), (
        "Every weight of model.features is still trained. (eval() changes batch norm and dropout, not which "
        "weights are trained; "
        "set requires_grad to False.)"
    )
    assert all(frozen), (
        f"{frozen.count(False)} of {len(frozen)} parameters of model.features are still trained. Loop over all of them."
    )
    assert all(parameter.requires_grad for parameter in model.classifier.parameters()), (
        "The classifier is frozen too, so nothing is left to train. "
        "Loop over model.features.parameters(), not model.parameters()."
    )
    assert count == head, (
        f"Your function returned {count}; {head} numbers are left to train. "
        "Count with p.numel() those that have requires_grad."
    )
    wider = SmallResNet(num_classes=5, width=8)
    count, right = freeze(wider), num_parameters(wider.classifier)
    assert count == right, f"Right for 2 classes; for a head of 5 classes {count} came, and {right} are left to train."
    return f"{head} numbers are left to train, of {num_parameters(model):,}."


freeze = Exercise(
    "Freeze the features",
    test=_check_freeze,
    hints=(
        "A parameter with requires_grad = False gets no gradient, so the optimizer leaves it alone.",
        "Loop over model.features.parameters(). To count, sum p.numel() over the parameters that still have "
        "requires_grad.",
    ),
    reference=freeze,
)

# ---- 6. replace the head ---------------------------------------------------------------------------------------------


def replace_head(model, num_classes):
    last = model.classifier[1]
    model.classifier[1] = nn.Linear(last.in_features, num_classes)
    return model


def _check_replace_head(replace_head):
    for make, name in ((lambda: SmallResNet(num_classes=64, width=8), "SmallResNet"), (mobilenet_v2, "MobileNetV2")):
        model = make()
        before = copy.deepcopy(model.features.state_dict())
        model = replace_head(model, 3)
        assert hasattr(model, "features"), (
            f"Your function returned a {type(model).__name__}; expected the whole model, with its new head."
        )
        width = 1280 if name == "MobileNetV2" else 64
        lazy = [layer for layer in model.modules() if isinstance(layer, nn.LazyLinear)]
        if lazy:  # it learns its width from the first features that it sees
            model.eval()(torch.zeros(2, 3, 64, 64))
        linear = ([layer for layer in model.modules() if isinstance(layer, nn.Linear)] or [None])[-1]
        assert linear, f"There is no nn.Linear in {name} any more. Put a new one in the old one's place."
        assert linear.in_features == width, (
            f"The new layer of {name} expects {linear.in_features} features; its features are {width} wide. "
            "Ask the old layer: it knows its in_features."
        )
        assert linear.out_features == 3, (
            f"{name} was asked for 3 classes and gives {linear.out_features} outputs. "
            "Is num_classes used, and the layer put in place?"
        )
        outputs = model.eval()(torch.zeros(2, 3, 64, 64))
        assert outputs.shape == (2, 3), (
            f"{name} gives outputs of shape {tuple(outputs.shape)} for 2 pictures; expected (2, 3)."
        )
        pictures = torch.rand(2, 3, 64, 64)
        seen: list[torch.Tensor] = []
        hook = linear.register_forward_hook(lambda layer, given, result, seen=seen: seen.append(result))
        outputs = model(pictures)
        hook.remove()
        assert seen and torch.equal(outputs, seen[-1]), (
            f"In {name} something stands behind the new layer, or it is not used. "
            "Its outputs are the network's: logits, with no softmax."
        )
        same = all(torch.equal(before[key], value) for key, value in model.features.state_dict().items())
        assert same, (
            f"The features of {name} have changed. Replace only the last layer, otherwise nothing is transferred."
        )
    return "The same two lines serve both networks."


replace_head = Exercise(
    "Replace the head",
    test=_check_replace_head,
    hints=(
        "Print model.classifier. Which of its layers decides the number of classes?",
        "A new nn.Linear needs the old one's in_features, and num_classes outputs.",
        "model.classifier[1] = nn.Linear(model.classifier[1].in_features, ...), then return the model.",
    ),
    reference=replace_head,
)

# ---- 7. choose, then test --------------------------------------------------------------------------------------------


def choose(val, test):
    name = max(val, key=lambda way: sum(val[way]) / len(val[way]))
    return name, sum(test[name]) / len(test[name])


def _check_choose(choose):
    val = {"a": [0.90, 0.91, 0.92], "b": [0.93, 0.94, 0.95], "c": [0.97, 0.90, 0.89], "d": [0.91, 0.90, 0.90]}
    test = {"a": [0.92, 0.90, 0.91], "b": [0.91, 0.93, 0.95], "c": [0.90, 0.94, 0.95], "d": [0.95, 0.94, 0.97]}
    result = choose(copy.deepcopy(val), copy.deepcopy(test))
    assert isinstance(result, (tuple, list)) and len(result) == 2, (
        f"Expected a name and a number, (name, mean); {result!r} came."
    )
    name, given = result
    assert isinstance(name, str) and name in val, (
        f"The first is to be the name of a way, one of {', '.join(val)}; {name!r} came."
    )
    assert name != "d", "You chose by the test set. It was best there by luck, too, so its number would be too good."
    assert name != "c", "You chose by the best single seed. One seed is luck: compare the means."
    assert name == "b", f"{name} is not the best on validation. Compare the means of val."
    mean = number(given, "one number, the mean on the test set")

    def is_(other):
        return abs(mean - other) < 1e-6

    assert not is_(sum(val["b"]) / 3), (
        "This is its mean on validation, the number that chose it, and so a little too good. Report the test set's."
    )
    assert not is_(max(test["b"])), "This is its best seed on the test set. Report the mean."
    assert is_(sum(test["b"]) / 3), f"Expected its mean on the test set, {sum(test['b']) / 3:.4f}; {mean:.4f} came."
    val |= {"e": [0.93, 0.97], "f": [0.94, 0.93, 0.93, 0.93, 0.93, 0.93]}  # not every way has as many seeds
    test |= {"e": [0.80, 0.83], "f": [0.99, 0.90, 0.90, 0.90, 0.90, 0.90]}
    result = choose(copy.deepcopy(val), copy.deepcopy(test))
    right = result[0] == "e" and abs(number(result[1]) - 0.815) < 1e-6
    assert right, (
        f"Right for these four. With two more ways, e of 2 seeds and f of 6, expected ('e', 0.815); "
        f"{tuple(result)} came. "
        "Choose by the mean on validation alone, not by a sum, a median or the test set."
    )
    return "Another way is better on this test set. We will never know whether it is better."


choose = Exercise(
    "Choose, then test",
    test=_check_choose,
    hints=(
        "Which of the two dicts may choose, and which may only be reported?",
        "max(val, key=...) gives the name whose key is largest; the key is a mean over the seeds.",
        "name = max(val, key=lambda way: sum(val[way]) / len(val[way])); then the mean of test[name].",
    ),
    reference=choose,
)

# ---- 8. parameter groups ---------------------------------------------------------------------------------------------


def parameter_groups(model, lr):
    half = len(model.features) // 2
    return [
        {"params": model.features[:half].parameters(), "lr": lr / 100},
        {"params": model.features[half:].parameters(), "lr": lr / 10},
        {"params": model.classifier.parameters(), "lr": lr},
    ]


def _check_parameter_groups(parameter_groups):
    for make, name in ((lambda: SmallResNet(num_classes=2, width=8), "SmallResNet"), (mobilenet_v2, "MobileNetV2")):
        model, lr = make(), 0.02
        groups = parameter_groups(model, lr)
        assert isinstance(groups, (list, tuple)) and all(isinstance(g, dict) and "params" in g for g in groups), (
            'Expected a list of dicts such as {"params": layers.parameters(), "lr": rate}, one a group.'
        )
        assert all("lr" in group for group in groups), (
            'A group has no learning rate, so it would get the optimizer\'s default. Write "lr" into each.'
        )
        rates = {}
        for group in groups:
            params = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
            params = [part[1] if isinstance(part, tuple) else part for part in params]  # of named_parameters()
            number(group["lr"], "a learning rate, one number")
            assert not isinstance(group["lr"], str), f"A learning rate is the text {group['lr']!r}; expected a number."
            for parameter in params:
                assert id(parameter) not in rates, (
                    f"A parameter of {name} is in two groups, and optimizers refuse that. "
                    "model.parameters() holds the head and the features."
                )
                rates[id(parameter)] = group["lr"]
        half = len(model.features) // 2
        halves = {"first half": (model.features[:half], lr / 100), "second half": (model.features[half:], lr / 10)}
        for part, (layers, rate) in (halves | {"head": (model.classifier, lr)}).items():
            found = [rates.get(id(parameter)) for parameter in layers.parameters()]
            assert None not in found, (
                f"{found.count(None)} of {len(found)} parameters of {name}'s {part} are in no group: "
                "they would never be trained."
            )
            wrong = [value for value in found if abs(value - rate) > 1e-9]
            assert not wrong, (
                f"{len(wrong)} of {len(found)} parameters of {name}'s {part} get {wrong[0]:g}; "
                f"with lr = {lr} expected {rate:g}. "
                "The head gets lr, the late layers a tenth, the early ones a hundredth."
            )
    return "What comes early changes slowly, what comes late quickly, and nothing is left out."


parameter_groups = Exercise(
    "Parameter groups",
    test=_check_parameter_groups,
    hints=(
        "An optimizer takes a list of dicts instead of parameters. Section 8 does so in tune_gently.",
        "half = len(model.features) // 2; then model.features[:half] and model.features[half:] are networks of their "
        "own, with parameters().",
        'Three dicts: {"params": model.features[:half].parameters(), "lr": lr / 100}, and so on.',
    ),
    reference=parameter_groups,
)

# ---- 9. an unfreezing schedule ---------------------------------------------------------------------------------------


def unfreeze(model, epoch):
    num_layers = len(model.features)
    for place, layer in enumerate(model.features):
        layer.requires_grad_(place >= num_layers - epoch)
    model.classifier.requires_grad_(True)
    return model


def _trained(layers):
    return [all(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]


def _check_unfreeze(unfreeze):
    for epochs in ((0, 1, 2), (0, 3, 9), (2, 0)):
        model = nn.Module()
        model.features = nn.Sequential(*[nn.Linear(2, 2) for _ in range(6)])
        model.classifier = nn.Linear(2, 2)
        for epoch in epochs:
            returned = unfreeze(model, epoch)
            assert returned is model, (
                f"Your function returned a {type(returned).__name__}; expected the model itself, changed in place."
            )
            found, expected = _trained(model.features), [number >= 6 - epoch for number in range(6)]
            assert _trained([model.classifier])[0], (
                f"In epoch {epoch} the classifier is frozen. It is trained from the first epoch to the last."
            )
            assert not (epoch == 0 and all(found)), (
                "In epoch 0 all of model.features is trained, and none should be. "
                "(A trap: features[-0:] is everything.)"
            )
            assert not (0 < epoch < 6 and found == expected[::-1]), (
                f"In epoch {epoch} the first layers are trained. Unfreezing begins at the end, next to the head."
            )
            assert found == expected, (
                f"In epoch {epoch}, {sum(found)} of 6 layers of features are trained; "
                f"expected {sum(expected)}, the last ones. "
                "(Epochs count from 0, and one epoch is asked after another: set True and False both.)"
            )
    model = nn.Module()
    model.features, model.classifier = nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)]), nn.Linear(2, 2)
    found = sum(_trained(unfreeze(model, 2).features))
    assert found == 2, f"Right for 6 layers. Of 9, in epoch 2, {found} are trained; expected the last 2."
    return "Call it at the beginning of each epoch, and the network thaws from its head to its first layer."


unfreeze = Exercise(
    "An unfreezing schedule",
    test=_check_unfreeze,
    hints=(
        "layer.requires_grad_(True) thaws a layer, layer.requires_grad_(False) freezes it.",
        "Of n layers, layer number i (from 0) is among the last `epoch` ones if i >= n - epoch.",
        "for number, layer in enumerate(model.features): layer.requires_grad_(number >= len(model.features) - epoch)",
    ),
    reference=unfreeze,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD = {"critters": 0.95, "photos": 0.93}  # the share of right answers that counts as good
LAB_VERY_GOOD = {"critters": 0.97, "photos": 0.95}


def make_classifier():
    from utils import models
    from utils.training import fit, predict

    few = datasets.dogs_vs_cats(num_train=600, num_val=200).train.subset(40)
    model, prepare = models.pretrained(few.source)
    # MobileNetV2 wants a small rate, and learned from larger photos than ours.
    size, lr, num_epochs = (64, 1e-3, 100) if few.source == "critters" else (176, 1e-5, 10)
    as_is = v2.Compose([v2.Resize([size, size]), prepare])
    moved = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(10, (0.1, 0.1), (0.85, 1.2)), as_is])

    def train(model, batches, lr, num_epochs):
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
        steps = num_epochs * len(batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
        fit(model, batches, num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler, progress=None)

    model.classifier = nn.Identity()  # frozen features and a linear classifier first, then all of it
    pictures = DataLoader(few.with_transform(moved), batch_size=20, shuffle=True)
    copies = [predict(model, pictures) for _ in range(10)]  # of the same 40 pictures, moved a little
    points, labels = (torch.cat(part) for part in zip(*copies, strict=True))
    linear = nn.Linear(points.shape[1], 2)
    train(linear, [(points, labels)], 1e-3, 300)
    model.classifier = linear
    models.hold_batch_norm(model)
    train(model, pictures, lr, num_epochs)
    model.eval()

    @torch.no_grad()
    def classify(images):
        return (model(as_is(images)) + model(as_is(images.flip(3)))).argmax(dim=1)

    return classify


def _pictures() -> datasets.Splits:
    """The notebook's pictures, without the line on their size."""
    with redirect_stdout(io.StringIO()):
        return datasets.dogs_vs_cats(num_train=600, num_val=200)


def _held_out() -> datasets.ImageDataset:
    """Pictures that nobody has seen: new drawings of which nobody knows the seed, or the test photos, each cut a little
    smaller and mirrored or not by chance."""
    test_set = _pictures().test
    seed = secrets.randbits(60)
    if test_set.source == "critters":
        images, labels, *_ = critters.draw_many(["cat", "dog"], 2000, seed=seed, size=test_set.images.shape[-1])
        images, labels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long()
    else:
        images, labels = test_set.images.clone(), test_set.targets["label"]
        random, size = torch.Generator().manual_seed(seed), images.shape[-1]
        for k, (y, x, mirrored) in enumerate(torch.randint(0, 6, (len(images), 3), generator=random).tolist()):
            part = v2.functional.resized_crop(images[k], y, x, size - 6, size - 6, [size, size])
            images[k] = part.flip(2) if mirrored > 2 else part
    return datasets.ImageDataset(images, {"label": labels}, test_set.classes, test_set.noun, test_set.source)


def _check_lab(classify):
    assert callable(classify), f"Expected a function that gets pictures and returns labels; {came(classify)} came."
    classify(_pictures().val.images[:2])  # before any time goes into drawing
    held_out = _held_out()
    share, score = share_right(classify, held_out)
    good, very_good = LAB_GOOD[held_out.source], LAB_VERY_GOOD[held_out.source]
    assert share >= good, (
        f"{score}; guessing gives 50 %, and {good:.0%} counts as good. Section 4's lines end a little below it. "
        "What more can be had from the same 40 pictures?"
    )
    return f"{score}; {good:.0%} is good, {very_good:.0%} very good."


lab = Exercise(
    "Lab: the best classifier from 40 pictures",
    test=_check_lab,
    hints=(
        "With 40 pictures, the fewer numbers you train, the better.",
        "Freeze the features, train a linear classifier on them, with weight decay.",
        "Copies of the pictures, mirrored, moved and turned a little, give more points; fine-tune on such copies, too. "
        "For a new picture, also use its mirror image. Photos may be larger.",
    ),
    reference=make_classifier,
    computed=True,
)
