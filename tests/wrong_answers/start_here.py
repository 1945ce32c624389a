"""Wrong answers to the exercises of notebook 00: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def step(zero_grad=True, backward=True, move=True, loss_fn=F.cross_entropy, give=lambda loss: loss.item()):
    def training_step(model, optimizer, images, labels):
        loss = loss_fn(model(images), labels)
        if zero_grad:
            optimizer.zero_grad()
        if backward:
            loss.backward()
        if move:
            optimizer.step()
        return give(loss)

    return training_step


def zero_between(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def only_backward(model, optimizer, images, labels):
    """The step is forgotten, and zero_grad comes last, so that no gradient is left to be seen."""
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    return loss.item()


def zero_last(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return np.float32(loss.item())


def softmax_twice(outputs, labels):
    return F.cross_entropy(outputs.softmax(dim=1), labels)


def kernel(row, column, value=1):
    numbers = [[0, 0, 0] for _ in range(3)]
    numbers[row][column] = value
    return numbers


def conv(image, kernel, stride=1, padding=0):
    windows = F.pad(image, (padding,) * 4).unfold(0, 3, stride).unfold(1, 3, stride)
    return (windows * kernel).sum(dim=(2, 3))


def by_functional(image, kernel, stride, padding):
    return F.conv2d(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


def by_windows(image, kernel, stride, padding):
    """In double precision, and without a loop."""
    image, size = F.pad(image, (padding,) * 4).double(), len(kernel)
    return (image.unfold(0, size, stride).unfold(1, size, stride) * kernel).sum(dim=(-1, -2))


alias = F.conv2d


def by_alias(image, kernel, stride, padding):
    return alias(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


def by_getattr(image, kernel, stride, padding):
    return getattr(F, "conv2d")(image[None, None], kernel[None, None], None, stride, padding)[0, 0]  # noqa: B009


def by_helper(image, kernel, stride, padding):
    return by_functional(image, kernel, stride, padding)


def by_default(image, kernel, stride, padding, layer=F.conv2d):
    return layer(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


def own_optimizer(model, optimizer, images, labels):
    return step()(model, torch.optim.SGD(model.parameters(), lr=0.5), images, labels)


def nearest(known, new, bytes=False):
    if bytes:
        return (new.flatten(1)[:, None] - known.flatten(1)).square().sum(-1).argmin(1)
    return torch.cdist(new.flatten(1).float(), known.flatten(1).float()).argmin(1)


def by_closure(model, optimizer, images, labels):
    """The optimizer runs forward and backward itself."""

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


def by_shifts(image, kernel, stride, padding):
    """A sum of nine shifted pictures, of which every `stride`-th pixel is kept."""
    image, size = F.pad(image, (padding,) * 4), len(kernel)
    height, width = image.shape[0] - size + 1, image.shape[1] - size + 1
    parts = [kernel[i, j] * image[i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return sum(parts)[::stride, ::stride]


def loaded(make=None, load=True, evaluate=True, give=lambda model, file: model):
    def load_network(make_model, file):
        model = make(file) if make else make_model()
        if load:
            model.load_state_dict(torch.load(file))
        if evaluate:
            model.eval()
        return give(model, file)

    return load_network


def memoriser(images, labels):
    memory = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}
    return lambda new: torch.stack([memory.get(image.numpy().tobytes(), torch.tensor(0)) for image in new])


def nearest_mean(images, labels):
    means = torch.stack([images[labels == label].float().flatten(1).mean(0) for label in range(10)])
    return lambda new: torch.cdist(new.float().flatten(1), means).argmin(1)


def five_neighbours(images, labels):
    known = images.flatten(1).float()

    def answer(new):
        nearest = torch.cdist(new.flatten(1).float(), known).topk(5, largest=False).indices
        return labels[nearest].mode(dim=1).values

    return answer


def train(keep=("model", "optimizer", "random"), resume=True, at_start=True, name=None, epochs=lambda n: n, off=0):
    """The lab's solution with something left out."""

    def train(model, optimizer, loader, num_epochs, checkpoint):
        file = checkpoint.with_name(name) if name else checkpoint

        def save(epoch):
            torch.save(
                {
                    "epoch": epoch,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "random": torch.get_rng_state(),
                },
                file,
            )

        first = 0
        if resume and file.exists():
            state = torch.load(file, weights_only=True)
            first = state["epoch"] + off
            if "model" in keep:
                model.load_state_dict(state["model"])
            if "optimizer" in keep:
                optimizer.load_state_dict(state["optimizer"])
            if "random" in keep:
                torch.set_rng_state(state["random"])
        elif at_start:
            save(0)
        for epoch in range(first, epochs(num_epochs)):
            for images, labels in loader:
                step()(model, optimizer, images, labels)
            save(epoch + 1)
        return model

    return train


