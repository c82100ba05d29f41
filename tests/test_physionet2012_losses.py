"What a download of PhysioNet 2012 may lose on its way: the right value, a count that is said, or one line of error."

import gzip
import io
import os
import shutil
import tarfile
import zipfile

import fuzz_physionet2012 as fuzz
import numpy as np
import pandas as pd
import pytest
from test_physionet2012 import OUT, put, record, some

from rnn_transfer.cohorts.losses import read_losses
from rnn_transfer.experiment.commands import describe_cohort
from rnn_transfer.sources import physionet2012 as p12
from rnn_transfer.sources.physionet2012_rows import PARAMETERS, parse_minutes, read_readings
from rnn_transfer.sources.threshold_tasks import label_stays
from rnn_transfer.utilities.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    return put(put(tmp_path / "data", "a", some(100)), "b", some(200))


def losses_of(c) -> dict:
    "{reason: (n, of)} of a cohort, after a look whether the command says each of them."
    losses = read_losses(c.meta)
    description = describe_cohort(c)
    assert all(str(loss) in description for loss in losses)
    return {loss.reason: (loss.n, loss.of) for loss in losses}


def error_of(folder, **options) -> str:
    "The one line with which a folder is rejected."
    with pytest.raises(BadInput, match=".") as e:
        p12.cohort(folder, **options)
    text = str(e.value)
    assert len(text.splitlines()) == 1 and text.isprintable()
    return text


def set_records(folder, letter, change):
    "Change the bytes of each record of a set."
    for p in sorted((folder / f"set-{letter}").iterdir()):
        p.write_bytes(change(p.read_bytes()))


# ---------------------------------------------------------------- the real data


def test_real_sets_lose_little_and_say_it(shared):
    c = p12.cohort(shared / "data" / "physionet2012")
    found = losses_of(c)
    assert c.fingerprint.startswith("aa8e8ba0b0539994")
    assert found == {
        "set-a: Length_of_stay unknown": (60, 4000),
        "set-b: Length_of_stay unknown": (54, 4000),
        "set-a: SAPS-I unknown": (190, 4000),
        "set-b: SAPS-I unknown": (162, 4000),
        "set-a: SOFA unknown": (144, 4000),
        "set-b: SOFA unknown": (137, 4000),
        "outside the possible range, other parameters": (502, 3520515),
        "Height: code of a missing value": (3824, 8000),
        "code of a missing value, other parameters": (4293, 3520515),
        "pH: decimal point restored": (3, 48180),
        "without a reading of an input channel": (12, 8000),
        "cuff readings in the minute of an arterial one": (103600, len(c.events) + 103600 + 4081),
        "readings averaged with another of the same minute": (4081, len(c.events) + 103600 + 4081),
    }


# ---------------------------------------------------------------- partial downloads


def test_a_download_that_stopped(folder):
    for number in (102, 103, 104, 105):
        (folder / "set-a" / f"{number}.txt").unlink()
    assert "4 of 6 records (66.7%) dropped: set-a: named in its outcomes and not there, above 1%" in error_of(folder)
    c = p12.cohort(folder, allow_loss=True)
    assert losses_of(c)["set-a: named in its outcomes and not there"] == (4, 6)
    assert c.meta["counts_of_rows"]["outcomes without a record"] == 4 and len(c.stays) == 8


def test_a_set_that_never_came(folder):
    shutil.copy(folder / "Outcomes-b.txt", folder / "Outcomes-c.txt")
    text = error_of(folder)
    assert "6 of 6 records (100.0%) dropped: set-c: its outcomes are there, the set is not" in text
    assert "download set-c, or move its outcomes out of the folder" in text
    assert len(p12.cohort(folder, sets="ab").stays) == 12
    assert len(p12.cohort(folder, allow_loss=True).stays) == 12


@pytest.mark.parametrize("make", [None, "file", "link", "empty", "hidden"])
def test_a_set_of_which_nothing_came(folder, make):
    shutil.rmtree(folder / "set-b")
    place = folder / "set-b"
    if make == "file":
        place.write_text("x")
    if make == "link":
        place.symlink_to(folder / "nowhere")
    if make in ("empty", "hidden"):
        place.mkdir()
    if make == "hidden":
        (place / ".DS_Store").write_text("x")
    assert "set-b" in error_of(folder)


