"""The glossary: in order, no term twice, and each term stands in the section of the notebook that it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "docs/glossary.md").read_text("utf-8").splitlines() if line.startswith("- ")]
ENTRY = (
    r"- \*\*(?P<term>.+?)\*\*(?: \((?P<others>.+?)\))?: .+ "
    r"\[(\d\d)\]\(\.\./notebooks/(?P<file>\3_\w+)\.ipynb\) §(?P<section>\d+)"
)


def plain(text):
    """Lower case, all that is neither letter nor digit as one blank."""
    return " " + re.sub(r"[\W_]+", " ", text).strip().lower()


def test_each_line_is_an_entry_in_alphabetical_order_and_no_term_comes_twice():
    entries = [re.fullmatch(ENTRY, line) for line in LINES]
    broken = [line for line, entry in zip(LINES, entries, strict=True) if not entry]
    assert not broken, f"not '- **term** (other names): sentence. [NN](../notebooks/NN_topic.ipynb) §N': {broken}"
    terms = [entry["term"].casefold() for entry in entries]
    assert len(terms) > 100 and terms == sorted(set(terms))


def test_each_term_stands_in_the_section_that_it_names():
    missing = []
    for entry in (re.fullmatch(ENTRY, line) for line in LINES):
        source = (ROOT / f"notebooks/source/{entry['file']}.py").read_text("utf-8")
        parts = re.split(r"^# ## (.+)", source, flags=re.MULTILINE)
        section = next(
            (h + t for h, t in zip(parts[1::2], parts[2::2], strict=True) if h.startswith(f"{entry['section']}. ")), ""
        )
        names = [entry["term"], *(entry["others"] or "").split(", ")]
        if not any(plain(name) in plain(section) for name in names if name):
            missing.append(f"{entry['term']}: {entry['file']} §{entry['section']}")
    assert not missing, f"neither the term nor one of its other names is there: {missing}"
