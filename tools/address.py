"""Where the course lives: the address that badges, set-up cells, pages and the site name, written into pyproject.toml.

python -m tools.address                             that of `git remote get-url origin`, where it is a public one
python -m tools.address https://github.com/me/fork  this one
"""

import argparse
import re
import subprocess
import sys

from tools.build import PLACEHOLDER, ROOT

PROJECT = ROOT / "pyproject.toml"
LINE = re.compile(r'^Repository = "(.*)"$', re.M)
PUBLIC = re.compile(r"(?:https://|ssh://git@|git@)(github\.com)[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")


def public(remote: str) -> str | None:
    """https://github.com/OWNER/NAME, however the remote is written; None for another place, or with a password."""
    found = PUBLIC.fullmatch(remote.strip())
    return "https://{}/{}/{}".format(*found.groups()) if found else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", help="https://github.com/OWNER/NAME")
    asked = parser.parse_args().address
    text = PROJECT.read_text(encoding="utf-8")
    before = LINE.search(text)[1]
    if asked:
        address = public(asked)
        if not address:
            print(f"{asked!r}: expected an address such as https://github.com/OWNER/NAME.", file=sys.stderr)
            return 2
    else:
        remote = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True).stdout
        address = public(remote) or before
    PROJECT.write_text(LINE.sub(f'Repository = "{address}"', text), encoding="utf-8")
    asks = " It is still to be set: make address ADDRESS=https://github.com/OWNER/NAME."
    to_set = asks if PLACEHOLDER in address else ""
    print(f"The address is {address}.{to_set}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
