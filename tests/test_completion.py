"""Completion in a shell: what the command prints for it, loaded by real shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SHELLS = {
    "bash": """
eval "$(_PLATEBLUR_COMPLETE=source_bash plateblur)"
complete -p plateblur >/dev/null || exit 1
while IFS= read -r line; do
    IFS=" " read -r -a COMP_WORDS <<< "$line."
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    COMP_WORDS[COMP_CWORD]="${COMP_WORDS[COMP_CWORD]%.}"
    COMPREPLY=()
    _plateblur_completion plateblur
    (IFS=" "; echo "${COMPREPLY[*]}")
done
""",
    "zsh": """
autoload -Uz compinit && compinit -u -D
eval "$(_PLATEBLUR_COMPLETE=source_zsh plateblur)"
[[ -n ${_comps[plateblur]} ]] || exit 1
_arguments() { print -r -- ${1//$'\\n'/ } }
while IFS= read -r line; do
    words=(${(s: :)line}) && [[ $line == *" " ]] && words+=("")
    CURRENT=$#words
    _plateblur_completion plateblur
done
""",
    "fish": """
_PLATEBLUR_COMPLETE=source_fish plateblur | source
while read -l line
    complete -C $line | string replace -r "\\t.*" "" | string join " "
end
true  # the last read found no line
""",
}
"""By shell: a program that reads a command line from each line of its input, and prints how its
last word may go on."""

BEGUN = {
    "plateblur ": {"blur", "video", "detect", "live", "demo", "serve"},
    "plateblur blur --me": {"--method", "--metadata"},
    "plateblur blur --method ": {"veil", "solid", "mosaic", "gaussian"},
    "plateblur video --quality s": {"small"},
}


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_values_are_completed(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} isn't installed")
    bare = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = subprocess.run(
        [shell, *bare, "-c", SHELLS[shell]],
        input="".join(f"{line}\n" for line in BEGUN),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(BEGUN), done
    for (line, wanted), answer in zip(BEGUN.items(), answers, strict=True):
        assert wanted <= _words(answer), line
        if line != "plateblur ":  # extras add commands
            assert len(_words(answer)) == len(wanted), line


def _words(answer: str) -> set[str]:
    """Return the words that are offered; zsh gets them in quotes, with what each means."""
    quoted = re.findall(r'"([^"]*)"(?::"[^"]*")?', answer)
    return set(quoted) if "((" in answer else set(answer.split())