@pytest.mark.parametrize("empty", ["", "Time,Parameter,Value\n", "\n\n", "\ufeff"])
def test_records_that_are_empty(folder, empty):
    (folder / "set-a" / "101.txt").write_text(empty, encoding="utf-8")
    assert "1 of 6 records (16.7%) dropped: set-a: file without a row" in error_of(folder)
    assert losses_of(p12.cohort(folder, allow_loss=True))["set-a: file without a row"] == (1, 6)


def test_outcomes_of_another_set(folder):
    text = (folder / "Outcomes-a.txt").read_bytes()
    shutil.copy(folder / "Outcomes-b.txt", folder / "Outcomes-a.txt")
    assert "Outcomes-a.txt: column RecordID: names records 200 to 205, none of which is in its set (100 to 105)" in (
        error_of(folder, allow_loss=True)
    )
    (folder / "Outcomes-b.txt").write_bytes(text)
    assert "these are the outcomes of another set" in error_of(folder)


def test_records_of_another_set(folder):
    shutil.move(folder / "set-a" / "103.txt", folder / "set-b" / "103.txt")
    assert "set-b: not named in its outcomes" in error_of(folder)
    y = p12.cohort(folder, allow_loss=True).stays.set_index("stay_id").loc[103]
    assert (y["partition"], y["In-hospital mortality"], y["Long hospital stay"]) == ("test", 1, 1)


def test_a_set_under_a_second_name(folder):
    shutil.copytree(folder / "set-b", folder / "set-c")
    shutil.copy(folder / "Outcomes-b.txt", folder / "Outcomes-c.txt")
    assert "set-c: all its 6 records are in an earlier set" in error_of(folder)


def test_an_absent_outcome_is_unknown_in_every_task_that_asks_for_it(folder):
    lines = [f"{i},6,1,{30 if i % 2 else 5},-1,{i % 2}" for i in range(100, 105)] + ["77,6,1,30,-1,1"]
    put(folder, "a", some(100), lines)
    assert "1 of 6 records (16.7%) unreadable: set-a: not named in its outcomes" in error_of(folder)
    c = p12.cohort(folder, allow_loss=True)
    y = c.stays.set_index("stay_id")
    depend = ["Long hospital stay", "In-hospital mortality"]
    assert y.loc[105, depend].isna().all() and not y.loc[range(100, 105), depend].isna().any(axis=None)
    assert y["Long hospital stay"][[100, 101]].tolist() == [0, 1] and y["Hypokalaemia"].notna().all()


def test_an_outcome_is_unknown_whatever_statistic_a_rule_names():
    rule = dict(task="Long", parameter="Length_of_stay", relation=">", threshold=14, hours=np.nan)
    outcomes = pd.DataFrame(dict(Length_of_stay=[20, 3, np.nan]), index=[1, 2, 3])
    rows = pd.DataFrame(dict(stay_id=[4], minute=[0], parameter=["Lactate"], value=[5.0]))
    for statistic in ("value", "highest", "lowest", "sum"):
        labels = label_stays(rows, outcomes, [1, 2, 3, 4], pd.DataFrame([rule | dict(statistic=statistic)]))["Long"]
        assert labels.tolist()[:2] == [1, 0] and labels.isna().tolist() == [False, False, True, True], statistic


def test_one_rule_of_two_may_be_unknown():
    rules = [
        dict(task="Ill", parameter="died", statistic="value", relation="=", threshold=1, hours=np.nan),
        dict(task="Ill", parameter="Lactate", statistic="highest", relation=">=", threshold=4, hours=48),
    ]
    rows = pd.DataFrame(dict(stay_id=[1, 2, 3], minute=0, parameter="Lactate", value=[5.0, 1, 1]))
    outcomes = pd.DataFrame(dict(died=[np.nan, np.nan, 0]), index=[1, 2, 3])
    for order in (rules, rules[::-1]):
        labels = label_stays(rows, outcomes, [1, 2, 3], pd.DataFrame(order))["Ill"]
        assert labels.isna().tolist() == [False, True, False] and labels[[1, 3]].tolist() == [1, 0]


