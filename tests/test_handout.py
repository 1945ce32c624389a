"""What is handed out: no outputs, notes, hints or solutions; and a page of answers."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import handout
from tools.build import NOTES


def notebook():
    ask = "clip = ...\nexercises.clip.check(clip)\n# exercises.clip.hint()\n# exercises.clip.solution()"
    cells = [
        new_markdown_cell("# 01 · Title"),
        new_markdown_cell("tell them".join(NOTES)),
        new_code_cell("# @title Set-up", metadata={"tags": ["hide-input"]}),
        new_code_cell("from utils.exercises import vanishing_gradients as exercises"),
        new_code_cell(ask, outputs=[new_output("stream", text="x")], execution_count=3),
    ]
    return new_notebook(cells=cells)


def test_a_handout_has_no_outputs_notes_hints_and_solutions():
    there = notebook()
    out = handout.handed_out(there)
    assert [cell.source.splitlines()[0] for cell in out.cells] == [
        "# 01 · Title",
        "# @title Hints and solutions are switched off.",
        "# @title Set-up",
        "from utils.exercises import vanishing_gradients as exercises",
        "clip = ...",
    ]
    assert out.cells[1].metadata.tags == ["hide-input"] and out.cells[-1].source.endswith(".check(clip)")
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in out.cells)
    assert there.cells[-1].outputs, "the notebook itself stays as it is"


def test_the_answers_name_each_exercise_with_its_solution_hints_and_wrong_answers():
    page = handout.answers(notebook(), "01")
    from utils.exercises import vanishing_gradients as exercises

    assert page.count("<h2>") == sum(isinstance(one, handout.Exercise) for one in vars(exercises).values())
    assert "def chain_gradient" in page and "Usual wrong answers" in page


def test_an_unknown_number_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(handout, "HANDOUT", tmp_path / "handout")
    monkeypatch.setattr("sys.argv", ["handout", "77"])
    assert handout.main() == 2 and not (tmp_path / "handout").exists()
    assert capsys.readouterr().err == "No notebook named 77 in notebooks/.\n"
