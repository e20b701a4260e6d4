"""Words to avoid, with their replacements; `./run_local.sh check` also runs this file."""

import re
import subprocess

import pytest

from tests.pipeline_runs import CHECKOUT

INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"stumbl(e|es|ed|ing)": "fail",
    r"whoever|whosoever|anybody": "user, caller, client",
    r"how it stands": "its status",
    r"at most so many": "a limit on",
    r"none of ours": "no ... of promptreel",
    r"keep(s|ing)? house": "remove expired entries",
    r"heed|wherein|thereby": "a plain word",
}
THIS = "tests/test_vocabulary.py"


def texts():
    names = subprocess.run(["git", "ls-files", "*.py", "*.md", "*.sh"], cwd=CHECKOUT, capture_output=True, text=True)
    if names.returncode != 0:
        pytest.skip("not a git checkout")
    for name in names.stdout.split():
        if name != THIS and (CHECKOUT / name).is_file():
            yield name, (CHECKOUT / name).read_text()


def test_texts_avoid_unwanted_words():
    unwanted = re.compile(r"(?<![A-Za-z])(" + "|".join(INSTEAD) + r")(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{name}:{number}: {match.group()!r}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for match in unwanted.finditer(line)
    ]
    assert not found, f"replace by {INSTEAD}: {found}"


@pytest.mark.parametrize(("line", "is_found"), [("mend it", True), ("recommended", False), ("the_mend", True)])
def test_pattern_matches_words_and_parts_of_names(line, is_found):
    pattern = r"(?<![A-Za-z])(" + "|".join(INSTEAD) + r")(?![A-Za-z])"
    assert bool(re.search(pattern, line)) == is_found
