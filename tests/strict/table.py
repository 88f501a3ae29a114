"""The table of CuPy's names and parameters, read from cupy_api.json.

`make_table.py` writes the file and describes its format.
"""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

API: dict[str, Any] = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))
VERSION: str = API["version"]
CUPY = "cupy " + VERSION.split(".")[0]  # as it stands in messages: "cupy 14 has no ..."


@cache
def signature(text: str) -> inspect.Signature:
    """The parameters of one entry of the table.

    >>> str(signature("a axis= * out="))
    '(a, axis=None, *, out=None)'
    """
    parameters: list[inspect.Parameter] = []
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for word in text.split():
        if word == "/":
            parameters = [parameter.replace(kind=parameter.POSITIONAL_ONLY) for parameter in parameters]
        elif word == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
        elif word.startswith("**"):
            parameters.append(inspect.Parameter(word[2:], inspect.Parameter.VAR_KEYWORD))
        elif word.startswith("*"):
            parameters.append(inspect.Parameter(word[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = inspect.Parameter.KEYWORD_ONLY
        else:
            default = None if word.endswith("=") else inspect.Parameter.empty
            parameters.append(inspect.Parameter(word.rstrip("="), kind, default=default))
    return inspect.Signature(parameters)
