"""What is saved is whole or not there; halves of processes that are gone are tidied up, and nothing else."""

import os

import torch

from utils.files import is_whole, save_whole


def test_only_halves_of_processes_that_are_gone_are_tidied_up(tmp_path):
    kept = [f"run.pt.{os.getppid()}.part", "run.pt.mine.part", "other.pt.999999999.part"]
    for name in [*kept, "run.pt.999999999.part"]:
        (tmp_path / name).write_bytes(b"half")
    save_whole({"a": torch.ones(3)}, tmp_path / "run.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "run.pt"])
    assert torch.load(tmp_path / "run.pt", weights_only=True)["a"].sum() == 3


def test_whole_or_not(tmp_path):
    file = tmp_path / "run.pt"
    assert not is_whole(file)
    save_whole({"a": torch.ones(300)}, file)
    assert is_whole(file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    for broken in (content, content[:-50], b"", b"PK\x03\x04"):
        file.write_bytes(broken)
        assert not is_whole(file)
