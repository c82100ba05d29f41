"The seven tables as other programs write them: each is read as the same cohort, or rejected in one line."

import errno
import gzip
import os
import re
import shutil
from pathlib import Path

import duckdb
import pytest

from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.sources import csv_scans, mimic3
from rnn_transfer.sources.csv_scans import csv_scan
from rnn_transfer.sources.duckdb_tables import duckdb_session, one_line_duckdb_errors
from rnn_transfer.sources.mimic3_tables import TABLES, scan_table, write_toy_tables
from rnn_transfer.utilities.errors import BadInput

EYES = next(c.values for c in BENCHMARK_CHANNELS if c.name == "Glascow coma scale eye opening")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_tables(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def right(toy):
    return mimic3.cohort(toy).fingerprint


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    "Both ways to read whole numbers."
    if request.param == "large":
        monkeypatch.setattr(csv_scans, "_LARGE", -1)
    return request.param


def edit(toy, folder, change, names=TABLES):
    "Copy the tables; `change` makes new text or bytes of those that are named."
    shutil.copytree(toy, folder)
    for name in [names] if isinstance(names, str) else names:
        path = folder / f"{name}.csv"
        content = change(path.read_text())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def by_line(change):
    "A change of each line, which gets its number and its text."
    return lambda text: "".join(change(i, line) + "\n" for i, line in enumerate(text.splitlines()))


def rejected(folder, message, **kwargs):
    with pytest.raises(BadInput, match=message) as e:
        mimic3.cohort(folder, **kwargs)
    assert "\n" not in str(e.value)
    assert "\x1f" not in str(e.value)


IDS = re.compile(r"^(\d+),(\d*)(,|$)", re.M)
SAME = {
    "an index column without a name": by_line(lambda i, x: f"{i - 1},{x}" if i else f",{x}"),
    "an index column in quotes": by_line(lambda i, x: f'"{i}",{x}' if i else f'"",{x}'),
    "columns of any name": by_line(lambda i, x: f"{x},1,2,3,4" if i else f"{x},it's,\"a\"\"b\",{{x}},it's"),
    "a comma at the end": by_line(lambda i, x: f"{x},"),
    "blank rows": lambda t: t.replace("\n", "\n\n", 1) + "\n" + "," * t.splitlines()[0].count(",") + "\n\n",
    "spaces around names": by_line(lambda i, x: x if i else " " + x.replace(",", " , ")),
    "semicolons": lambda t: t.replace('"FALL, STROKE"', "FALL").replace(",", ";"),
    "tabs": lambda t: t.replace('"FALL, STROKE"', "FALL").replace(",", "\t"),
    "bars": lambda t: t.replace('"FALL, STROKE"', "FALL").replace(",", "|"),
    "Windows": lambda t: "\ufeff" + t.replace("\n", "\r\n"),
    "old Macintosh": lambda t: t.replace("\n", "\r"),
    "no line end at the end": lambda t: t.rstrip("\n"),
    "ids with a point": lambda t: IDS.sub(lambda m: f"{m[1]}.0,{m[2] and m[2] + '.0'}{m[3]}", t),
    "ids with zeros before them": lambda t: IDS.sub(lambda m: f"00{m[1]},{m[2]}{m[3]}", t),
    "ids in quotes": lambda t: IDS.sub(lambda m: f'"{m[1]}",{m[2]}{m[3]}', t),
}


@pytest.mark.parametrize("form", SAME)
def test_a_table_may_have_any_form(toy, right, size, tmp_path, form):
    folder = edit(toy, tmp_path / "raw", SAME[form], [name for name in TABLES if name[0] != "D" or "id" not in form])
    assert mimic3.cohort(folder).fingerprint == right


@pytest.mark.parametrize("word", ["NA", "NULL", "\\N", "nan", "NaN", "None", "N/A", "null", "<NA>", '"NA"', '""'])
def test_a_word_for_nothing_is_an_empty_cell(toy, right, tmp_path, word):
    "In a time, an identifier, a unit; while the answer None of the Glasgow coma scale stays one."
    empty = re.compile(r"(?<=,)(?=,|$)", re.M)
    folder = edit(toy, tmp_path / "raw", lambda t: empty.sub(lambda m: word, t))
    made = mimic3.cohort(folder)
    assert made.fingerprint == right
    eye = made.events[(made.events["stay_id"] == 300) & made.events["channel"].astype(str).str.contains("eye")]
    assert [EYES[int(value)] for value in eye["value"]] == ["None"]


def test_words_in_a_large_table_are_seen_in_its_first_rows(toy, right, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_scans, "_LARGE", -1)
    empty = re.compile(r"(?<=,)(?=,|$)", re.M)
    folder = edit(toy, tmp_path / "raw", lambda t: empty.sub("NA", t))
    assert mimic3.cohort(folder).fingerprint == right
    monkeypatch.setattr(csv_scans, "_SAMPLE", 100)
    rejected(folder, "column .*: 'NA' is no .*; leave the cell empty where nothing is known")


@pytest.mark.parametrize("add", [9 * 10**9, 10**12, 10**14, 10**17])
def test_long_identifiers(toy, tmp_path, size, add):
    "Ten digits, and up to eighteen, in every column of identifiers."

    def lengthen(text):
        names, *rows = [line.split(",") for line in text.splitlines()]
        for i, name in enumerate(names):
            if name in ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID"):
                for row in rows:
                    row[i] = row[i] and str(int(row[i]) + add)
        return "".join(",".join(row) + "\n" for row in [names, *rows])

    made = mimic3.cohort(edit(toy, tmp_path / "raw", lengthen))
    known = mimic3.cohort(toy)
    assert list(made.stays["stay_id"] - add) == list(known.stays["stay_id"]) == [200, 300, 600, 900]
    assert list(made.stays["subject_id"] - add) == [2, 3, 6, 9]
    assert list(made.events["stay_id"] - add) == list(known.events["stay_id"])
    assert list(made.events["value"]) == list(known.events["value"])


ROW = "3,30,300,211,2100-01-01 09:00:00"
BAD_IDS = {
    "300.5": "line 2: column ICUSTAY_ID: '300.5' is no whole number",
    "-300": "line 2: column ICUSTAY_ID: '-300' is no whole number",
    "0x12c": "line 2: column ICUSTAY_ID: '0x12c' is no (whole )?number",
    "true": "line 2: column ICUSTAY_ID: 'true' is no (whole )?number",
    "inf": "line 2: column ICUSTAY_ID: 'inf' is no whole number",
    "1234567890123456789": "line 2: column ICUSTAY_ID: '1234567890123456789' has more digits than an identifier",
    "unknown": "line 2: column ICUSTAY_ID: 'unknown' is no .*number; leave the cell empty where nothing is known",
    "-": "line 2: column ICUSTAY_ID: '-' is no .*number; leave the cell empty where nothing is known",
}


@pytest.mark.parametrize("text", BAD_IDS)
def test_an_identifier_is_a_whole_number(toy, tmp_path, size, text):
    "DuckDB alone reads 300.5 as 301 and 0x12c as 300."
    folder = edit(toy, tmp_path / "raw", lambda t: t.replace(ROW, ROW.replace("300", text), 1), "CHARTEVENTS")
    rejected(folder, f"CHARTEVENTS.csv: {BAD_IDS[text]}")


@pytest.mark.parametrize("empty", ["", "NA"])
@pytest.mark.parametrize(
    "name, row, column",
    [
        ("PATIENTS", "\n3,", "SUBJECT_ID"),
        ("ADMISSIONS", "\n3,30,", "HADM_ID"),
        ("ICUSTAYS", "\n3,30,300,", "ICUSTAY_ID"),
        ("DIAGNOSES_ICD", "\n3,30,", "HADM_ID"),
        ("LABEVENTS", "\n3,30,50931,", "ITEMID"),
    ],
)
def test_an_identifier_that_must_be_there(toy, tmp_path, name, row, column, empty):
    folder = edit(toy, tmp_path / "raw", lambda t: t.replace(row, row.rsplit(",", 2)[0] + f",{empty},", 1), name)
    if name == "PATIENTS":
        folder = edit(toy, tmp_path / "raw2", lambda t: t.replace(row, f"\n{empty},"), name)
    rejected(folder, rf"{name}.csv: line \d: column {column}: an empty cell, where a whole number is needed")


ODD = {
    "two kinds of line ends": (
        "LABEVENTS",
        lambda t: t.replace("\n", "\r\n", 3),
        "LABEVENTS.csv: its line ends are of",
    ),
    "a column twice": ("PATIENTS", by_line(lambda i, x: x + (",F" if i else ",gender")), "column GENDER stands twice"),
    "an unknown delimiter": ("PATIENTS", lambda t: t.replace(",", "~"), "no comma, semicolon, tab or | is in it"),
    "no patient": ("PATIENTS", lambda t: t.splitlines()[0] + "\n\n", "PATIENTS.csv: no row below the first line"),
    "no stay": ("ICUSTAYS", lambda t: t.splitlines()[0], "ICUSTAYS.csv: no row below the first line"),
    "an infinite stay": ("ICUSTAYS", lambda t: t.replace(",2.5", ",inf", 1), "line 2: column LOS: 'inf' is no number"),
    "a decimal comma": ("ICUSTAYS", lambda t: t.replace(",2.5", ',"2,5"', 1), "line 2: column LOS: '2,5' is no number"),
    "a long line": ("CHARTEVENTS", lambda t: t.replace("98.6", "9" * 3_000_000), "CHARTEVENTS.csv: line 8: cannot be"),
    "MIMIC-IV": (
        "ICUSTAYS",
        lambda t: t.replace("ICUSTAY_ID", "stay_id"),
        r"ICUSTAYS.csv: this is MIMIC-IV \(column stay_id\), which the source mimic4 reads",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_table_that_cannot_be_read_is_one_line(toy, tmp_path, size, kind):
    name, change, message = ODD[kind]
    rejected(edit(toy, tmp_path / "raw", change, name), message, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["CHARTEVENTS", "PATIENTS"])
def test_gz_files(toy, right, tmp_path, name):
    "Padded: read as gzip does. Damaged so that it still unpacks: rejected."
    folder = edit(toy, tmp_path / "it's [a] b*", str, [])
    text = (folder / f"{name}.csv").read_bytes()
    (folder / f"{name}.csv").unlink()
    packed, path = gzip.compress(text, 0), folder / f"{name}.csv.gz"
    for content in (
        packed,
        packed + bytes(1),
        packed + bytes(512),
        gzip.compress(text[:99]) + gzip.compress(text[99:]),
    ):
        path.write_bytes(content)
        assert mimic3.cohort(folder).fingerprint == right
    digit = packed.replace(b"2100-01-01 10:30", b"2100-01-01 10:31").replace(b"2050-06-01", b"2050-06-02")
    for content in (digit, packed[:-8] + bytes(8), packed[:-4], packed + b"x", packed + packed[:50]):
        assert content != packed
        path.write_bytes(content)
        rejected(folder, f"{name}.csv.gz: (not a whole .gz file|other bytes follow)")
    path.write_bytes(gzip.compress(text[:99]) + bytes(9) + gzip.compress(text[99:]))
    rejected(folder, f"{name}.csv.gz: not a whole .gz file for DuckDB; pack it again")


def test_two_copies_of_a_table(toy, tmp_path):
    folder = edit(toy, tmp_path / "raw", lambda t: t[: len(t) // 3], "CHARTEVENTS")
    (folder / "CHARTEVENTS.csv.gz").write_bytes(gzip.compress((toy / "CHARTEVENTS.csv").read_bytes()))
    rejected(folder, r"CHARTEVENTS is there twice: CHARTEVENTS.csv \(\d+ bytes\) and CHARTEVENTS.csv.gz \(\d+ bytes\)")


def test_mimic_iv_as_it_comes(tmp_path):
    for part, name in ("hosp", "patients"), ("icu", "icustays"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{name}.csv").write_text("subject_id,hadm_id,stay_id,anchor_age\n1,2,3,4\n")
    rejected(tmp_path, r"this is MIMIC-IV \(hosp, icu\)")
    rejected(tmp_path / "icu", r"this is MIMIC-IV \(columns stay_id, anchor_age\)")


def test_a_pipe_is_not_waited_for(toy, tmp_path):
    folder = edit(toy, tmp_path / "raw", str, [])
    (folder / "LABEVENTS.csv").unlink()
    os.mkfifo(folder / "LABEVENTS.csv")
    rejected(folder, "LABEVENTS.csv: a pipe or a device, expected a file")


def test_a_scan_without_a_session_reads_a_padded_file(toy, tmp_path):
    folder = edit(toy, tmp_path / "raw", str, [])
    packed = gzip.compress((folder / "PATIENTS.csv").read_bytes())
    (folder / "PATIENTS.csv").unlink()
    (folder / "PATIENTS.csv.gz").write_bytes(packed + bytes(100))
    assert duckdb.sql(f"SELECT sum(SUBJECT_ID) FROM {scan_table(folder, 'PATIENTS')}").fetchall() == [(40,)]


@pytest.mark.parametrize("rows", [100_000])
def test_a_bad_cell_far_down_a_large_file_is_found(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(csv_scans, "_LARGE", 1000)
    path = tmp_path / "T.csv"
    path.write_text("ID\n" + "".join(f"{i}\n" for i in range(rows)))
    sql = f"SELECT count(*), sum(ID), typeof(any_value(ID)) FROM {csv_scan(path, dict(ID='BIGINT'))}"
    assert duckdb.sql(sql).fetchall() == [(rows, rows * (rows - 1) // 2, "BIGINT")]
    path.write_text(path.read_text() + "7.5\n")
    message = f"T.csv: line {rows + 2}: column ID: '7.5' is no whole number"
    with pytest.raises(BadInput, match=message), one_line_duckdb_errors(path):
        duckdb.sql(sql).fetchall()
    monkeypatch.setattr("rnn_transfer.sources.duckdb_tables._MAX_SEARCHED", 10)
    with pytest.raises(BadInput, match="T.csv: column ID: '7.5' is no whole number"), one_line_duckdb_errors(path):
        duckdb.sql(sql).fetchall()


# ---- errors of any class ----


CLASSES = sorted(
    (c for c in vars(duckdb).values() if isinstance(c, type) and issubclass(c, duckdb.Error)), key=lambda c: c.__name__
)


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("path", ["", "/a b/X.csv"])
def test_an_error_of_any_class_is_one_line(error, path):
    with pytest.raises(BadInput) as e, one_line_duckdb_errors(path):
        raise error("Some Error: something\n  screen by screen\n")
    assert "\n" not in str(e.value)
    assert str(e.value).startswith("memory: " if "Memory" in error.__name__ else f"{path}: " if path else "DuckDB: ")


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.ENOSPC, "the disk is full: free some space, or name another folder for intermediate files"),
        (errno.EDQUOT, "the quota of the disk is used up: free some space, or name another folder"),
        (errno.EROFS, "the disk can only be read: name another folder"),
        (errno.EIO, "the disk fails"),
    ],
)
def test_a_disk_that_cannot_be_written(number, message):
    words = f'Failed to commit: Could not write file "/s/No such file/store.duckdb.wal": {os.strerror(number)}'
    for error in (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException):
        with pytest.raises(BadInput, match=f"^{message}"), one_line_duckdb_errors("/a/X.csv"):
            raise error(f"IO Error: {words}")
    about_the_table = f'Could not read from file "/a/X.csv": {os.strerror(number)}'
    with pytest.raises(BadInput, match="^/a/X.csv: cannot be read: "), one_line_duckdb_errors("/a/X.csv"):
        raise duckdb.IOException(f"IO Error: {about_the_table}")
    with pytest.raises(BadInput, match=f"^{message}"[:20]), one_line_duckdb_errors():
        raise OSError(number, os.strerror(number))


def test_a_scratch_folder_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="none: no such folder"), duckdb_session(scratch=tmp_path / "none"):
        pass

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with (
        pytest.raises(BadInput, match=r"cannot be written \(Read-only file system\)"),
        duckdb_session(scratch=tmp_path),
    ):
        pass
    assert not list(Path(tmp_path).iterdir())
