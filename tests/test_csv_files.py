"CSV files as people have them: forms, other formats, two copies, damaged .gz files, folders of other databases."

import gzip
import os
import threading
from pathlib import Path

import pytest

from rnn_transfer.sources.csv_files import check_columns, find_lines, find_table, read_text_table
from rnn_transfer.sources.other_databases import recognize_columns, recognize_folder
from rnn_transfer.utilities.csv_forms import MISSING_WORDS, read_form
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.gzip_files import gzip_checked, gzip_end, unpadded_filesystem, unpadded_name

TEXT = b"SUBJECT_ID,GENDER\n" + b"".join(b"%d,%s\n" % (i * 7919 % 10007, b"MF"[i % 2 : i % 2 + 1]) for i in range(9000))
PACKED = gzip.compress(TEXT, mtime=0)


@pytest.fixture
def put(tmp_path):
    def write(content, name="PATIENTS.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


# ---- the first line ----


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_marks(put, end, delimiter, mark):
    lines = [["", " SUBJECT_ID ", '"GEN, DER"'], ["1", "3", "M"]]
    path = put((mark + end.join(delimiter.join(fields) for fields in lines) + end).encode())
    assert read_form(path) == (["", "SUBJECT_ID", "GEN, DER"], delimiter, True)
    assert find_lines(path, "SUBJECT_ID", 3) == [2]


@pytest.mark.parametrize("rest, has_rows", [("", False), ("\n", False), ("\r\n \r\n\n", False), ("\n\n3\n", True)])
def test_a_table_without_rows_is_seen(put, rest, has_rows):
    assert read_form(put(b"SUBJECT_ID" + rest.encode())).has_rows == has_rows


OTHER = {
    "zip": (b"PK\x03\x04....", "a zip archive or a spreadsheet"),
    "bzip2": (b"BZh91AY", "packed with bzip2"),
    "xz": (b"\xfd7zXZ\0", "packed with xz"),
    "zstd": (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    "parquet": (b"PAR1....", "a Parquet file"),
    "web page": (b"\n <!DOCTYPE html><html>", "a web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "gzip": (PACKED, "a .gz file whose name does not say so; rename it to PATIENTS.csv.gz"),
    "utf-16": ("A,B\n".encode("utf-16"), "line 1: no text in UTF-8, but in UTF-16"),
    "utf-16 without a mark": ("A,B\n".encode("utf-16-be"), "line 1: no text in UTF-8, but in UTF-16"),
    "latin-1": ("Ä,B\n".encode("latin-1"), "line 1: no text in UTF-8; convert"),
    "empty": (b"", "empty file"),
    "blanks": (b"\xef\xbb\xbf\r\n \n", "empty file"),
    "blank first line": (b"\nA,B\n", "line 1: blank"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_another_format_is_named(put, kind):
    content, message = OTHER[kind]
    with pytest.raises(BadInput, match=f"PATIENTS.csv: {message}") as e:
        read_form(put(content))
    assert "\n" not in str(e.value)


def test_needed_columns_stand_once():
    check_columns("F", ["A", "B", "B", "", ""], ["A"])
    with pytest.raises(BadInput, match="F: column B stands twice"):
        check_columns("F", ["A", "B", "B"], ["B"])
    with pytest.raises(BadInput, match="column B is missing; the first line has A:B; no comma, semicolon, tab or | is"):
        check_columns("F", ["A:B"], ["B"])


@pytest.mark.parametrize("text", ["subject_id;partition\n3;val\n", "subject_id\tpartition\r\n3\tval\r\n"])
def test_a_small_table_may_have_another_delimiter(put, text):
    d = read_text_table(put(text.encode()), ["subject_id", "partition"], "")
    assert d.to_dict("list") == {"subject_id": ["3"], "partition": ["val"]}
    assert list(d.index) == [2]
    with pytest.raises(BadInput, match="column subject_id stands twice"):
        read_text_table(put(b"subject_id,subject_id\n3,4\n"), ["subject_id"], "")


def test_lines_of_a_value(put):
    path = put(b'ID,TEXT\n7,"a\nb"\n\n,,\n007.0,x\n70,x\nNA,x\n\\N,x\n -3,x\n')
    assert find_lines(path, "ID", 7) == [3, 6]
    assert find_lines(path, "ID", 7, limit=1) == [3]
    assert find_lines(path, "ID", "") == [8, 9]
    assert find_lines(path, "ID", "-3") == [10]


def test_words_for_missing():
    assert {"", "NA", "na", "N/A", "NULL", "null", "\\N", "NaN", "nan", "None", "none"} <= set(MISSING_WORDS)
    assert not {"0", "-", "\\n", "unknown", "N"} & set(MISSING_WORDS)


# ---- which file ----


def test_two_files_of_a_table_are_rejected(put, tmp_path):
    put(TEXT[:100])
    put(PACKED, "patients.csv.gz")
    message = (
        rf"table PATIENTS is there twice: PATIENTS.csv \(100 bytes\) and patients.csv.gz \({len(PACKED):,} bytes\)"
    )
    with pytest.raises(BadInput, match=message):
        find_table(tmp_path, "PATIENTS")
    (tmp_path / "patients.csv.gz").unlink()
    put(TEXT, "patients.csv")
    with pytest.raises(BadInput, match=r"PATIENTS.csv \(100 bytes\) and patients.csv"):
        find_table(tmp_path, "PATIENTS")


def test_a_link_to_the_table_is_no_second_one(put, tmp_path):
    path = put(TEXT)
    (tmp_path / "patients.csv").symlink_to("PATIENTS.csv")
    assert find_table(tmp_path, "PATIENTS").samefile(path)


def test_what_is_no_file_is_named_at_once(tmp_path):
    path = tmp_path / "PATIENTS.csv"
    os.mkfifo(path)
    with pytest.raises(BadInput, match="PATIENTS.csv: a pipe or a device, expected a file"):
        find_table(tmp_path, "PATIENTS")
    with pytest.raises(BadInput, match="a pipe"):
        read_form(path)
    path.unlink()
    path.symlink_to("/nowhere/x.csv")
    with pytest.raises(BadInput, match="PATIENTS.csv: a link to /nowhere/x.csv, which is not there"):
        find_table(tmp_path, "PATIENTS")
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match="PATIENTS.csv: a folder, expected a file"):
        find_table(tmp_path, "PATIENTS")
    (path / "PATIENTS.csv").write_bytes(TEXT)
    with pytest.raises(BadInput, match="move PATIENTS.csv out of it"):
        find_table(tmp_path, "PATIENTS")


def test_a_missing_table_is_looked_for(put, tmp_path):
    with pytest.raises(BadInput, match="a file, expected the folder"):
        find_table(put(TEXT), "PATIENTS")
    put(b"", "ADMISSIONS.csv.zip")
    with pytest.raises(BadInput, match="table ADMISSIONS is missing; ADMISSIONS.csv.zip cannot be read: unpack it"):
        find_table(tmp_path, "ADMISSIONS")
    (tmp_path / "raw").mkdir()
    put(TEXT, "raw/ICUSTAYS.csv.gz")
    with pytest.raises(BadInput, match="table ICUSTAYS is missing; its folder raw has it: name that one"):
        find_table(tmp_path, "ICUSTAYS")
    (tmp_path / "2.2" / "hosp").mkdir(parents=True)
    put(TEXT, "2.2/hosp/services.csv.gz")
    put(TEXT, "raw/transfers.parquet")
    with pytest.raises(BadInput, match="table SERVICES is missing; its folder 2.2 has it: name that one"):
        find_table(tmp_path, "SERVICES", folders=("hosp", "icu"))
    with pytest.raises(BadInput, match="transfers.parquet cannot be read: unpack it, write it as CSV"):
        find_table(tmp_path, "TRANSFERS", folders=("raw",))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(put):
    path = put(TEXT)
    path.chmod(0)
    with pytest.raises(BadInput, match="PATIENTS.csv: cannot be read: Permission denied"):
        read_form(path)


def test_a_file_that_cannot_be_opened_is_named(put, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(BadInput, match="PATIENTS.csv: cannot be read: Permission denied"):
        read_form(put(TEXT))


# ---- damaged .gz files ----

WHOLE = {
    "as it is": PACKED,
    "one zero byte": PACKED + bytes(1),
    "a block of zero bytes": PACKED + bytes(10_240),
    "two members": gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:]),
    "an empty member": PACKED + gzip.compress(b""),
}
FLIPPED = bytearray(PACKED)
FLIPPED[len(PACKED) // 2] ^= 1
DAMAGED = {
    "without its last byte": PACKED[:-1],
    "without its length": PACKED[:-4],
    "without its checksum": PACKED[:-8],
    "half": PACKED[: len(PACKED) // 2],
    "another checksum": PACKED[:-8] + b"1234" + PACKED[-4:],
    "another length": PACKED[:-4] + b"1234",
    "a flipped bit": bytes(FLIPPED),
    "one byte more": PACKED + b"x",
    "a web page at its end": PACKED + b"<html>",
    "half a member more": PACKED + PACKED[:99],
    "a stored block with another digit": gzip.compress(TEXT, 0).replace(b"7919,F", b"7919,M"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_gz_is_whole(put, kind):
    path = put(WHOLE[kind], "X.csv.gz")
    assert gzip_end(path) == len(PACKED if "zero" in kind else WHOLE[kind])
    with gzip_checked(path):
        pass
    with unpadded_filesystem().open(unpadded_name(path)) if "zero" in kind else open(path, "rb") as file:
        assert gzip.decompress(file.read()) == TEXT


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_gz_is_rejected(put, kind):
    path = put(DAMAGED[kind], "X.csv.gz")
    for reader_error in (None, ValueError("what the reader says")):
        with pytest.raises(BadInput, match="X.csv.gz: (not a whole .gz file|other bytes follow)"), gzip_checked(path):
            if reader_error:
                raise reader_error


def test_an_interrupt_does_not_wait_for_a_long_file(put):
    path = put(PACKED, "X.csv.gz")
    n = threading.active_count()
    with pytest.raises(KeyboardInterrupt), gzip_checked(path):
        raise KeyboardInterrupt
    assert threading.active_count() == n
    with pytest.raises(ValueError, match="of the reader"), gzip_checked(path):
        raise ValueError("of the reader")
    with gzip_checked(Path("nowhere.csv")):
        pass


def test_a_plain_file_under_the_name_of_a_packed_one(put):
    with pytest.raises(BadInput, match="X.csv.gz: no .gz file, though its name says so; rename it to X.csv"):
        read_form(put(TEXT, "X.csv.gz"))
    with pytest.raises(BadInput, match="packed twice"):
        read_form(put(gzip.compress(PACKED), "X.csv.gz"))


# ---- other databases ----


@pytest.mark.parametrize(
    "columns, name",
    [
        ("subject_id hadm_id stay_id intime outtime los", "MIMIC-IV"),
        ("subject_id gender anchor_age anchor_year dod", "MIMIC-IV"),
        ("SUBJECT_ID HADM_ID SEQ_NUM ICD_CODE ICD_VERSION", "MIMIC-IV"),
        ("patientunitstayid hospitalid age", "eICU"),
        ("RecordID SAPS-I SOFA", "PhysioNet 2012"),
        ("ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID INTIME OUTTIME LOS", ""),
        ("ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG", ""),
    ],
)
def test_a_database_is_known_by_its_columns(columns, name):
    found = recognize_columns(columns.split())
    assert found.startswith(f"this is {name} (column") if name else found == ""


@pytest.mark.parametrize(
    "names, name",
    [
        ("hosp/ icu/ LICENSE.txt", "MIMIC-IV"),
        ("poe.csv.gz patients.csv.gz", "MIMIC-IV"),
        ("INGREDIENTEVENTS.CSV", "MIMIC-IV"),
        ("edstays.csv triage.csv", "MIMIC-IV-ED"),
        ("vitalPeriodic.csv.gz patient.csv.gz", "eICU"),
        ("set-a.tar.gz Outcomes-a.txt", "PhysioNet 2012"),
        ("set-b/", "PhysioNet 2012"),
        ("root/ phenotyping/ in-hospital-mortality/", "mimic3-benchmarks"),
        ("cohort.json events.parquet stays.parquet", "a cohort of this package"),
        ("D_ITEMS.csv NOTEEVENTS.csv.gz README.md", ""),
    ],
)
def test_a_database_is_known_by_its_folder(tmp_path, names, name):
    for part in names.split():
        (tmp_path / part).mkdir() if part.endswith("/") else (tmp_path / part).touch()
    found = recognize_folder(tmp_path)
    assert found.startswith(f"this is {name} (") if name else found == ""
