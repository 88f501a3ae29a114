"""Print the commands of the first ```sh block of a file, one a line, without prompts and comments."""

import re
import sys
from pathlib import Path


def commands(text: str) -> list[str]:
    """
    >>> commands("words\\n```sh\\n$ make train  # takes a minute\\n# a remark\\nmake test\\n```\\n")
    ['make train', 'make test']
    """
    block = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise SystemExit("no ```sh block found")
    lines = [re.sub(r"(^|\s)#.*", "", line).removeprefix("$ ").strip() for line in block[1].splitlines()]
    return [line for line in lines if line]


if __name__ == "__main__":
    print("\n".join(commands(Path(sys.argv[1]).read_text(encoding="utf-8"))))
