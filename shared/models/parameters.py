"""What a strategy of one's own may be given: values that are the same in a line and in JSON."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

# Of an integer: Python writes and reads no more than 4,300 of them.
MAX_DIGITS = 18


def _not_another_type(word: str) -> str:
    if word in {"true", "false"}:
        msg = f"{word!r} as text would be read as a truth value"
        raise ValueError(msg)
    return word


def _not_too_long(value: bool | int | float | str) -> bool | int | float | str:
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        msg = f"a whole number has at most {MAX_DIGITS} digits"
        raise ValueError(msg)
    return value


ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=50)]
Word = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=100),
    AfterValidator(_not_another_type),
]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
# An integer that was refused as one would be taken as a float: so all are checked afterwards.
Parameter = Annotated[bool | int | Number | Word, AfterValidator(_not_too_long)]
