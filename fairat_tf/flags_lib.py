"""The flags of training: one for each field of the configuration and of the method's options.

    command = training_command(sys.argv)
    command.run(lambda values, _: print(config_from(values)))

Nothing here is written twice: names, defaults, ranges and help come from the dataclasses. The flags
of the general configuration are known without TensorFlow; those of a training method are added
when the command line names the method or holds flags that are not general.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from absl import flags

from fairat_tf import cli, config, errors, methods, quiet

_TITLES = {
    "data": "Data",
    "network": "Network",
    "attack": "Threat model and attack in training",
    "optimization": "Optimisation",
    "run": "Run",
}
_LONG = 7  # letters from which a fraction reads better than a decimal number
_SUMMARY = (
    "Trains an image classifier so that no class is left unprotected: FairAT by default, with the "
    "community's recipe for the data set. Shows validation class by class, keeps the best network, "
    "evaluates it on the test split and exports a SavedModel."
)
_EXAMPLE = """\
python -m fairat_tf.train --dataset=svhn --data_dir=DIR
python -m fairat_tf.train --method=fairat --help"""


def training_command(argv: Sequence[str]) -> cli.Command:
    """Returns the command line of `fairat_tf.train`, with the flags of the method that `argv` asks for.

    Raises:
      fairat_tf.lookup.UnknownNameError: `argv` names a method that does not exist.
      errors.UsageError: `argv` names a flag file that cannot be read.
    """
    command = cli.Command("train", _SUMMARY, example=_EXAMPLE)
    with command.group("Method"):
        known = ", ".join(methods.names())
        help_text = f"training method: {known}; --method=M --help shows its own flags"
        flags.DEFINE_string("method", "fairat", help_text, flag_values=command.flags)
        text = "print configuration and estimated time, then stop"
        flags.DEFINE_boolean("dry_run", False, text, flag_values=command.flags)
    for name, section in config.Config().sections().items():
        with command.group(_TITLES[name]):
            _define_all(section, command.flags)
    _add_method_flags(command, list(argv))
    return command


def _add_method_flags(command: cli.Command, argv: list[str]) -> None:
    peek = flags.FlagValues()
    flags.DEFINE_string("method", None, "", flag_values=peek)
    try:
        rest = peek(argv, known_only=True)[1:]
    except (flags.Error, UnicodeDecodeError) as error:  # a flag file that is not there, or is no text
        raise errors.UsageError(f"{error} (see python -m fairat_tf.train --help)") from error
    name = peek.method or "fairat"
    if name not in methods.names():
        methods.get(name)
    asked_for_help = any(word.lstrip("-") in ("help", "h", "helpshort", "helpfull") for word in rest)
    general = (word.lstrip("-").partition("=")[0] for word in rest if word.startswith("-"))
    foreign = [
        flag for flag in general if flag not in command.flags and flag.removeprefix("no") not in command.flags
    ]
    if not asked_for_help and not foreign or asked_for_help and not peek.method:
        return
    quiet.import_tensorflow()
    with command.group(f"Options of {name}"):
        _define_all(methods.get(name).Options(), command.flags)


def _define_all(options: Any, values: flags.FlagValues) -> None:
    for field in dataclasses.fields(options):
        _define(field.metadata["flag"] or field.name, getattr(options, field.name), field.metadata, values)


def _define(name: str, default: Any, facts: Any, values: flags.FlagValues) -> None:
    kind, text = facts["kind"], _capital(facts["help"])
    if default is None and "default" not in text:
        text += "; default: the data set's recipe"
    if facts["choices"]:
        flags.DEFINE_enum(name, default, list(facts["choices"]), text, flag_values=values)
    elif kind is bool:
        flags.DEFINE_boolean(name, default, text, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, default, text, flag_values=values)
    elif kind is float:
        shown = _fraction(default)
        cli.DEFINE_fraction(name, shown, text, lower_bound=None, upper_bound=None, flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def _fraction(value: float | None) -> str | None:
    """Returns how a person would write the number: 8/255 and not 0.0313..., but 0.2 and not 51/255."""
    if value is None or len(str(value)) < _LONG:
        return None if value is None else str(value)
    for below in (255, Fraction(value).limit_denominator(255).denominator):
        if round(value * below) / below == value:
            return f"{round(value * below)}/{below}"
    return str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def config_from(values: flags.FlagValues) -> config.Config:
    """Returns the configuration that the parsed flags describe.

    Raises:
      ValueError: a value out of its range; the message names flag, range and value.
      UsageError: norm l2 without a radius.
    """
    cli.check_radius(values)
    sections = {name: _read(section, values) for name, section in config.Config().sections().items()}
    options: dict[str, Any] = {}
    if _has_options(values):
        defaults = methods.get(values.method).Options()
        chosen = _read(defaults, values)
        config.check(chosen)
        if getattr(chosen, "loss", "") == "cross_entropy" and chosen.beta != defaults.beta:
            raise ValueError("beta weighs the boundary term of loss=trades or mart; here loss=cross_entropy")
        options = dataclasses.asdict(chosen)
    return config.Config(method=values.method, options=options, **sections)


def _has_options(values: flags.FlagValues) -> bool:
    general = {
        f.metadata["flag"] or f.name
        for s in config.Config().sections().values()
        for f in dataclasses.fields(s)
    }
    return bool(set(values) - general - {"method", "dry_run", "flagfile", "undefok"})


def _read(options: Any, values: flags.FlagValues) -> Any:
    names = {field.name: field.metadata["flag"] or field.name for field in dataclasses.fields(options)}
    return type(options)(**{field: values[flag].value for field, flag in names.items()})
