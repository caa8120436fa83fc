"""Sheets: CSV files, ZIP archives and folders of certificates → rows of cells; and rows back into CSV.

Knows nothing of what the cells mean.
"""

import base64
import csv
import io
import re
import zipfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

MAX_FILE = 512 * 1024 * 1024  # bytes of an upload, and of what an archive unpacks to
MAX_ROWS = 500_000
MAX_ENTRY = 1024 * 1024  # bytes of one file in an archive or folder
# What makes a cell a formula, for who opens the file in a spreadsheet; some read the wide forms of = + - @ as those.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_ENDINGS = (".pem", ".crt", ".cer", ".der")


class SheetError(ValueError):
    """The file as a whole cannot be read; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Row:
    """`number`: as a spreadsheet counts it, the header being 1; of an archive the file's place. `source`: its name.

    `problem`: why the row cannot be read at all.
    """

    number: int
    cells: dict[str, str]
    source: str = ""
    problem: str = ""


def read(file: IO[bytes], known: Sequence[str], needed: Sequence[str]) -> Generator[Row, None, None]:
    """The rows of a CSV file, or of a ZIP archive with one certificate a file.

    Args:
        known: columns that are understood. `needed`: those that a CSV must have.
    Raises:
        SheetError: also while the rows are read.
    """
    beginning = file.read(4)
    file.seek(0)
    if beginning.startswith(b"PK"):
        if "certificate" not in known:
            raise SheetError("An archive can hold certificates only; give a CSV file.")
        return _of_archive(file)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    return _of_csv(text, known, needed)


def _of_csv(text: io.TextIOWrapper, known: Sequence[str], needed: Sequence[str]) -> Generator[Row, None, None]:
    try:
        header = text.readline(64 * 1024)
        if not header.strip():
            raise SheetError(f"The file is empty; its first line names the columns: {','.join(known)}")
        delimiter = max(",;\t", key=header.count)
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
        _check_header(names, known, needed)
        for number, cells in enumerate(csv.reader(text, delimiter=delimiter, strict=True), 2):
            if number > MAX_ROWS + 1:
                raise SheetError(f"The file has more than {MAX_ROWS:,} rows; split it.")
            if not any(cell.strip() for cell in cells):
                continue
            padded = [*cells, *[""] * (len(names) - len(cells))]
            found = {name: unescaped(cell.strip()) for name, cell in zip(names, padded, strict=False)}
            found.pop("error", None)  # a file of refused rows that was mended tells why they were refused last time
            excess = any(cells[len(names) :])
            yield Row(number, found, problem=f"{len(cells)} cells, and the header has {len(names)}" if excess else "")
    except UnicodeDecodeError as error:
        raise SheetError(f"The file is no text in UTF-8 (byte {error.start + 1}); save it as CSV UTF-8.") from error
    except csv.Error as error:
        raise SheetError(f"This is no CSV file: {error}.") from error
    finally:
        text.detach()  # the file is the caller's, who may read it again


def _check_header(names: list[str], known: Sequence[str], needed: Sequence[str]) -> None:
    if "password" in names:
        raise SheetError("Passwords are not imported: nobody keeps them in a file. Leave the column out.")
    unknown = [name for name in names if name not in known and name != "error"]
    if unknown:
        raise SheetError(f"There is no column {unknown[0]!r}; known are {', '.join(known)}.")
    if missing := [name for name in needed if name not in names]:
        raise SheetError(f"The column {missing[0]} is missing; the first line names the columns: {','.join(known)}")
    if len(set(names)) != len(names):
        raise SheetError("A column is named twice.")


def _of_archive(file: IO[bytes]) -> Generator[Row, None, None]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [each for each in archive.infolist() if not each.is_dir()]
            if len(entries) > MAX_ROWS:
                raise SheetError(f"The archive has more than {MAX_ROWS:,} files; split it.")
            left = MAX_FILE
            for number, entry in enumerate(entries, 1):
                path = PurePosixPath(entry.filename)
                if path.suffix.lower() not in _ENDINGS or path.name.startswith("."):
                    yield Row(number, {}, entry.filename, f"no certificate by its name ({', '.join(_ENDINGS)})")
                    continue
                with archive.open(entry) as content:
                    data = content.read(MAX_ENTRY + 1)
                left -= len(data)
                if left < 0:
                    raise SheetError(f"The archive unpacks to more than {MAX_FILE:,} bytes; split it.")
                yield _of_file(number, path.stem, entry.filename, data)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise SheetError(f"This is no ZIP archive that can be read: {error}") from error


def of_folder(folder: Path) -> Generator[Row, None, None]:
    """A certificate a file, each named after its user. Raises SheetError."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not paths:
        raise SheetError(f"{folder} has no file that ends in {', '.join(_ENDINGS)}.")
    for number, path in enumerate(paths, 1):
        with path.open("rb") as file:
            yield _of_file(number, path.stem, str(path.relative_to(folder)), file.read(MAX_ENTRY + 1))


def _of_file(number: int, stem: str, source: str, data: bytes) -> Row:
    if len(data) > MAX_ENTRY:
        return Row(number, {}, source, f"larger than {MAX_ENTRY:,} bytes")
    text = data.decode("ascii", "replace") if b"-----BEGIN" in data else base64.b64encode(data).decode()
    return Row(number, {"user": stem, "certificate": text}, source)


def escaped(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


_ESCAPED = re.compile(rf"'[{re.escape(''.join(FORMULA))}]")


def unescaped(cell: str) -> str:
    return cell[1:] if _ESCAPED.match(cell) else cell


def write(columns: Sequence[str], rows: Iterable[dict[str, str]]) -> str:
    """CSV text that can be opened in a spreadsheet without harm, and imported again."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([escaped(row.get(name, "")) for name in columns])
    return text.getvalue()
