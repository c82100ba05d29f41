"The folders of mimic3-benchmarks: written, compared with hashes, and read back."

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mimic3_copies import rewrite, spoil, write

from rnn_transfer.data import Cohort
from rnn_transfer.sources import mimic3, mimic3_benchmarks
from rnn_transfer.sources.mimic3_corrections import CORRECTIONS
from rnn_transfer.sources.mimic3_export import export
from rnn_transfer.sources.mimic3_tables import write_toy_tables
from rnn_transfer.sources.mimic3_verify import hash_table, task_of_list, verify, verify_export
from rnn_transfer.utilities.errors import BadInput

HASH = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_tables(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def benchmark(toy, tmp_path_factory):
    return export(toy, tmp_path_factory.mktemp("benchmark") / "data")


@pytest.mark.parametrize(
    "name, task",
    [
        ("ihm.csv", "in-hospital-mortality"),
        ("pheno.csv", "phenotyping"),
        ("los.csv", "length-of-stay"),
        ("length-of-stay-final.csv", "length-of-stay"),
        ("length_of_stay.csv", "length-of-stay"),
        ("decomp.csv", "decompensation"),
        ("multitask.csv", "multitask"),
        ("multitasking.csv", "multitask"),
        ("root-final.csv", ""),
        ("closed.csv", ""),
    ],
)
def test_a_list_is_named_after_its_task(name, task):
    assert task_of_list(name) == task


def test_what_differs_or_is_missing_is_named(benchmark, tmp_path):
    real = benchmark / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    right = hash_table(real)
    (tmp_path / "pheno.csv").write_text(
        f"./train/3_episode1_timeseries.csv,{right}\n./train/9_episode1_timeseries.csv,{HASH}\n./train/listfile.csv,{HASH}\n./test/gone_listfile.csv,{HASH}\n"
        + "".join(f"./test/{i}_episode1_timeseries.csv,{HASH}\n" for i in range(100, 105))
    )
    (tmp_path / "both.csv").write_text(
        f"md5,task,file\n{HASH},ihm,train/9_episode1_timeseries.csv\n{right},length-of-stay,train/3_episode1_timeseries.csv\n"
    )
    d = verify_export(benchmark, tmp_path / "pheno.csv")
    assert d.loc["phenotyping"].to_dict() == {
        "same": 1,
        "differ": 1,
        "missing": 6,
        "not comparable": 1,
        "which differ": "train/9_episode1_timeseries.csv",
        "which are missing": (
            "test/gone_listfile.csv, test/100_episode1_timeseries.csv, test/101_episode1_timeseries.csv and 3 more"
        ),
    }
    d = verify_export(benchmark, [tmp_path / "pheno.csv", str(tmp_path / "both.csv")])
    assert (
        d["same"].to_dict() == {"in-hospital-mortality": 0, "length-of-stay": 1, "phenotyping": 1}
        and d["differ"].sum() == 2
    )
    real = tmp_path / "data" / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"")
    assert verify_export(tmp_path / "data", tmp_path / "pheno.csv")["differ"].tolist() == [1]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("ihm.csv", "", "ihm.csv: no hash in it"),
        ("all.csv", "task,file,md5\n", "all.csv: no hash in it"),
        ("ihm.csv", f"./test/a.csv,{HASH}\n./test/b.csv,12\n", "line 2: expected a file and its md5"),
        ("mine.csv", f"./test/a.csv,{HASH}\n", "name of a list tells its task; call it ihm.csv"),
        ("all.csv", "file,md5\nx,y\n", "line 1: expected"),
        ("all.csv", f"task,file,md5\nihm,a.csv,{HASH}\nfoo,a.csv,{HASH}\n", "line 3: expected"),
        ("all.csv", f"task,file,md5\nihm,{HASH}\n", "line 2: expected"),
        ("ihm.csv", b"\x80\x03}q\x00", "no text in UTF-8"),
        ("ihm.pkl", b"\x80\x03}q\x00", "a .pkl is not read"),
    ],
)
def test_a_wrong_list_of_hashes_is_named(benchmark, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=message):
        verify_export(benchmark, tmp_path / name)


