"""Shows a data set: `python -m fairat_tf.data NAME [--data_dir=DIR] [--contact_sheet=sheet.png]`.

Exit codes: 0 shown; 2 wrong usage; 3 data missing or unreadable; 7 contact sheet not writable.
"""

import sys

from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "data",
    "Shows a data set: classes, counts, sizes, mean and deviation of the pixels, a contact sheet.",
    arguments="NAME",
    example="python -m fairat_tf.data cifar10 --data_dir=DIR --contact_sheet=sheet.png",
)

with COMMAND.group("Data") as _values:
    flags.DEFINE_string(
        "data_dir", "", "Folder of original files or of TFDS' prepared data.", flag_values=_values
    )
    flags.DEFINE_bool("download", False, "Download what is missing, as TFDS does it.", flag_values=_values)
    flags.DEFINE_integer(
        "image_size", 0, "Resize to this many pixels; 0 keeps the images.", 0, flag_values=_values
    )
    flags.DEFINE_string(
        "contact_sheet", "", "Write a PNG with examples of each class to this file.", flag_values=_values
    )


def show(values: flags.FlagValues, arguments: list[str]) -> None:
    """Prints what is known of the data set named in `arguments`.

    Raises:
      errors.CommandError: each kind with its exit code; what would be downloaded is printed before.
    """
    if len(arguments) != 1:
        raise errors.UsageError("expected one data set name; --help shows the usage")
    from fairat_tf import data
    from fairat_tf.data import describe

    options = {"data_dir": values.data_dir, "download": values.download, "image_size": values.image_size}
    try:
        found = data.load(arguments[0], **options)
    except data.DataError:
        wanted = describe.downloads(arguments[0], values.data_dir)
        if wanted:
            print(wanted, file=sys.stderr)
        raise
    print(describe.describe(found))
    if values.contact_sheet:
        describe.contact_sheet(found, values.contact_sheet)
        print(f"\ncontact sheet: {values.contact_sheet}")


def main(argv: list[str]) -> int:
    """Runs the command line `argv` (program name first); returns the exit code."""
    return COMMAND.run(show, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
