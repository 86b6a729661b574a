"""Shows a data set: `python -m fairat_tf.data NAME [--data_dir=DIR] [--contact_sheet=sheet.png]`.

Exit codes: 0 shown; 2 wrong usage; 3 data missing or unreadable.
"""

import os
import sys

from absl import flags


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string(
        "data_dir", "", "Folder of original files or of TFDS' prepared data.", flag_values=values
    )
    flags.DEFINE_bool("download", False, "Download what is missing, as TFDS does it.", flag_values=values)
    flags.DEFINE_integer(
        "image_size", 0, "Resize to this many pixels; 0 keeps the images.", 0, flag_values=values
    )
    flags.DEFINE_string(
        "contact_sheet", "", "Write a PNG with examples of each class to this file.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=values)
    return values


def main(arguments: list[str]) -> int:
    """Shows the data set named in `arguments` (program name first); returns the exit code."""
    values = _flags()
    try:
        names = values(arguments)[1:]
    except flags.Error as error:
        print(error, file=sys.stderr)
        return 2
    if values.help:
        print(__doc__, values.get_help(), sep="\n")
        return 0
    if len(names) != 1:
        print("expected one data set name; --help shows the usage.", file=sys.stderr)
        return 2
    return _show(names[0], values)


def _show(name: str, values: flags.FlagValues) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from fairat_tf import data
    from fairat_tf.data import describe

    try:
        options = {"data_dir": values.data_dir, "download": values.download, "image_size": values.image_size}
        found = data.load(name, **options)
        print(describe.describe(found))
        if values.contact_sheet:
            describe.contact_sheet(found, values.contact_sheet)
            print(f"\ncontact sheet: {values.contact_sheet}")
    except data.DataError as error:
        print(error, describe.downloads(name, values.data_dir), sep="\n", file=sys.stderr)
        return 3
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
