"""The one address of the course, from a remote or as it is given."""

import subprocess
import sys

import pytest

from tools import address


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/me/fork",
        "https://github.com/me/fork.git\n",
        "https://github.com/me/fork/",
        "git@github.com:me/fork.git",
        "ssh://git@github.com/me/fork",
    ],
)
def test_a_public_remote_however_it_is_written(remote):
    assert address.public(remote) == "https://github.com/me/fork"


@pytest.mark.parametrize(
    "remote", ["", "/home/me/course", "https://token@github.com/me/fork", "https://git.example.org/me/fork"]
)
def test_no_public_remote(remote):
    assert address.public(remote) is None


def run(monkeypatch, capsys, tmp_path, *asked):
    project = tmp_path / "pyproject.toml"
    project.write_text('a = 1\nRepository = "https://github.com/OWNER/x"\nb = 2\n')
    monkeypatch.setattr(address, "PROJECT", project)
    monkeypatch.setattr(address, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["address", *asked])
    return address.main(), project.read_text().split('"')[1], capsys.readouterr()


def test_what_is_given_is_written(monkeypatch, capsys, tmp_path):
    code, written, _ = run(monkeypatch, capsys, tmp_path, "https://github.com/me/fork")
    assert (code, written) == (0, "https://github.com/me/fork")


def test_what_is_no_address_changes_nothing(monkeypatch, capsys, tmp_path):
    code, written, said = run(monkeypatch, capsys, tmp_path, "me/fork")
    assert (code, written) == (2, "https://github.com/OWNER/x")
    assert said.err == "'me/fork': expected an address such as https://github.com/OWNER/NAME.\n"


def test_a_public_remote_is_taken_and_without_one_the_address_stays(monkeypatch, capsys, tmp_path):
    code, written, said = run(monkeypatch, capsys, tmp_path)
    assert (code, written) == (0, "https://github.com/OWNER/x") and "still to be set" in said.out
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "remote", "add", "origin", "git@github.com:me/fork.git"], cwd=tmp_path, check=True)
    assert run(monkeypatch, capsys, tmp_path)[1] == "https://github.com/me/fork"