def test_two_outcomes_of_one_record(folder):
    lines = [f"{i},6,1,5,-1,{i % 2}" for i in range(100, 106)]
    put(folder, "a", some(100), [*lines, lines[0], lines[1][:-1] + "0"])
    assert "1 of 6 records (16.7%) unreadable: set-a: two different outcomes" in error_of(folder)
    c = p12.cohort(folder, allow_loss=True)
    y = c.stays.set_index("stay_id")["In-hospital mortality"]
    assert losses_of(c)["set-a: a second row of outcomes"] == (2, 8)
    assert y[[100, 102, 103]].tolist() == [0, 0, 1] and np.isnan(y[101])


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    "time,minute",
    [
        ("00:07", 7),
        ("0:07", 7),
        ("00:07:00", 7),
        ("0:07:00", 7),
        ("00:07:30", 7.5),
        ("00:07:00.0", 7),
        ("24:30", 1470),
        ("47:59:59.999", 2879 + 59.999 / 60),
        *((bad, np.nan) for bad in ("12:07 AM", "12:07AM", "00:07Z", "00:07:60", "00:60", "7", "00:07:", ":07", "")),
        *((bad, np.nan) for bad in ("-00:07", "+00:07", "00:07 x", "x 00:07", "00:7", "٠٠:٠٧", "00:07:00,5", "00;07")),
        *((bad, np.nan) for bad in ("1900-01-01 00:07:00", "0 days 00:07:00", "00:07\n", "00.07", "1:00:07:00", "NaN")),
    ],
)
def test_times_are_matched_whole(time, minute):
    np.testing.assert_allclose(parse_minutes([time])[0], minute, rtol=1e-15)


def test_seconds_change_nothing(folder):
    expected = p12.cohort(folder).fingerprint
    set_records(folder, "a", lambda b: b.replace(b"00:07,", b"00:07:00,"))
    set_records(folder, "b", lambda b: b.replace(b"00:07,", b"0:07:00.000,").replace(b"01:00,", b"1:00,"))
    assert p12.cohort(folder).fingerprint == expected


def test_a_reading_belongs_to_the_minute_in_which_it_was_taken(folder):
    odd = record(100, "00:07:30,HR,70", "00:07:59.9,HR,80", "00:08:00,HR,90", "48:00:00,HR,60", "48:00:01,HR,50")
    put(folder, "a", some(100) | {100: odd})
    c = p12.cohort(folder)
    events = c.events[c.events["stay_id"] == 100]
    assert events["hour"].tolist() == [7 / 60, 8 / 60, 48] and events["value"].tolist() == [75, 90, 60]
    assert losses_of(c)["set-a: after hour 48"] == (1, 6 * 5 + 2 * 5 + 11)


def test_many_times_that_are_none_stop_and_few_are_said(folder):
    rows = [f"{h:02d}:30,HR,{60 + h}" for h in range(40)]
    put(folder, "a", {i: record(i, *rows, "01:00,K,4.1") for i in range(100, 106)})
    set_records(folder, "a", lambda b: b.replace(b"RecordID,100", b"RecordID,100\n12:30 PM,HR,90"))
    c = p12.cohort(folder)
    assert losses_of(c)["set-a: with an unreadable time"] == (1, 6 * 47 + 1)
    set_records(folder, "a", lambda b: b.replace(b"01:00,", b"1:00 AM,"))
    text = error_of(folder)
    assert "7 of 283 rows (2.5%) unreadable: set-a: with an unreadable time, above 1%" in text
    assert "such as 00:07 or 00:07:00" in text


def test_hours_above_24_that_were_lost(folder):
    rows = [f"{h:02d}:30,HR,{60 + h}" for h in range(48)]
    put(folder, "a", {i: record(i, *rows) for i in range(100, 106)})
    assert len(p12.cohort(folder).stays) == 12
    wrapped = [f"{h % 24:02d}:30,HR,{60 + h}" for h in range(48)]
    put(folder, "a", {i: record(i, *wrapped) for i in range(100, 106)})
    assert "the hours above 24 were lost" in error_of(folder)


# ---------------------------------------------------------------- rows given twice