def test_a_folder_without_lists_or_export_is_named(benchmark, tmp_path):
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(BadInput, match="no list of hashes in this folder"):
        verify_export(benchmark, tmp_path)
    with pytest.raises(BadInput, match="none.csv: no such file"):
        verify_export(benchmark, tmp_path / "none.csv")
    with pytest.raises(BadInput, match="nowhere: no such folder"):
        verify_export(tmp_path / "nowhere", tmp_path)


def test_verify_says_same_only_where_it_is_so(toy):
    table = verify(mimic3.cohort(toy))
    assert not any(table["same"])
    assert list(table["here"][:3]) == [4, 3, 1]
    assert table["same"].iloc[-1] is None


def test_an_export_is_verified_without_a_cohort(toy, tmp_path):
    out = export(toy, tmp_path / "benchmark")
    file = "test/6_episode1_timeseries.csv"
    for md5, code in (hash_table(out / "phenotyping" / file), 0), ("0" * 32, 1):
        (tmp_path / "hashes.csv").write_text(f"task,file,md5\npheno,{file},{md5}\n")
        command = [
            Path(sys.executable).parent / "rnn_transfer_verify",
            "--export",
            str(out),
            "--hashes",
            str(tmp_path / "hashes.csv"),
        ]
        r = subprocess.run(command, capture_output=True, text=True)
        assert r.returncode == code and "phenotyping" in r.stdout, r.stderr


# ---- what an export says of itself ----


def test_a_corrected_or_simulated_export_stays_one(toy, tmp_path):
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "SYNTHETIC.txt").write_text("")
    (folder / "partitions.csv").write_text("subject_id,partition\n2,train\n3,train\n6,test\n9,test\n")
    out = export(folder, tmp_path / "simulated", "all")
    made, back = mimic3.cohort(folder, "all"), mimic3_benchmarks.cohort(out, out=tmp_path / "cohort")
    for key in ("synthetic", "version", "licence", "corrected", "note", "eligible_subjects"):
        assert back.meta[key] == made.meta[key], key
    assert back.meta["synthetic"] is True
    assert "simulated" in back.meta["version"]
    assert set(back.meta["corrected"]) == set(CORRECTIONS)
    assert back.fingerprint == made.fingerprint
    assert Cohort.load(tmp_path / "cohort").meta["synthetic"] is True
    assert list(out.rglob("about.json")) == [out / "about.json"]  # outside the folders that have published hashes
    plain = mimic3_benchmarks.cohort(export(toy, tmp_path / "plain"))
    assert plain.meta["synthetic"] is False
    assert plain.meta["version"] == "MIMIC-III v1.4"
    assert plain.meta["corrected"] == {}


def test_a_note_about_the_tables_goes_along(toy, tmp_path):
    folder = spoil(toy, tmp_path / "raw", "LABEVENTS", lambda t: t.splitlines()[0] + "\n")
    assert mimic3_benchmarks.cohort(export(folder, tmp_path / "out")).meta["note"] == mimic3.cohort(folder).meta["note"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"synthetic": "no", "version": "", "licence": "", "corrected": {}}',
        '{"synthetic": true, "version": "", "licence": ""}',
    ],
)
def test_a_broken_about_is_no_plain_export(benchmark, tmp_path, text):
    shutil.copytree(benchmark, tmp_path / "data")
    (tmp_path / "data" / "about.json").write_text(text)
    with pytest.raises(BadInput, match="about.json: cannot be read"):
        mimic3_benchmarks.cohort(tmp_path / "data")


# ---- faults of a benchmark folder ----

