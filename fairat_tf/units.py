"""Numbers as people write them: 8/255 and 30m. Standard library only.

parse_fraction("8/255"), parse_duration("30m")     # 0.0313..., 1800.0
pixels(8 / 255)                                    # "8/255"
"""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_fraction(text: str | float) -> float:
    """Returns the number written as `8/255`, `0.0314` or `1e-2`.

    Raises:
      ValueError: the text is none of these, or not finite.
    """
    numerator, slash, denominator = str(text).partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a number or a fraction such as 8/255, got {text!r}") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"expected a finite number, got {text!r}")
    return value


def parse_duration(text: str | float) -> float:
    """Returns the seconds of `90s`, `30m`, `2h`, `1d` or a plain number of seconds.

    Raises:
      ValueError: not a positive duration.
    """
    text = str(text).strip()
    unit = _UNITS.get(text[-1:].lower())
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        raise ValueError(f"expected a duration such as 90s, 30m or 2h, got {text!r}") from None
    if not 0.0 < seconds < float("inf"):
        raise ValueError(f"expected a duration above 0, got {text!r}")
    return seconds


def pixels(value: float) -> str:
    """Returns a length in pixels of [0, 1] as people write it: `8/255`, `0.5`, `1`."""
    whole = value * 255
    return f"{whole:.4g}/255" if value < 1 and abs(whole - round(whole, 2)) < 1e-6 else f"{value:.4g}"