URINE = ["01:00,Urine,150", "02:00,Urine,150", "03:00,Urine,150.5", "00:30,HR,80", "01:00,Creatinine,1.4"]
TWICE = dict(
    joined=lambda b: b.rstrip(b"\n") + b"\n" + b.split(b"\n", 1)[1],
    joined_with_header=lambda b: b + b,
    each_row=lambda b: b"\n".join(x for row in b.split(b"\n") for x in (row, row)),
    other_form=lambda b: b + b.replace(b",150\n", b",150.0\n").replace(b"01:00,", b"1:00:00,").split(b"\n", 1)[1],
    three_times=lambda b: b + b.split(b"\n", 1)[1] * 2,
)


@pytest.mark.parametrize("how", TWICE)
def test_rows_given_twice_count_once(folder, how):
    put(folder, "a", some(100) | {100: record(100, *URINE), 101: record(101, *URINE, "04:00,Urine,300")})
    right = p12.cohort(folder)
    assert right.stays.set_index("stay_id")["Oliguria"][[100, 101]].tolist() == [1, 0]
    set_records(folder, "a", TWICE[how])
    c = p12.cohort(folder)
    n_rows = 4 * (6 + 2) + (6 + 5) + (6 + 6)
    n_again = n_rows * 2 if how == "three_times" else n_rows
    assert c.fingerprint == right.fingerprint
    assert losses_of(c)["set-a: same as an earlier row of the record"] == (n_again, n_rows + n_again)


def test_equal_values_at_other_times_are_two_readings():
    rows, counts = read_readings({7: record(7, "01:00,Urine,50", "01:01,Urine,50", "01:01,HR,50").encode()}, "x")
    assert (rows["parameter"] == PARAMETERS.index.get_loc("Urine")).sum() == 2
    assert counts["rows that repeat an earlier row"] == 0


# ---------------------------------------------------------------- files


def test_links_to_nothing_pipes_and_folders_are_no_records(folder):
    expected = p12.cohort(folder)
    (folder / "elsewhere.txt").write_bytes((folder / "set-a" / "100.txt").read_bytes())
    (folder / "set-a" / "100.txt").unlink()
    (folder / "set-a" / "100.txt").symlink_to(folder / "elsewhere.txt")
    assert p12.cohort(folder).fingerprint == expected.fingerprint
    (folder / "elsewhere.txt").unlink()
    text = error_of(folder)
    assert "1 of 6 records (16.7%) dropped: set-a: no regular file, or a link to nothing" in text
    (folder / "set-a" / "101.txt").unlink()
    os.mkfifo(folder / "set-a" / "101.txt")
    c = p12.cohort(folder, allow_loss=True)
    assert losses_of(c)["set-a: no regular file, or a link to nothing"] == (2, 6)
    assert losses_of(c)["set-a: named in its outcomes and not there"] == (2, 6)


@pytest.mark.parametrize("name", ["Outcomes-a.txt", "set-a", "set-a.zip", "set-a.tar.gz", "Outcomes-c.txt"])
@pytest.mark.parametrize("kind", ["pipe", "link", "device", "folder"])
def test_what_is_no_file_never_hangs(folder, name, kind):
    place = folder / name
    if name.startswith("set-a"):
        shutil.rmtree(folder / "set-a")
    elif place.exists():
        place.unlink()
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero" if kind == "device" else folder / "nowhere")
    assert name in error_of(folder, allow_loss=True)


@pytest.mark.parametrize("number", ["123456789012345", "9" * 30])
def test_numbers_that_are_too_long(folder, number):
    (folder / "set-a" / f"{number}.txt").write_text(record(100, "00:07,HR,73"))
    assert "a record has up to 14 digits" in error_of(folder)


def test_numbers_of_fourteen_digits_are_exact(tmp_path):
    first = 90_000_000_000_001
    d = put(put(tmp_path / "d", "a", some(first)), "b", some(first + 10))
    c = p12.cohort(d)
    assert c.stays["stay_id"].tolist() == [*range(first, first + 6), *range(first + 10, first + 16)]
    assert c.events["stay_id"].nunique() == 12 and c.events["hour"].tolist() == [7 / 60] * 12


def test_files_under_the_name_of_another_record(folder):
    a, b = folder / "set-a" / "100.txt", folder / "set-a" / "101.txt"
    texts = a.read_bytes(), b.read_bytes()
    a.write_bytes(texts[1])
    b.write_bytes(texts[0])
    assert "2 of 6 records (33.3%) unreadable: set-a: RecordID is not the number of the file" in error_of(folder)


