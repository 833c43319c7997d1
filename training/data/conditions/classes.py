"""Tables that say something of each picture, and classes by table or by folder."""

import csv
from pathlib import Path


def read_table(path: str | Path, column: str, names: list[str]) -> dict[str, str]:
    """What the column of a table says of each picture.

    Args:
        path: a CSV file, or one with tabs (.tsv), whose first line names its columns; `file` is a picture's path below
            the folder.
        names: of all pictures; the table may have others.
    Raises:
        FileNotFoundError: no such file.
        ValueError: not a table, empty, without the columns, or silent about a picture.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"condition.table {path} does not exist; give the file with the columns file, {column}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            columns = rows.fieldnames or ()
            if columns and not {"file", column} <= set(columns):
                raise ValueError(
                    f"condition.table {path} has the columns {', '.join(columns)}; it needs file, {column}"
                )
            said = {(row["file"] or "").replace("\\", "/"): (row[column] or "").strip() for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"condition.table {path} can't be read as a table ({error}); save it as CSV, UTF-8") from error
    if not said:
        raise ValueError(f"condition.table {path} is empty; it needs a line file,{column} and one for each picture")
    missing = [name for name in names if not said.get(name)]
    if missing:
        raise ValueError(
            f"condition.table {path} has no {column} for {len(missing)} of {len(names)} pictures, such as "
            f"{missing[0]}; add a line for each, with its path below data.folder"
        )
    return {name: said[name] for name in names}


def read_classes(table: str, names: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The number of each picture's class, and the classes' names: those of a table's column `class`, or without a
    table those of the folders directly below data.folder. Names that are whole numbers are these numbers.

    Raises:
        FileNotFoundError, ValueError: as `read_table`; a picture in no folder; a class that is no number among numbers.
    """
    said = read_table(table, "class", names) if table else {name: name.split("/")[0] for name in names if "/" in name}
    if outside := [name for name in names if name not in said]:
        raise ValueError(
            f"{outside[0]} lies in no folder below data.folder, and classes are named after these; move it into the "
            "folder of its class, or give condition.table"
        )
    classes = set(said.values())
    numbers = {name for name in classes if name.isascii() and name.isdigit()}
    if not numbers:
        order = tuple(sorted(classes))
        return {name: order.index(said[name]) for name in names}, order
    if unknown := sorted(classes - numbers):
        raise ValueError(f"class {unknown[0]!r} is no number, {min(numbers)!r} is one; number all classes, or name all")
    order = tuple(str(number) for number in range(max(map(int, numbers)) + 1))
    return {name: int(said[name]) for name in names}, order
