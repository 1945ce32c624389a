"""Exercises of notebook 00, start here."""

import copy
import random
import tempfile
from numbers import Real
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from utils import datasets
from utils.exercises import came, names_in, not_used, number, tensor
from utils.lessons import Exercise

# ---- 1. steps --------------------------------------------------------------------------------------------------------


def steps_in_all():
    return 12 * 1200 // 50


def _check_steps_in_all(steps):
    steps = number(steps)
    mistakes = {
        1200 // 50: "These are the steps of one epoch. We train for 12.",
        12 * 1200: "This counts digits. A step takes a whole batch of 50.",
        12 * 50: "The 1,200 digits are missing: how many batches of 50 do they make?",
        12: "These are the epochs. Each of them has many steps.",
    }
    for value, message in mistakes.items():
        assert steps != value, message
    assert steps == 288, (
        f"1,200 digits in batches of 50, twelve times through: {steps:g} came. How many batches make an epoch?"
    )
    return "24 batches make an epoch, and 12 epochs 288 steps."


steps_in_all = Exercise(
    "How many steps",
    test=_check_steps_in_all,
    hints=(
        "How many batches of 50 make 1,200 digits? That is one epoch.",
        "1200 / 50 = 24 steps in each of the 12 epochs.",
    ),
    reference=steps_in_all,
    computed=True,
)

# ---- 2. find the mistakes --------------------------------------------------------------------------------------------


def find_mistakes(outputs, labels):
    answers = outputs.argmax(dim=1)
    return (answers != labels).nonzero().flatten()