def test_other_files_are_said_unless_hidden(folder):
    for name in ("notes.html", "100 (1).txt", ".DS_Store", "._100.txt", "Thumbs.db"):
        (folder / "set-a" / name).write_text("x")
    assert losses_of(p12.cohort(folder))["set-a: files that are no records"] == (2, 8)


def test_a_record_that_is_there_twice(folder):
    expected = p12.cohort(folder).fingerprint
    (folder / "set-a" / "more").mkdir()
    shutil.copy(folder / "set-a" / "100.txt", folder / "set-a" / "more" / "100.txt")
    c = p12.cohort(folder)
    assert c.fingerprint == expected and losses_of(c)["set-a: same as an earlier file of its number"] == (1, 7)
    (folder / "set-a" / "more" / "100.txt").write_text(record(100, "00:07,HR,99"))
    assert "1 of 7 records (14.3%) dropped: set-a: differs from an earlier file of its number" in error_of(folder)


# ---------------------------------------------------------------- archives


def tar_of(folder, mode="w:gz"):
    "Replace set a by an archive."
    target = folder / ("set-a.tar" if mode == "w" else "set-a.tar.gz")
    with tarfile.open(target, mode) as t:
        t.add(folder / "set-a", "set-a")
    shutil.rmtree(folder / "set-a")
    return target


def test_members_with_backslashes(folder):
    expected = p12.cohort(folder).fingerprint
    with zipfile.ZipFile(folder / "set-a.zip", "w") as z:
        z.writestr("set-a\\", "")
        for p in (folder / "set-a").iterdir():
            z.writestr(f"set-a\\{p.name}", p.read_bytes())
    shutil.rmtree(folder / "set-a")
    c = p12.cohort(folder)
    assert c.fingerprint == expected and "set-a: files that are no records" not in losses_of(c)


@pytest.mark.parametrize("pad", [1, 512, 5000])
def test_zeros_after_the_end_of_an_archive(folder, pad):
    expected = p12.cohort(folder).fingerprint
    target = tar_of(folder)
    target.write_bytes(target.read_bytes() + b"\0" * pad)
    assert p12.cohort(folder).fingerprint == expected


