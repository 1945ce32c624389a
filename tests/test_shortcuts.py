"""No single simple number gives the label of a drawn lesion or animal away; a network has to look at its form."""

import numpy as np
from scipy.spatial import ConvexHull

from utils.critters import draw, draw_lesion

AT_MOST = 0.75


def best_threshold(values, labels) -> float:
    """The share of two classes that the best threshold on a number tells apart, whichever class lies above."""
    order = np.argsort(values)
    values, ones = np.asarray(values)[order], np.concatenate([[0], np.cumsum(np.asarray(labels)[order])])
    right = (np.arange(len(ones)) - ones + ones[-1] - ones) / len(labels)  # class 0 below, class 1 above each cut
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])  # no cut between equals
    return np.maximum(right, 1 - right)[possible].max()


def told(numbers: list[dict]) -> dict[str, float]:
    """How much each number tells; every other row is of class 1."""
    labels = np.arange(len(numbers)) % 2
    return {name: best_threshold([row[name] for row in numbers], labels) for name in numbers[0]}


def around(mask):
    """Bounding box (top, bottom, left, right) of a mask, and its rim: what lies three pixels around it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    grown = np.pad(mask, 3)
    for _ in range(3):
        grown = grown | np.roll(grown, 1, 0) | np.roll(grown, -1, 0) | np.roll(grown, 1, 1) | np.roll(grown, -1, 1)
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1, grown[3:-3, 3:-3] & ~mask


def simple_numbers(image, mask) -> dict[str, float]:
    """Twenty numbers of a grey picture and a mask in it that say nothing of the mask's outline."""
    image, reach = image.astype(float), 12
    top, bottom, left, right, rim = around(mask)
    width, height = right - left, bottom - top
    inside, outside, whole = image[mask], image[~mask], image.mean()

    def mean(part):
        return part.mean() if part.size else whole

    below, above = mean(image[bottom : bottom + reach, left:right]), mean(image[max(0, top - reach) : top, left:right])
    beside = mean(image[top:bottom, max(0, left - reach) : left]), mean(image[top:bottom, right : right + reach])
    return {
        "brightness": whole,
        "brightness inside": inside.mean(),
        "brightness outside": outside.mean(),
        "brightness of the rim": image[rim].mean(),
        "brightness of the bounding box": image[top:bottom, left:right].mean(),
        "brightness below": below,
        "brightness above": above,
        "brightness on the left": beside[0],
        "brightness on the right": beside[1],
        "below against beside": below / sum(beside),
        "contrast with the rim": inside.mean() - image[rim].mean(),
        "deviation": image.std(),
        "deviation inside": inside.std(),
        "deviation outside": outside.std(),
        "area": mask.sum(),
        "width": width,
        "height": height,
        "width over height": width / height,
        "x of the centre": left + width / 2,
        "y of the centre": top + height / 2,
    }


def outline_numbers(mask) -> dict[str, float]:
    """Compactness (perimeter² over area, the perimeter counted in sides of pixels) and solidity (area over hull's)."""
    padded, pixels = np.pad(mask, 1).astype(int), np.argwhere(mask)
    perimeter = abs(np.diff(padded, axis=0)).sum() + abs(np.diff(padded, axis=1)).sum()
    corners = np.concatenate([pixels + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return {"compactness": perimeter**2 / mask.sum(), "solidity": mask.sum() / ConvexHull(corners).volume}


def test_best_threshold():
    assert best_threshold([1, 2, 3, 4], [0, 0, 1, 1]) == best_threshold([4, 3, 2, 1], [0, 0, 1, 1]) == 1
    assert best_threshold([1, 2, 3, 4], [0, 1, 0, 1]) == 0.75
    assert best_threshold([5, 5, 5, 5], [0, 1, 0, 1]) == 0.5  # equal numbers tell nothing
    values = np.random.RandomState(0).normal(size=2000)
    assert best_threshold(values, np.arange(2000) % 2) < 0.55


def test_only_the_outline_of_a_lesion_tells():
    lesions = [draw_lesion(seed % 2 == 1, seed) for seed in range(1000)]
    simple = told([simple_numbers(*lesion) for lesion in lesions])
    assert len(simple) == 20
    assert max(simple.values()) < AT_MOST, max(simple.items(), key=lambda item: item[1])
    outline = told([outline_numbers(mask) for _, mask in lesions])
    assert min(outline.values()) > 0.95, outline


def test_a_lesion_of_the_other_class_is_the_same_but_for_its_outline():
    for seed in range(10):
        (benign, smooth), (malignant, rough) = (draw_lesion(kind, seed) for kind in (False, True))
        either, both = smooth | rough, smooth & rough
        far, deep = ~(either | around(either)[-1]), both & ~around(~both)[-1]
        assert np.array_equal(benign[far], malignant[far]) and np.array_equal(benign[deep], malignant[deep])
        assert far.sum() > 1500 and (smooth != rough).sum() > 0.1 * smooth.sum()


def test_a_lesion_is_the_same_at_every_size():
    for seed in range(10):
        small, large = (draw_lesion(seed % 2 == 1, seed, size)[1] for size in (64, 128))
        assert (large[::2, ::2] != small).mean() < 0.05


def animal_numbers(image, mask, box) -> dict[str, float]:
    """The same numbers of a drawn animal, those of its head's box, and mean colours on it and beside it."""
    width, height = box[2:] - box[:2]
    colours = {
        f"{colour} {place}": image[..., channel][pixels].mean()
        for channel, colour in enumerate(("red", "green", "blue"))
        for place, pixels in (("inside", mask), ("outside", ~mask))
    }
    head = {"head's width": width, "head's height": height, "head's area": width * height}
    head |= {"head's width over height": width / height, "x of the head": box[0], "y of the head": box[1]}
    return simple_numbers(image.mean(2), mask) | colours | head


def test_no_simple_number_tells_cats_from_dogs():
    drawings = [draw(("cat", "dog")[seed % 2], seed) for seed in range(1000)]
    numbers = told([animal_numbers(*drawing[:3]) for drawing in drawings])
    assert len(numbers) == 32
    ears = numbers.pop("head's width over height")  # cats' ears stand up and dogs' often hang: 77 %, and it is the form
    assert AT_MOST < ears < 0.80
    assert max(numbers.values()) < AT_MOST, max(numbers.items(), key=lambda item: item[1])