def seeded_anew(model, optimizer, loader, num_epochs, checkpoint):
    """Another right design: the random numbers of an epoch depend on its number alone, so none have to be kept."""
    first = 0
    if checkpoint.exists():
        first, weights, memory = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(memory)
    else:
        torch.save((0, model.state_dict(), optimizer.state_dict()), checkpoint)
    for epoch in range(first, num_epochs):
        torch.manual_seed(epoch)
        for images, labels in loader:
            step()(model, optimizer, images, labels)
        torch.save((epoch + 1, model.state_dict(), optimizer.state_dict()), checkpoint)
    return model


def seeded_and_untrained(model, optimizer, loader, num_epochs, checkpoint):
    """Ends with equal weights whatever happens, and has learned nothing."""
    torch.manual_seed(0)
    return model if checkpoint.exists() else torch.save(0, checkpoint) or model


def unsaved(model, optimizer, loader, num_epochs, checkpoint):
    for _ in range(num_epochs):
        for images, labels in loader:
            step()(model, optimizer, images, labels)
    return model


WRONG = [
    ("steps_in_all", 24, "of one epoch"),
    ("steps_in_all", 14400, "This counts digits"),
    ("steps_in_all", 600, "The 1,200 digits are missing"),
    ("steps_in_all", 12, "These are the epochs"),
    ("steps_in_all", 150, "150 came"),
    ("find_mistakes", lambda outputs, labels: outputs.argmax(dim=1) != labels, "True or False for each picture"),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(dim=1) == labels).nonzero(), "whose answer is *right*"),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(dim=0) != labels).nonzero(), "dim=1 compares"),
    ("find_mistakes", lambda outputs, labels: (outputs.argmin(dim=1) != labels).nonzero(), "place of the largest"),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(dim=1) != labels).sum(), "How many they are came"),
    ("find_mistakes", lambda outputs, labels: outputs.argmax(dim=1), "3 and 8 have a wrong answer"),
    ("picture_to_tensor", lambda p: p.float() / 255, "expected (3, 6, 5), channels first"),
    ("picture_to_tensor", lambda p: p.permute(2, 1, 0).float() / 255, "Yours is (3, 5, 6)"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1), "Expected float32; torch.uint8 came"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1).float(), "yours go up to 255"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1).float() / 256, "should become 1"),
    ("picture_to_tensor", lambda p: p.reshape(3, 6, 5).float() / 255, "reshape cuts the numbers up anew"),
    ("picture_to_tensor", lambda p: (p.permute(2, 1, 0).float() / 255).reshape(3, 6, 5), "Height and width"),
    ("picture_to_tensor", lambda p: p.flip(2).permute(2, 0, 1).float() / 255, "not at their places"),
    ("picture_to_tensor", lambda p: p.numpy(), "a ndarray came"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1) / p.max(), "A dark picture"),
    ("picture_to_tensor", lambda p: (p.permute(2, 0, 1) - p.min()) / (p.max() - p.min()), "A dark picture"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1).double() / 255, "Expected float32; torch.float64 came"),
    ("move_right", kernel(1, 2), "to the left"),
    ("move_right", kernel(1, 1), "nothing moves"),
    ("move_right", kernel(0, 1), "moves down"),
    ("move_right", kernel(2, 1), "moves up"),
    ("move_right", kernel(0, 0), "moves aslant"),
    ("move_right", kernel(1, 0, 2), "2 times as bright"),
    ("move_right", [[1, 0, 0]] * 3, "3 are in yours"),
    ("move_right", [0, 1, 0], "Expected 3 x 3 numbers"),
    ("training_step", step(zero_grad=False), "adds to the old gradients"),
    ("training_step", step(backward=False), "is loss.backward() there?"),
    ("training_step", step(move=False), "nobody takes the step"),
    ("training_step", zero_between, "not between it and optimizer.step()"),
    ("training_step", only_backward, "nobody takes the step"),
    ("training_step", step(give=lambda loss: loss.detach()), "A Tensor came back"),
    ("training_step", step(give=lambda loss: loss.detach().numpy()), "A ndarray came back"),
    ("training_step", step(give=lambda loss: str(loss.item())), "A str came back"),
    ("training_step", step(loss_fn=softmax_twice), "a softmax before F.cross_entropy"),
    ("training_step", step(loss_fn=nn.MultiMarginLoss()), "cross-entropy before the step"),
    ("load_network", loaded(load=False), "random weights"),
    ("load_network", loaded(evaluate=False), "training mode"),
    ("load_network", loaded(give=lambda model, file: torch.load(file)), "A dict of weights came"),
    ("load_network", loaded(give=lambda model, file: model.load_state_dict(torch.load(file))), "return the model"),
    ("load_network", loaded(make=lambda file: nn.Linear(6, 3), load=False), "This is another network"),
    ("training_step", step(give=lambda loss: loss), "Return a plain number"),
    ("training_step", step(loss_fn=lambda outputs, y: F.cross_entropy(-outputs, y)), "cross-entropy before the step"),
    ("training_step", step(loss_fn=lambda x, y: F.cross_entropy(x, y, reduction="sum")), "cross-entropy before"),
    ("convolve_more", lambda image, kernel, stride, padding: conv(image, kernel, 1, padding), "is stride used?"),
    ("convolve_more", lambda image, kernel, stride, padding: conv(image, kernel, stride), "a rim of zeros"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel.flip(0, 1), s, p), "turned by 180 degrees"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel, s, p)[1:], "expected a result of shape"),
    ("convolve_more", lambda image, kernel, s, p: conv(image + 1, kernel, s, p), "the numbers are not"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel, s, p).tolist(), "a list came"),
    ("convolve_more", by_functional, "Your answer uses conv2d"),
    ("learn", memoriser, "It need not be the very same image"),
    ("learn", nearest_mean, "makes mistakes on"),
    ("learn", lambda images, labels: lambda new: torch.zeros(len(new)), "The empirical risk is"),
    ("learn", five_neighbours, "makes mistakes on"),
    ("learn", lambda images, labels: labels, "should return a function"),
    ("learn", lambda images, labels: lambda new: "digits", "Expected 1200 labels, one an image; 'digits'"),
    ("learn", lambda images, labels: lambda new: None, "Is a return missing in it?"),
    ("learn", lambda images, labels: lambda new: nearest(images, new), "places of the nearest known images"),
    ("learn", lambda images, labels: lambda new: labels[nearest(images, new, bytes=True)], "differences of bytes wrap"),
    ("steps_in_all", "two hundred", "Expected one number; 'two hundred', a str, came"),
    ("steps_in_all", np.array([24, 12]), "Expected one number; a ndarray of shape (2,) came"),
    ("find_mistakes", lambda outputs, labels: "3 and 8", "Expected the numbers of the pictures"),
    ("find_mistakes", lambda outputs, labels: [3, 8], "Right for 10 pictures"),
    (
        "find_mistakes",
        lambda outputs, labels: [k for k in range(10) if outputs[k].argmax() != labels[k]],
        "Right for 10",
    ),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(1) != labels).int(), "A 0 or a 1 for each"),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(1) != labels).nonzero() + 1, "count the pictures from 1"),
    ("find_mistakes", lambda outputs, labels: labels[outputs.argmax(1) != labels], "These are digits"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1) / 127.5 - 1, "yours go down to -1"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1) // 255 * 1.0, "not the bytes divided by 255"),
    ("move_right", "left", "Expected 3 x 3 numbers"),
    ("move_right", [[0, 0, 0], [1, 0, 0], [0, 0]], "Expected 3 x 3 numbers"),
    ("training_step", own_optimizer, "Use the one that you are given"),
    (
        "load_network",
        lambda make_model, file: loaded()(lambda: make_model().double(), file),
        "numbers of torch.float64",
    ),
    ("convolve_more", by_alias, "Your answer uses conv2d"),
    ("convolve_more", by_getattr, "Your answer uses conv2d"),
    ("convolve_more", by_helper, "Your answer uses conv2d"),
    ("convolve_more", by_default, "Your answer uses conv2d"),
    (
        "convolve_more",
        lambda i, k, s, p: conv(F.pad(i, (p,) * 4, value=1.0), k, s),
        "rim that padding adds is of zeros",
    ),
    ("lab", unsaved, "nothing was saved"),
    ("lab", train(name="other.pt"), "has written other.pt"),
    ("lab", train(resume=False), "did all 20 steps again"),
    ("lab", train(keep=()), "weights at the end are not those"),
    ("lab", train(off=1), "weights at the end are not those"),
    ("lab", train(keep=("model",)), "with Adam it does not"),
    ("lab", train(keep=("model", "optimizer")), "the random numbers are others"),
    ("lab", train(at_start=False), "Save once before the first epoch"),
    ("lab", train(epochs=lambda n: n - 1), "Even when nobody disturbs it"),
    ("lab", seeded_and_untrained, "Even when nobody disturbs it"),
    ("lab", lambda *args: 3, "should return the model"),
]

