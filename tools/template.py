# %% [markdown]
# # 04 · The title
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/04_the_topic.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/04_the_topic.ipynb)
#
# **Question:** what does this notebook answer, in one sentence?
#
# **You will be able to**
# - first thing,
# - second thing,
# - third thing.
#
# **Time:** it runs in @TIME@ on two CPU cores and in ... on a GPU; with the exercises, about ... minutes.
# **Before this:** notebook 03.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1 and 2: what the class takes home.
# - **Optional:** what can wait.
# - **Where to stop:** after which figure or claim, and where if you are late.

# %% slideshow={"slide_type": "skip"}
# Set-up, the same in every notebook: finds the course's files here, in Kaggle's data sets or on the net. Just run it.
import subprocess, sys
from pathlib import Path

cwd, ours = Path.cwd(), "utils/lessons.py"
kaggle = [path.parents[1] for depth in range(1, 5) for path in Path("/kaggle/input").glob("*/" * depth + ours)]
course = next((f for f in [cwd, *cwd.parents, *kaggle] if (f / ours).is_file()), cwd / "deep-learning-for-images-@REF@")
if not (course / ours).is_file():
    failed, git = subprocess.getstatusoutput(f'git clone -q --depth 1 --branch @REF@ @REPO@ "{course}"')
    if failed:
        sys.exit(f"Git could not get the course. No network? Kaggle: Settings > Internet, or attach it as data.\n{git}")
sys.path.insert(0, str(course))
for name in [n for n, m in sys.modules.items() if n.split(".")[0] == "utils" and str(course / "utils") not in str(m)]:
    del sys.modules[name]  # another package of that name
import utils

device = utils.start()

# %%
# What this notebook imports, each from its room: see the map in README.md.
from utils import datasets, figures
from utils.exercises import the_topic as exercises
from utils.lessons import claim, summary

# %% [markdown]
# ## 1. The idea (10 min)
#
# One idea. Mathematics in LaTeX with the symbols of the code: $y = x + f(x)$.

# %%
# One idea a cell, and right after it its value or its picture.
train, val, test = datasets.dogs_vs_cats()
len(train)

# %% [markdown] slideshow={"slide_type": "notes"}
# Speaker notes: the story of the figure, and what the class usually answers.

# %% [markdown]
# ## 2. The experiment (15 min)
#
# **Before you run it:** which of the two will train faster? Why?
#
# <details><summary>Answer</summary>
#
# Folded away: the answer, with its reason.
#
# </details>

# %%
# The experiment: the code that stays fixed stays fixed, so that the line that changes is the lesson.
errors = {"plain": 0.2, "residual": 0.1}


# %%
def draw(network):
    """The figure; its title states the finding, its alt text is the sentence below it."""
    fig, ax = figures.plt.subplots()
    ax.barh(network, errors[network])
    ax.set(xlabel="test error", title="The finding")
    return fig, f"The {network} network has a test error of {errors[network]:.0%}."


figures.explore(draw, network=list(errors))

# %%
claim(
    "what the experiment showed, in words",
    errors["residual"] < errors["plain"],
    f"test error {errors['residual']:.0%} against {errors['plain']:.0%}",
)

# %% [markdown]
# ## 3. Exercises (20 min)
#
# **Exercise 1: fill in.** Replace the dots, run the cell, and read what the check says.

# %%
answer = ...
exercises.fill_in.check(answer)

# %% slideshow={"slide_type": "skip"}
# exercises.fill_in.hint()
# exercises.fill_in.solution()

# %% [markdown]
# Two more at least, the last one built by the student: checks, hints and solutions live in `utils/exercises/`.

# %% [markdown]
# ## 4. Lab (30 min)
#
# Open-ended. Say how it is scored on held-out data and what counts as good.

# %% [markdown]
# ## Summary
#
# The claims, in words; below, as measured in this run.

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | U1 the topic, with its id | 1 | A |
# | U2 the next topic | 1, 2 | A, C |
#
# ### Further reading
# - A. Author, B. Author. *Title*. Venue, year. https://arxiv.org/abs/...
#
# ### Next notebook
# 05 · Transfer learning
