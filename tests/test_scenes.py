"""The scenes of notebook 11: boxes are where animals are."""

import torch
from torchvision.ops import box_iou

from utils.critters import scenes


def test_a_scene_has_its_animals_inside_and_apart():
    images, truths = scenes.draw_scenes(30, seed=0)
    assert images.shape == (30, 3, 128, 128) and images.dtype == torch.uint8
    assert {len(truth["boxes"]) for truth in truths} == {0, 1, 2, 3, 4}
    boxes = torch.cat([truth["boxes"] for truth in truths])
    assert boxes.min() >= 0 and boxes.max() <= 128 and (boxes[:, 2:] > boxes[:, :2]).all()
    for truth in truths:
        assert (box_iou(truth["boxes"], truth["boxes"]).fill_diagonal_(0) < 0.05).all()
