"""The scenes of notebook 11: those of its lab are drawn as the notebook draws them, and boxes are where animals are."""

import torch
from torchvision.ops import box_iou

from tools.measure import lesson
from utils.exercises import detection


def test_the_lab_draws_the_scenes_of_the_notebook():
    for arguments in ({"seed": 3}, {"seed": 4, "animals": 0}, {"seed": 5, "animals": 4, "crowded": True}):
        (images, truths), (others, again) = (
            draw(4, **arguments) for draw in (lesson("11").draw_scenes, detection.draw_scenes)
        )
        assert torch.equal(images, others)
        for truth, same in zip(truths, again, strict=True):
            assert torch.equal(truth["boxes"], same["boxes"]) and torch.equal(truth["labels"], same["labels"])


def test_a_scene_has_its_animals_inside_and_apart():
    images, truths = detection.draw_scenes(30, seed=0)
    assert images.shape == (30, 3, 128, 128) and images.dtype == torch.uint8
    assert {len(truth["boxes"]) for truth in truths} == {0, 1, 2, 3, 4}
    boxes = torch.cat([truth["boxes"] for truth in truths])
    assert boxes.min() >= 0 and boxes.max() <= 128 and (boxes[:, 2:] > boxes[:, :2]).all()
    for truth in truths:
        assert (box_iou(truth["boxes"], truth["boxes"]).fill_diagonal_(0) < 0.05).all()