def _check_find_mistakes(find_mistakes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([7, 1, 4, 2, 0, 5, 9, 9, 3, 6])  # ten of them, so that a wrong dim gives no error of torch's
    outputs = torch.randn(10, 10, generator=generator)
    answers = labels.clone()
    answers[3], answers[8] = 5, 1
    outputs[torch.arange(10), answers] = 9
    places = _places(find_mistakes(outputs.clone(), labels.clone()))
    assert places.dtype != torch.bool, (
        "True or False for each picture came. Expected the numbers of the wrong ones: "
        ".nonzero() finds where True stands."
    )
    assert places.ndim or places != 2, "How many they are came. Expected their numbers: where is the comparison True?"
    found = sorted(places.flatten().tolist())
    assert len(found) != 10 or set(found) != {0, 1}, (
        "A 0 or a 1 for each picture came. Expected the numbers of the wrong ones: .nonzero() finds where the 1 stands."
    )
    assert found != [4, 9], "You count the pictures from 1. The first has the number 0."
    assert found != sorted(labels[[3, 8]].tolist()) and found != sorted(answers[[3, 8]].tolist()), (
        "These are digits. Expected the numbers of the pictures: their places in the batch."
    )
    assert found != sorted({*range(10)} - {3, 8}), (
        "These are the pictures whose answer is *right*. Compare with != in place of ==."
    )
    across = (outputs.argmax(dim=0) != labels).nonzero().flatten().tolist()
    assert found != across, "argmax has compared the pictures with each other. dim=1 compares the ten numbers of each."
    assert found == [3, 8], (
        f"Of 10 pictures, 3 and 8 have a wrong answer; {str(found)[:60]} came. "
        "The answer is the place of the largest of the "
        "ten numbers, outputs.argmax(dim=1)."
    )
    outputs, labels = torch.randn(60, 10, generator=generator), torch.arange(60) % 10
    outputs[20:, :][F.one_hot(labels[20:]).bool()] = 9
    wrong = [k for k in range(60) if outputs[k].argmax() != labels[k]]
    found = sorted(_places(find_mistakes(outputs.clone(), labels.clone())).flatten().tolist())
    assert found == wrong, (
        f"Right for 10 pictures. Of 60 others, {len(wrong)} have a wrong answer, and {len(found)} numbers came: "
        "does your answer hold for any pictures, and any number of them?"
    )
    return "Try it on the small CNN: find_mistakes(outputs, labels) of the cells above."


def _places(given) -> torch.Tensor:
    given = given[0] if isinstance(given, tuple) and len(given) == 1 else given  # of nonzero(as_tuple=True), np.where
    return tensor(given, "the numbers of the pictures")


find_mistakes = Exercise(
    "Find the mistakes",
    test=_check_find_mistakes,
    hints=(
        "outputs.argmax(dim=1) is the answer for each picture. Where is it not the label?",
        "(answers != labels) is True where the answer is wrong, and .nonzero() gives the positions.",
        ".nonzero() gives a column; .flatten() turns it into a plain list.",
    ),
    reference=find_mistakes,
)

# ---- 3. from picture to tensor ---------------------------------------------------------------------------------------


def picture_to_tensor(picture):
    return picture.permute(2, 0, 1).float() / 255


def _check_picture_to_tensor(picture_to_tensor):
    picture = torch.randint(0, 256, (6, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture[0, 0], picture[5, 4] = 0, 255
    image = picture_to_tensor(picture.clone())
    assert isinstance(image, torch.Tensor), f"Expected a tensor; a {type(image).__name__} came."
    assert image.shape == (3, 6, 5), (
        f"A picture of shape (6, 5, 3) came; expected (3, 6, 5), channels first. Yours is {tuple(image.shape)}."
    )
    assert image.dtype == torch.float32, f"Expected float32; {image.dtype} came. Call .float() before you divide."
    assert image.min() >= 0, f"Expected numbers from 0 to 1; yours go down to {image.min():g}. A byte of 0 stays 0."
    assert image.max() <= 1, f"Expected numbers from 0 to 1; yours go up to {image.max():g}. A byte goes up to 255."
    assert image.max() == 1, f"The brightest byte, 255, should become 1; yours became {image.max():g}. Divide by 255."
    scaled = picture.float() / 255
    assert not torch.equal(image, scaled.reshape(3, 6, 5)), (
        "The shape is right, but the pixels have moved: reshape cuts the numbers up anew. permute exchanges axes."
    )
    assert not torch.equal(image, scaled.permute(2, 1, 0).reshape(3, 6, 5)), (
        "Height and width have been exchanged on the way. One permute brings all three axes to their places."
    )
    assert torch.allclose(image.flatten().sort().values, scaled.flatten().sort().values), (
        f"The numbers are not the bytes divided by 255: a byte of {picture[2, 2, 0]} should become "
        f"{scaled[2, 2, 0]:.3f}."
    )
    assert torch.allclose(image, scaled.permute(2, 0, 1)), (
        "Shape, type and range are right, but the pixels are not at their places: image[c, y, x] should be "
        "picture[y, x, c] / 255."
    )
    dark = picture // 4 + 20
    assert torch.allclose(picture_to_tensor(dark.clone()), dark.permute(2, 0, 1) / 255), (
        f"A dark picture, whose bytes go from {dark.min()} to {dark.max()}, comes out too bright or too dark. "
        "Divide by 255, the most that a byte "
        "can be, whatever this picture's own numbers are."
    )
    return "Channels first, floats from 0 to 1: every image pipeline begins so."


picture_to_tensor = Exercise(
    "From picture to tensor",
    test=_check_picture_to_tensor,
    hints=(
        "Two things are needed: reorder the axes, and change type and range.",
        "permute(2, 0, 1) says which old axis comes first, second and third.",
        "picture.permute(2, 0, 1).float() / ... and a byte goes up to 255.",
    ),
    reference=picture_to_tensor,
)

# ---- 4. a kernel that moves the picture ------------------------------------------------------------------------------


def move_right():
    return [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def _check_move_right(kernel):
    kernel = tensor(kernel, "3 x 3 numbers, such as [[0, 0, 0], [0, 1, 0], [0, 0, 0]]").float()
    assert kernel.numel() == 9, f"Expected 3 x 3 numbers; a kernel of shape {tuple(kernel.shape)} came."
    kernel = kernel.reshape(3, 3)
    kept = kernel.nonzero().tolist()
    assert len(kept) == 1, (
        f"Each new pixel is one old pixel: one number of the kernel is not zero. {len(kept)} are in yours."
    )
    (row, column) = kept[0]
    to_the_left = (
        "This moves the picture to the left: each pixel takes the value of its *right* neighbour. "
        "(With a kernel turned by 180 "
        "degrees, as mathematics has it, yours would be right.)"
    )
    places = {
        (1, 1): "This keeps the pixel in the middle of the window: nothing moves.",
        (1, 2): to_the_left,
        (0, 1): "This takes the neighbour above: the picture moves down.",
        (2, 1): "This takes the neighbour below: the picture moves up.",
    }
    assert (row, column) == (1, 0), places.get(
        (row, column), "This takes a neighbour at a corner: the picture moves aslant."
    )
    assert kernel[1, 0] == 1, (
        f"The right place, but every pixel becomes {kernel[1, 0]:g} times as bright. Keep it as it is: 1."
    )
    return "Each new pixel is the old one's left neighbour, so everything stands one further to the right."


move_right = Exercise(
    "A kernel that moves the picture",
    test=_check_move_right,
    hints=(
        "If everything moves to the right, which old pixel is then at the place of pixel (i, j)?",
        "Its left neighbour. In the window around (i, j) that is the number in the middle row, left.",
    ),
    reference=move_right,
    computed=True,
)

# ---- 5. the training step --------------------------------------------------------------------------------------------


def training_step(model, optimizer, images, labels):
    outputs = model(images)
    loss = F.cross_entropy(outputs, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _three_steps(step, zero_grad=True):
    """Three steps of a tiny model on one batch: (weights, losses, weights after the first step, what was called)."""
    generator, called = torch.Generator().manual_seed(1), []
    images, labels = torch.randn(8, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    model = nn.Linear(4, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.bias.register_hook(lambda gradient: called.append("backward"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    optimizer.register_step_pre_hook(lambda *args: called.append("step"))
    if not zero_grad:
        optimizer.zero_grad = lambda *args, **kwargs: None
    losses = [step(model, optimizer, images, labels)]
    first = copy.deepcopy(model.state_dict())
    losses += [step(model, optimizer, images, labels) for _ in range(2)]
    return model.state_dict(), losses, first, called


def _same(weights, others):
    return all(torch.allclose(weights[name], others[name], atol=1e-6) for name in others)


def _softmax_twice(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images).softmax(dim=1), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _check_training_step(step):
    expected, expected_losses, expected_first, _ = _three_steps(training_step.reference)
    start = _three_steps(lambda *args: 0.0)[0]
    weights, losses, first, called = _three_steps(step)
    loss = losses[0]
    assert not isinstance(loss, torch.Tensor) or not loss.requires_grad, (
        "A tensor came back, and behind it hangs the whole graph of the computation. Return a plain number: "
        "loss.item()."
    )
    assert isinstance(loss, Real), (
        f"A {type(loss).__name__} came back: {loss}. Expected a plain number: loss.item() makes one of the tensor."
    )
    assert isinstance(loss, float) or not isinstance(loss, bool | int), f"{loss} came back. Expected the loss."
    if _same(weights, start):
        assert "backward" in called, "The weights have not changed. There are no gradients: is loss.backward() there?"
        assert "step" in called, (
            "The weights have not changed. There are gradients, but nobody takes the step: "
            "optimizer.step() comes after loss.backward()."
        )
        raise AssertionError(
            "The weights have not changed, although all is called. When the step is taken the gradients are forgotten: "
            "optimizer.zero_grad() belongs before loss.backward(), not between it and optimizer.step()."
        )
    accumulated = _three_steps(training_step.reference, zero_grad=False)[0]
    assert not _same(weights, accumulated), (
        "The first step is right, the later ones too large: backward() adds to the old gradients. "
        "Call optimizer.zero_grad() before it."
    )
    assert not _same(weights, _three_steps(_softmax_twice)[0]), (
        "There is a softmax before F.cross_entropy, which makes one itself. It trains, but badly: "
        "give it the model's outputs as they are."
    )
    assert abs(loss - expected_losses[0]) < 1e-5, (
        f"The loss should be the cross-entropy before the step, {expected_losses[0]:.4f}; {float(loss):.4f} came."
    )
    assert "step" in called, "The weights move, but `optimizer` took no step. Use the one that you are given."
    assert _same(first, expected_first) and _same(weights, expected), (
        "The weights move, but not as they should. In order: forward, F.cross_entropy, zero_grad, backward, step."
    )
    return f"Three steps, and the loss falls from {losses[0]:.2f} to {losses[2]:.2f}."


training_step = Exercise(
    "The training step",
    test=_check_training_step,
    hints=(
        "Section 6 has the five lines in order: forward, loss, and three that change the weights.",
        "outputs = model(images), loss = F.cross_entropy(outputs, labels), then zero_grad, backward, step.",
        "loss.item() turns the loss into a plain number.",
    ),
    reference=training_step,
)

# ---- 6. a network from a file ----------------------------------------------------------------------------------------


def load_network(make_model, file):
    model = make_model()
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def _check_load_network(load_network):
    def make_model():
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        trained, x = make_model(), torch.randn(20, 6)
        trained(3 * x)  # its running means are of data now
        torch.save(trained.state_dict(), file := Path(folder) / "digits.pt")
        model = load_network(make_model, file)
    assert not isinstance(model, dict), (
        "A dict of weights came, and no network: model = make_model(), then model.load_state_dict(...) with that dict."
    )
    assert isinstance(model, nn.Module), (
        f"Expected a network; a {type(model).__name__} came. (load_state_dict changes the model in place, "
        "and returns another thing: return the model.)"
    )
    weights, expected = model.state_dict(), trained.state_dict()
    assert weights.keys() == expected.keys(), "This is another network. make_model() makes one of the right kind."
    kinds = {f"{value.dtype}" for name, value in weights.items() if value.dtype != expected[name].dtype}
    assert not kinds, f"The network has numbers of {' and '.join(sorted(kinds))}; in the file they are float32."
    assert all(torch.equal(weights[name], expected[name]) for name in expected), (
        "The network has random weights, not those of the file: model.load_state_dict(torch.load(file)) puts them in."
    )
    assert not any(module.training for module in model.modules()), (
        "The weights are right, but it is in training mode, where a layer such as dropout answers at random. "
        "model.eval() makes it ready to read."
    )
    return "The same network, the weights of the file, evaluation mode."


load_network = Exercise(
    "A network from a file",
    test=_check_load_network,
    hints=(
        "A file of weights is not a network: make a network first, then load the weights into it.",
        "model.load_state_dict(torch.load(file)) loads them. Which mode is a new network in?",
        "A new network is in training mode, so call model.eval(). Then return the model.",
    ),
    reference=load_network,
)

# ---- 7. convolution with stride and padding --------------------------------------------------------------------------


def convolve_more(image, kernel, stride, padding):
    image, size = F.pad(image, (padding,) * 4), len(kernel)
    rows = range(0, image.shape[0] - size + 1, stride)
    columns = range(0, image.shape[1] - size + 1, stride)
    result = torch.zeros(len(rows), len(columns))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            result[i, j] = (image[top : top + size, left : left + size] * kernel).sum()
    return result


def _torch_convolve(image, kernel, stride, padding):
    return F.conv2d(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


def _check_convolve_more(convolve_more):
    not_used(convolve_more, *names_in(torch, F, nn, like="conv"))
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 3, generator=generator)
    for height, width, stride, padding in ((7, 9, 1, 0), (7, 9, 2, 0), (7, 9, 1, 2), (8, 9, 3, 1), (8, 10, 2, 1)):
        image = torch.randn(height, width, generator=generator)
        case = f"image {height} x {width}, kernel 3 x 3, stride {stride}, padding {padding}"
        result, expected = (f(image.clone(), kernel, stride, padding) for f in (convolve_more, _torch_convolve))
        assert isinstance(result, torch.Tensor), f"Expected a tensor; a {type(result).__name__} came."
        result = result.to(expected.dtype)  # a result in double precision is as right
        came, wanted = tuple(result.shape), tuple(expected.shape)
        if came != wanted and stride > 1 and came == tuple(_torch_convolve(image, kernel, 1, padding).shape):
            raise AssertionError(
                f"{case}: expected {wanted}, {came} came. The window moves a pixel at a time; is stride used?"
            )
        if came != wanted and padding > 0 and came == tuple(_torch_convolve(image, kernel, stride, 0).shape):
            raise AssertionError(
                f"{case}: expected {wanted}, {came} came. Is there a rim of zeros? F.pad(image, (p, p, p, p))."
            )
        assert came == wanted, f"{case}: expected a result of shape {wanted}, {came} came."
        flipped = _torch_convolve(image, kernel.flip(0, 1), stride, padding)
        assert not torch.allclose(result, flipped, atol=1e-4), (
            "Your kernel is turned by 180 degrees. That is convolution as mathematics has it; PyTorch's, "
            "and that of section 3, is not "
            "turned."
        )
        inside = _torch_convolve(torch.ones_like(image), torch.ones(3, 3), stride, padding) == 9  # no rim seen
        assert torch.allclose(result, expected, atol=1e-4) or not torch.allclose(
            result[inside], expected[inside], atol=1e-4
        ), f"{case}: only the numbers at the rim are wrong. The rim that padding adds is of zeros."
        assert torch.allclose(result, expected, atol=1e-4), (
            f"{case}: the shape is right, the numbers are not; "
            f"the largest difference is {(result - expected).abs().max():.2f}. "
            "Window (i, j) begins at row i * stride and column j * stride of the padded image."
        )
    return "The same numbers as F.conv2d, for five combinations of size, stride and padding."


convolve_more = Exercise(
    "Convolution with stride and padding",
    test=_check_convolve_more,
    hints=(
        "Pad first: F.pad(image, (padding, padding, padding, padding)). Then forget that there was padding.",
        "The formula of section 3 says how large the result is; or count the windows: "
        "range(0, height - size + 1, stride).",
        "Window (i, j) is image[i * stride : i * stride + size, j * stride : j * stride + size].",
    ),
    reference=convolve_more,
)

# ---- 8. zero empirical risk, and not useless -------------------------------------------------------------------------


def learn(images, labels):
    known = images.flatten(1).float()

    def answer(images):
        return labels[torch.cdist(images.flatten(1).float(), known).argmin(dim=1)]

    return answer


def _check_learn(learn):
    train, _, test = datasets.digits()
    answer = learn(train.images.clone(), train.targets["label"].clone())
    assert callable(answer), f"learn should return a function; a {type(answer).__name__} came. Define it inside learn."
    risks = []
    for split in (train, test):
        labels, given = split.targets["label"], answer(split.images.clone())
        assert given is not None, (
            "The function that learn returns gives nothing back itself. Is a return missing in it?"
        )
        answers = tensor(given, f"{len(labels)} labels, one an image")
        assert answers.shape == labels.shape, (
            f"For {len(labels)} images your function should return {len(labels)} labels; {came(given)} came."
        )
        risks.append((answers != labels).float().mean().item())
    known, new = risks
    assert known == 0 or new >= 0.1, (
        f"It reads {1 - new:.1%} of new digits, which is good, "
        f"but it makes mistakes on {known:.1%} of those that it was given. "
        "Which of the known images is nearest to a known image?"
    )
    places = torch.equal(answers, _nearest(test.images, train.images))
    assert not places, "These are the places of the nearest known images. Look up their labels: labels[places]."
    assert known == 0, f"The empirical risk is {known:.1%}; on the images that it was given it must make no mistake."
    assert new < 0.1, (
        f"No mistake on the images that it was given, and {new:.0%} wrong on new ones. "
        "It need not be the very same image: ask for the one most like it, and measure that with floats, "
        "as differences of bytes wrap around."
    )
    return (
        f"Empirical risk 0, and {1 - new:.1%} of new digits right. "
        "Memory is no vice; what it says about new pictures decides."
    )


def _nearest(images, known):
    return torch.cdist(images.flatten(1).float(), known.flatten(1).float()).argmin(dim=1)


learn = Exercise(
    "Zero empirical risk, and not useless",
    test=_check_learn,
    hints=(
        "The memoriser asks: have I seen exactly this image? "
        "Ask instead: which image that I have seen is most like it?",
        "Two images are similar when the distance between their vectors of 64 numbers is small. "
        "Compute with floats, not bytes.",
        "torch.cdist(new, known) gives all distances, argmin(dim=1) the nearest known image of each new one.",
    ),
    reference=learn,
)

# ---- lab: resume from a kill at a random step ------------------------------------------------------------------------


def train(model, optimizer, loader, num_epochs, checkpoint):
    def save(epoch):
        state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        unfinished = checkpoint.with_suffix(".part")
        torch.save(state | {"random": torch.get_rng_state()}, unfinished)
        unfinished.replace(checkpoint)  # at once: the file is the old one or the new one

    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        first = state["epoch"]
    else:
        first = 0
        save(0)
    for epoch in range(first, num_epochs):
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        save(epoch + 1)
    return model


class _Killed(BaseException):
    """The power cut. No Exception, so that `except Exception` cannot hold it up."""


class _Mortal:
    """A loader that counts its batches and dies when it should hand out number `last` (None: never)."""

    def __init__(self, loader, last):
        self.loader, self.last, self.steps = loader, last, 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            self.steps += 1
            if self.steps == self.last:
                raise _Killed
            yield batch


_EPOCHS, _BATCHES = 4, 5  # of the runs of the check


def _start(stage, seed, last=None):
    """(model, optimizer, loader) of a new process. Stage 0: plain SGD; 1: Adam; 2: dropout and shuffled batches too."""
    data = datasets.digits().train.subset(32 * _BATCHES)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2 * (stage == 2)), nn.Linear(32, 10))
    optimizer = (torch.optim.Adam if stage else torch.optim.SGD)(model.parameters(), lr=0.01 if stage else 0.1)
    pictures = TensorDataset(data.images.float() / 255, data.targets["label"])
    return model, optimizer, _Mortal(DataLoader(pictures, batch_size=32, shuffle=stage == 2), last)


def _live(train, stage, kills=()):
    """Final weights, steps of each life, and the files that the first kill left. A kill is a step of its own life."""
    lives, files = [], []
    with tempfile.TemporaryDirectory() as folder:
        for life, last in enumerate([*kills, None]):
            model, optimizer, loader = _start(stage, seed=0 if life == 0 else 1000 + life, last=last)
            try:
                trained = train(model, optimizer, loader, _EPOCHS, Path(folder) / "run.pt")
                lives.append(loader.steps)
                break
            except _Killed:
                lives.append(loader.steps - 1)
                files = files or sorted(path.name for path in Path(folder).iterdir())
    assert isinstance(trained, nn.Module), f"train should return the model; a {type(trained).__name__} came."
    return [parameter.detach().clone() for parameter in trained.parameters()], lives, files


def _plain(model, optimizer, loader, num_epochs, checkpoint):
    for _ in range(num_epochs):
        for images, labels in loader:
            training_step.reference(model, optimizer, images, labels)
    return model


def _equal(weights, others):
    return all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


def _check_lab(train):
    with torch.random.fork_rng(devices=[]):
        return _check_lives(train)


def _check_lives(train):
    total, middle = _EPOCHS * _BATCHES, 2 * _BATCHES + 3
    for stage in (0, 1):
        assert _equal(_live(train, stage)[0], _live(_plain, stage)[0]), (
            "Even when nobody disturbs it, your training ends elsewhere than the loop of section 6 (with no mode "
            "switched). "
            f"It should make {_EPOCHS} passes, with forward, F.cross_entropy, zero_grad, backward, step for each batch."
        )
    weights, lives, files = _live(train, 0, [middle])
    assert files, (
        "Killed in the third epoch, and there was no file: nothing was saved. "
        "torch.save(..., checkpoint) after every epoch."
    )
    assert "run.pt" in files, (
        f"Your training has written {', '.join(files)}; the next run looks for `checkpoint` itself."
    )
    assert lives[1] < total, (
        f"Killed in the third epoch, your second run did all {total} steps again: "
        "load the file where checkpoint.exists(), and "
        "begin at its epoch."
    )
    assert _equal(weights, _live(_plain, 0)[0]), (
        f"Plain SGD, batches in fixed order, killed at step {middle}: "
        "the weights at the end are not those of the unbroken run. "
        f"The second run did {lives[1]} steps; {total - 2 * _BATCHES} were left after two whole epochs. "
        "Are the weights and the number of "
        "epochs those from the end of the last whole epoch?"
    )
    assert _equal(_live(train, 1, [middle])[0], _live(_plain, 1)[0]), (
        "With plain SGD it works, with Adam it does not: Adam keeps running means of the gradients. Save and load "
        "optimizer.state_dict() too."
    )
    # Random numbers may be seeded anew in every epoch: here its own undisturbed run is the measure.
    whole, (steps, *_), _ = _live(train, 2)
    assert steps == total, f"With dropout and shuffled batches {steps} steps came; expected {total}."
    assert _equal(_live(train, 2, [middle])[0], whole), (
        "With dropout and shuffled batches the resumed run ends elsewhere: the random numbers are others. Save "
        "torch.get_rng_state() at the end of each epoch, and put it back with torch.set_rng_state()."
    )
    assert _equal(_live(train, 2, [1])[0], whole), (
        "Killed at the very first step, the next run began with other random weights. "
        "Save once before the first epoch too."
    )
    draw = random.SystemRandom().randint
    runs = [
        [draw(2, total - 1)],
        [draw(2, total - 1)],
        [total],
        [draw(_BATCHES + 1, total - 1), draw(1, 5), draw(1, 5)],
    ]
    results = [_live(train, 2, kills) for kills in runs]
    survived = sum(_equal(weights, whole) for weights, _, _ in results)
    assert survived == len(runs), (
        f"{survived} of {len(runs)} runs that were killed at random steps end with equal weights; "
        f"the kills were at {runs}. Good is "
        "all of them."
    )
    again = sum(sum(lives) - total for _, lives, _ in results)
    return (
        f"All {len(runs) + 4} killed runs end with equal weights. In the last {len(runs)}, "
        f"{again} of {len(runs) * total} steps had to be "
        "done twice."
    )


lab = Exercise(
    "Lab: resume from a kill at a random step",
    test=_check_lab,
    hints=(
        "What decides the next step? The weights, the optimizer's memory, the random numbers, and which epoch it is. "
        "Save all four.",
        "Save a dict with torch.save: epoch, model.state_dict(), optimizer.state_dict(), torch.get_rng_state(). "
        "Once before the first epoch, then after each.",
        "At the start: if checkpoint.exists(), load all four, and let the loop be range(epoch, num_epochs).",
    ),
    reference=train,
)