LISTS = {
    "empty list": ("phenotyping/train/listfile.csv", lambda t: "", "phenotyping/train/listfile.csv: empty file"),
    "label that is no number": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace(",0,", ",no,", 1),
        r"phenotyping/train/listfile.csv: column .*: line 2: 'no' is no number",
    ),
    "label of 2": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t.replace(",0\n", ",2\n", 1),
        r"in-hospital-mortality/train/listfile.csv: column y_true: line \d: neither 0 nor 1",
    ),
    "no label": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t.replace(",0\n", ",\n", 1),
        r"column y_true: line \d: '' is no number",
    ),
    "length that is no number": (
        "phenotyping/test/listfile.csv",
        lambda t: t.replace("30.000000", "30 h"),
        r"phenotyping/test/listfile.csv: column period_length: line 2: '30 h' is no number",
    ),
    "short line": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace(",0\n", "\n", 1),
        r"phenotyping/train/listfile.csv: line 2: 26 fields, expected 27",
    ),
    "stay twice": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t + t.splitlines()[1] + "\n",
        r"column stay: line 4: a stay that already stands above",
    ),
    "no name of a file": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace("3_episode1_timeseries.csv", "stay3"),
        r"column stay: line 3: no name such as",
    ),
    "no stay": ("phenotyping/*/listfile.csv", lambda t: t.splitlines()[0] + "\n", "the list files name no stay"),
    "latin-1 in a list": (
        "phenotyping/val_listfile.csv",
        lambda t: (t + "\xe9").encode("latin-1"),
        "val_listfile.csv: no text in UTF-8",
    ),
    "length of stay": (
        "root/all_stays.csv",
        lambda t: t.replace(",2.5,", ",long,", 1),
        r"all_stays.csv: column LOS: line 2: 'long' is no number",
    ),
    "empty stays": ("root/all_stays.csv", lambda t: "", "all_stays.csv: empty file"),
    "no column": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: t.replace("Glucose", "Sugar"),
        "9_episode1_timeseries.csv: column Glucose is missing",
    ),
    "empty episode": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: "",
        "9_episode1_timeseries.csv: empty file",
    ),
    "hour": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: t.replace("\n0.0,", "\nnoon,", 1),
        r"9_episode1_timeseries.csv: line 2: column Hours: 'noon' is no number",
    ),
}


@pytest.mark.parametrize("fault", LISTS)
def test_a_wrong_benchmark_folder_is_one_line(benchmark, tmp_path, fault):
    pattern, change, message = LISTS[fault]
    shutil.copytree(benchmark, tmp_path / "data")
    for p in (tmp_path / "data").glob(pattern):
        write(p, change)
    with pytest.raises(BadInput, match=message) as e:
        mimic3_benchmarks.cohort(tmp_path / "data", out=tmp_path / "out")
    assert "\n" not in str(e.value) and not (tmp_path / "out").exists()


def test_order_of_columns_and_number_of_files_do_not_matter(benchmark, tmp_path, monkeypatch):
    shutil.copytree(benchmark, tmp_path / "data")
    p = tmp_path / "data" / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    d = pd.read_csv(p, dtype=str, keep_default_na=False)
    d[d.columns[::-1]].to_csv(p, index=False)
    monkeypatch.setattr(mimic3_benchmarks, "_FILES_AT_A_TIME", 2)
    made = mimic3_benchmarks.cohort(tmp_path / "data")
    monkeypatch.undo()
    assert made.fingerprint == mimic3_benchmarks.cohort(benchmark).fingerprint and made.events.equals(
        mimic3_benchmarks.cohort(benchmark).events
    )


def test_progress_is_shown_only_when_asked_for(toy, benchmark, tmp_path, capfd):
    (tmp_path / "pheno.csv").write_text(f"./train/9_episode1_timeseries.csv,{HASH}\n")
    for on in (False, True):
        export(toy, tmp_path / f"out-{on}", progress=on)
        exported = capfd.readouterr().err
        mimic3_benchmarks.cohort(benchmark, progress=on)
        read = capfd.readouterr().err
        verify_export(benchmark, tmp_path / "pheno.csv", progress=on)
        verified = capfd.readouterr().err
        assert ("4/4" in exported and "stay" in exported) == on
        assert ("4/4" in read and "file" in read) == on
        assert ("1/1" in verified) == on
        assert bool(exported + read + verified) == on