def test_the_checksum_of_an_archive_is_looked_at(folder):
    target = tar_of(folder)
    data = bytearray(target.read_bytes())
    data[-6] ^= 1
    target.write_bytes(data)
    assert "set-a.tar.gz: cannot be read to its end (CRC check failed" in error_of(folder)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_member_does_not_end_an_archive_in_silence(folder, mode):
    target = tar_of(folder, mode)
    data = bytearray(gzip.decompress(target.read_bytes()) if mode == "w:gz" else target.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        data[t.getmembers()[3].offset + 150] ^= 0xFF
    target.write_bytes(gzip.compress(data) if mode == "w:gz" else data)
    assert "a member is damaged, or something follows the end" in error_of(folder)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_two_archives_in_one_file(folder, mode):
    target = tar_of(folder, mode)
    target.write_bytes(target.read_bytes() * 2)
    assert "something follows the end" in error_of(folder)


@pytest.mark.parametrize("name", ["set-a.zip", "set-a.tar.gz", "set-a.tgz", "set-a.tar"])
def test_an_archive_of_zero_bytes(folder, name):
    shutil.rmtree(folder / "set-a")
    (folder / name).write_bytes(b"")
    assert f"{name}: cannot be read to its end" in error_of(folder)


def test_an_archive_in_an_archive(folder):
    target = tar_of(folder)
    with zipfile.ZipFile(folder / "set-a.zip", "w") as z:
        z.write(target, "set-a/set-a.tar.gz")
    target.unlink()
    assert "holds no record, that is a file such as 132539.txt; it holds 'set-a/set-a.tar.gz': unpack" in error_of(
        folder
    )


def test_links_inside_an_archive(folder):
    with tarfile.open(folder / "set-a.tar.gz", "w:gz") as t:
        for p in sorted((folder / "set-a").iterdir())[:5]:
            t.add(p, p.name)
        link = tarfile.TarInfo("105.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        t.addfile(link)
    shutil.rmtree(folder / "set-a")
    assert "1 of 6 records (16.7%) dropped: set-a: no regular file, or a link to nothing" in error_of(folder)


@pytest.mark.parametrize("change", ["less", "other", "ends", "same"])
def test_a_folder_and_its_archive(folder, change):
    expected = p12.cohort(folder).fingerprint
    with zipfile.ZipFile(folder / "set-a.zip", "w") as z:
        for p in sorted((folder / "set-a").iterdir())[change == "less" :]:
            text = p.read_bytes()
            text = text.replace(b"HR,73", b"HR,74") if change == "other" and p.stem == "104" else text
            z.writestr(p.name, text.replace(b"\n", b"\r\n") if change == "ends" else text)
    if change in ("ends", "same"):
        assert p12.cohort(folder).fingerprint == expected
    else:
        text = error_of(folder)
        assert "set-a and set-a.zip are both there and differ" in text
        assert ("6 and 5 records, only one of the two has 100.txt" if change == "less" else "(104.txt)") in text


def test_two_outcomes_files(folder):
    shutil.copy(folder / "Outcomes-a.txt", folder / "outcomes_a.txt")
    assert len(p12.cohort(folder).stays) == 12
    (folder / "outcomes_a.txt").write_text(OUT + "100,6,1,5,-1,1\n")
    assert "differ; keep the right one" in error_of(folder)


# ---------------------------------------------------------------- texts


def quoted(text: str) -> str:
    return "\n".join(",".join(f'"{x}"' for x in row.split(",")) if row else "" for row in text.split("\n"))


FORMS = dict(
    quotes=quoted,
    semicolons=lambda t: t.replace(",", ";"),
    quoted_semicolons=lambda t: quoted(t).replace(",", ";"),
    tabs=lambda t: t.replace(",", "\t"),
    spaces=lambda t: t.replace(",", " , "),
    old_mac=lambda t: t.replace("\n", "\r"),
    windows=lambda t: t.replace("\n", "\r\n"),
    blank_rows=lambda t: t.replace("\n", "\n\n"),
    rows_of_spaces=lambda t: t.replace("\n", "\n   \n\t\n"),
    blank_first=lambda t: "\n\n" + t,
    no_last_end=lambda t: t.rstrip("\n"),
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_text_gives_the_same_cohort(folder, form, encoding):
    expected = p12.cohort(folder).fingerprint
    set_records(folder, "a", lambda b: FORMS[form](b.decode()).encode(encoding))
    outcomes = folder / "Outcomes-a.txt"
    outcomes.write_bytes(FORMS[form](outcomes.read_text()).encode(encoding))
    assert p12.cohort(folder).fingerprint == expected


@pytest.mark.parametrize(
    "change,says",
    [
        (lambda t: t.replace("K,4", "K,3,5"), "three fields belong here"),
        (lambda t: t.replace("K,4", 'K,"3,5"'), "three fields belong here"),
        (lambda t: t.replace("K,4", "K,3.5").replace(",", ";").replace(".", ","), "write numbers with a decimal point"),
        (lambda t: t.replace(",", "|"), "found 'Time|Parameter|Value' where Time,Parameter,Value belongs"),
        (lambda t: t.replace("HR,73", "HR,73\0"), "the value of HR is not a number"),
        (lambda t: t.replace("HR,73", "HR,1e400"), "the value of HR is not a number"),
        (lambda t: t.replace("HR,73", "HR,NA"), "the value of HR is not a number"),
        (lambda t: t.replace("HR,73", "H\u00c3,73"), "is no parameter of the challenge"),
        (lambda t: t.replace("HR,73", "\u00c3"), "three fields belong here"),
        (lambda t: t.replace("HR,73", "HR" + "x" * 3_000_000), "three fields belong here|rows cannot be read"),
    ],
)
def test_texts_that_are_rejected(folder, change, says, capfd):
    p = folder / "set-a" / "100.txt"
    p.write_bytes(change(p.read_text()).encode("latin1"))
    with pytest.raises(BadInput, match=says):
        p12.cohort(folder)
    assert capfd.readouterr().err == ""


def test_outcomes_with_a_decimal_comma_or_a_field_too_many(folder):
    lines = [f"{i},6,1,5,-1,{i % 2}" for i in range(100, 106)]
    put(folder, "a", some(100), [*lines[:2], "102,6,1,5,5,-1,0", *lines[3:]])
    assert "Outcomes-a.txt: row 4: 7 fields where the header has 6" in error_of(folder)
    put(folder, "a", some(100), [*lines[:2], "102,6,1,-5,-1,0", *lines[3:]])
    assert "Length_of_stay: row 4: found '-5', expected a whole number of days, or -1" in error_of(folder)
    put(folder, "a", some(100), [line.replace("100,", "100.0,").replace(",5,", ",5.0,") for line in lines])
    assert p12.cohort(folder).stays["In-hospital mortality"].tolist()[:6] == [0, 1] * 3


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    "name,values,lost",
    [
        ("Temp", ["98.6", "99.1"], 60),  # in °F
        ("FiO2", ["40", "50"], 60),  # in per cent
        ("GCS", ["14.5", "9.5"], 60),
        ("HR", ["0", "-1"], 60),
        ("Creatinine", ["88.4", "120"], 60),  # in µmol/L
    ],
)
def test_a_parameter_that_is_emptied_stops(folder, name, values, lost):
    rows = [f"{h:02d}:{30 * k:02d},{name},{v}" for h in range(5) for k, v in enumerate(values)]
    put(folder, "a", {i: record(i, *rows, "01:00,K,4.1", "02:00,SysABP,120") for i in range(100, 106)})
    text = error_of(folder)
    n_other = 6 if name == "HR" else 0  # readings of set b
    assert f"{lost} of {lost + n_other} values" in text and f"dropped: {name}: " in text
    c = p12.cohort(folder, allow_loss=True)
    assert any(reason.startswith(f"{name}: ") and n == lost for reason, (n, _) in losses_of(c).items())


def test_totals_of_the_coma_scale_as_decimals(folder):
    put(folder, "a", some(100) | {100: record(100, "01:00,GCS,15.0", "02:00,GCS,3.0")})
    c = p12.cohort(folder)
    scale = next(x for x in c.channels if x.values)
    events = c.events[(c.events["stay_id"] == 100) & (c.events["channel"] == scale.name)]
    assert [scale.values[int(v)] for v in events["value"]] == ["15", "3"]


def test_unknown_heights_and_few_values_do_not_stop(folder):
    put(folder, "a", some(100) | {100: record(100, "01:00,Temp,98.6", "02:00,HR,60")})
    found = losses_of(p12.cohort(folder))
    assert found["Temp: outside the possible range"] == (1, 1)
    assert found["Height: code of a missing value"] == (12, 12)


def test_what_became_one_event_is_said(folder):
    rows = ["01:00,SysABP,120", "01:00,NISysABP,110", "02:00,HR,60", "02:00,HR,70"]
    put(folder, "a", some(100) | {100: record(100, *rows)})
    c = p12.cohort(folder)
    found = losses_of(c)
    n = len(c.events) + 2
    assert found["cuff readings in the minute of an arterial one"] == (1, n)
    assert found["readings averaged with another of the same minute"] == (1, n)


# ---------------------------------------------------------------- fuzzing


@pytest.mark.parametrize("seed", range(40))
def test_damaged_folders_end_in_one_line_or_a_valid_cohort(seed, tmp_path):
    (tmp_path / "out").mkdir()
    assert fuzz.try_one(seed, tmp_path)[0] in ("accepted", "rejected")


@pytest.mark.parametrize("stage", ["ROWS", "TEXTS", "BYTES", "PLACES", "ARCHIVES"])
def test_harmless_changes_are_harmless(stage, tmp_path):
    r = np.random.default_rng(0)
    expected = p12.cohort(fuzz.write_challenge(tmp_path / "unchanged", np.random.default_rng(3))).fingerprint
    for name, change in getattr(fuzz, stage).items():
        folder = fuzz.write_challenge(tmp_path / name, np.random.default_rng(3))
        if stage in ("PLACES", "ARCHIVES"):
            change(folder, r)
        else:
            for p in fuzz.records(folder):
                text = change(p.read_text(), r)
                p.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert p12.cohort(folder).fingerprint == expected, name