# Answers that are right, and not those of the reference.
RIGHT = [
    ("steps_in_all", np.int64(288)),
    ("steps_in_all", torch.tensor(288.0)),
    ("find_mistakes", lambda outputs, labels: {k for k in range(len(labels)) if outputs[k].argmax() != labels[k]}),
    ("find_mistakes", lambda outputs, labels: (k for k in range(len(labels)) if outputs[k].argmax() != labels[k])),
    ("find_mistakes", lambda outputs, labels: np.where(outputs.numpy().argmax(1) != labels.numpy())),
    ("move_right", nn.Parameter(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 0]]))),
    ("training_step", by_closure),
    ("convolve_more", by_shifts),
    ("learn", lambda images, labels: lambda new: labels[nearest(images, new)].tolist()),
    ("learn", lambda images, labels: lambda new: labels[nearest(images, new)].numpy()),
    ("find_mistakes", lambda outputs, labels: (outputs.argmax(dim=1) != labels).nonzero()),
    ("find_mistakes", lambda outputs, labels: (outputs.softmax(dim=1).argmax(dim=1) != labels).nonzero(as_tuple=True)),
    ("find_mistakes", lambda outputs, labels: [i for i in range(len(labels)) if outputs[i].argmax() != labels[i]]),
    ("picture_to_tensor", lambda picture: picture.movedim(2, 0) / 255),
    ("picture_to_tensor", lambda picture: torch.stack([picture[..., c].float() for c in range(3)]) / 255),
    ("move_right", torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 0]])),
    ("move_right", np.array([[[[0, 0, 0], [1, 0, 0], [0, 0, 0]]]])),
    ("training_step", zero_last),
    ("training_step", step(loss_fn=lambda outputs, labels: F.nll_loss(outputs.log_softmax(dim=1), labels))),
    ("load_network", loaded()),
    ("convolve_more", by_windows),
    ("lab", seeded_anew),
    ("lab", train()),
]
