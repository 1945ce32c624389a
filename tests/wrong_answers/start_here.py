"""Wrong answers to the exercises of notebook 00: (exercise, answer, a piece of the message that fits the mistake)."""

import torch
import torch.nn.functional as F


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


def conv(image, kernel, stride=1, padding=0):
    return F.conv2d(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


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


def unsaved(model, optimizer, loader, num_epochs, checkpoint):
    for _ in range(num_epochs):
        for images, labels in loader:
            step()(model, optimizer, images, labels)
    return model


WRONG = [
    ("picture_to_tensor", lambda p: p.float() / 255, "expected (3, 6, 5), channels first"),
    ("picture_to_tensor", lambda p: p.permute(2, 1, 0).float() / 255, "Yours is (3, 5, 6)"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1), "Expected float32; torch.uint8 came"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1).float(), "yours go up to 255"),
    ("picture_to_tensor", lambda p: p.permute(2, 0, 1).float() / 256, "should become 1"),
    ("picture_to_tensor", lambda p: p.reshape(3, 6, 5).float() / 255, "reshape cuts the numbers up anew"),
    ("picture_to_tensor", lambda p: (p.permute(2, 1, 0).float() / 255).reshape(3, 6, 5), "Height and width"),
    ("picture_to_tensor", lambda p: p.flip(2).permute(2, 0, 1).float() / 255, "not at their places"),
    ("picture_to_tensor", lambda p: p.numpy(), "a ndarray came"),
    ("training_step", step(zero_grad=False), "adds to the old gradients"),
    ("training_step", step(backward=False), "is loss.backward() there?"),
    ("training_step", step(move=False), "nobody takes the step"),
    ("training_step", zero_between, "weights have not changed"),
    ("training_step", step(give=lambda loss: loss), "Return a plain number"),
    ("training_step", step(loss_fn=lambda outputs, y: F.cross_entropy(-outputs, y)), "cross-entropy before the step"),
    ("training_step", step(loss_fn=lambda x, y: F.cross_entropy(x, y, reduction="sum")), "cross-entropy before"),
    ("convolve_more", lambda image, kernel, stride, padding: conv(image, kernel, 1, padding), "is stride used?"),
    ("convolve_more", lambda image, kernel, stride, padding: conv(image, kernel, stride), "a rim of zeros"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel.flip(0, 1), s, p), "turned by 180 degrees"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel, s, p)[1:], "expected a result of shape"),
    ("convolve_more", lambda image, kernel, s, p: conv(image + 1, kernel, s, p), "the numbers are not"),
    ("convolve_more", lambda image, kernel, s, p: conv(image, kernel, s, p).tolist(), "a list came"),
    ("learn", memoriser, "It need not be the very same image"),
    ("learn", nearest_mean, "makes mistakes on"),
    ("learn", lambda images, labels: lambda new: torch.zeros(len(new)), "The empirical risk is"),
    ("learn", five_neighbours, "makes mistakes on"),
    ("learn", lambda images, labels: labels, "should return a function"),
    ("learn", lambda images, labels: lambda new: [0] * len(new), "a tensor of 1200 labels"),
    ("lab", unsaved, "nothing was saved"),
    ("lab", train(name="other.pt"), "has written other.pt"),
    ("lab", train(resume=False), "did all 20 steps again"),
    ("lab", train(keep=()), "weights at the end are not those"),
    ("lab", train(off=1), "weights at the end are not those"),
    ("lab", train(keep=("model",)), "with Adam it does not"),
    ("lab", train(keep=("model", "optimizer")), "the random numbers are others"),
    ("lab", train(at_start=False), "Save once before the first epoch"),
    ("lab", train(epochs=lambda n: n - 1), "Even when nobody disturbs it"),
    ("lab", lambda *args: 3, "should return the model"),
]
