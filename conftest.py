"""Every test run, of tests and of notebooks, ends with the line of tools/verdict.py."""

pytest_plugins = ["tools.verdict"]
