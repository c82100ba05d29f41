"""Damage small folders of PhysioNet 2012 at random and look at what the source makes of them.

`python tests/fuzz_physionet2012.py 500` tries 500 folders and prints the counts; a short form runs in the suite.
Harmless changes (line ends, archives, rows given twice, seconds) must give the very cohort of the unchanged folder.
Anything else ends in one line of BadInput, or in a valid cohort that accounts for every row it does not hold.
"""

import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rnn_transfer.cohorts.losses import read_losses
from rnn_transfer.data import Cohort
from rnn_transfer.experiment.commands import describe_cohort
from rnn_transfer.sources import physionet2012 as p12
from rnn_transfer.sources.physionet2012_rows import PARAMETERS
from rnn_transfer.utilities.errors import BadInput

HEADER = "Time,Parameter,Value"
LONGEST = 20  # seconds; more is a hang
SERIES = ["HR", "K", "SysABP", "GCS", "Creatinine", "Urine", "Temp", "pH", "Lactate"]
VALUES = dict(HR=80, K=3.6, SysABP=120, GCS=9, Creatinine=1.2, Urine=90, Temp=37.2, pH=7.31, Lactate=3.2)
_NUMBERS = "1e400 nan inf -inf -1 -0 0 1e-320 99999999999999999999 1,5 1_000 0x1F ٣ ² ½ NA NULL \\N 7e 1e5 True None"
_TIMES = "12:30 24:00:00 48:00 48:01 99:99 -00:07 00:60 00:07:30 00:07:60 7:5 12:07AM 2012-01-01T00:07Z ٠٠:٠٧"
_WORDS = "HR hr Parameter RecordID Time é <b> =1+1 \"7\" '7' 7\" , ; \x00 \x00\x00 \x85 \u2028 \x1c \xa0 \ud800"
ODD = [*_NUMBERS.split(" "), *_TIMES.split(" "), *_WORDS.split(" "), "", " ", "x" * 3000]


def draw(r, items):
    "One of some items; numpy would make strings of paths."
    return items[int(r.integers(len(items)))]


def write_challenge(folder: Path, r) -> Path:
    "Two small valid sets with their outcomes."
    for first, letter in ((101, "a"), (201, "b")):
        (folder / f"set-{letter}").mkdir(parents=True)
        outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
        for number in range(first, first + 8):
            rows = [(0, "RecordID", number), (0, "Age", 60), (0, "Gender", 1), (0, "Height", 170)]
            rows += [(0, "ICUType", 1 + number % 4), (0, "Weight", 80)]
            for minute in sorted(r.choice(np.arange(1, 2880), 24, replace=False).tolist()):
                name = draw(r, SERIES)
                value = VALUES[name] * (1 if name == "GCS" else r.uniform(0.94, 1.06))
                rows.append((minute, name, round(value, 2)))
            lines = [f"{m // 60:02d}:{m % 60:02d},{p},{v}" for m, p, v in rows]
            text = "\n".join([HEADER, *lines, ""])
            (folder / f"set-{letter}" / f"{number}.txt").write_text(text, encoding="utf-8")
            outcomes.append(f"{number},6,1,{5 + 20 * (number % 2)},-1,{number // 2 % 2}")
        (folder / f"Outcomes-{letter}.txt").write_text("\n".join([*outcomes, ""]), encoding="utf-8")
    return folder


def records(folder: Path) -> list[Path]:
    "The files of all records that are no archive's."
    return sorted(p for p in folder.glob("set-?/**/*.txt") if p.is_file())


def outcome_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("Outcomes-?.txt") if p.is_file())


# ---------------------------------------------------------------- harmless changes, stage by stage


def edit_rows(change):
    "A change of the list of rows, applied to a record's text."

    def apply(text: str, r) -> str:
        head, *rows = text.rstrip("\n").split("\n")
        return "\n".join([head, *change(rows, r), ""])

    return apply


def retime(form):
    "A change of how some times are written."

    def change(rows, r):
        chosen = r.random(len(rows)) < 0.7
        return [form(*row.split(",", 1)) if ok and "," in row else row for row, ok in zip(rows, chosen)]

    return edit_rows(change)


ROWS = dict(
    shuffled=edit_rows(lambda rows, r: [rows[i] for i in r.permutation(len(rows))]),
    some_twice=edit_rows(lambda rows, r: rows + [row for row in rows if r.random() < 0.3]),
    all_twice=edit_rows(lambda rows, r: rows + rows),
    joined=edit_rows(lambda rows, r: [*rows, HEADER, *rows]),
    seconds=retime(lambda time, rest: f"{time}:00,{rest}"),
    fractions=retime(lambda time, rest: f"{time}:00.000,{rest}"),
    short_hours=retime(lambda time, rest: f"{time[0].replace('0', '')}{time[1:]},{rest}"),
    spaces=edit_rows(lambda rows, r: [row.replace(",", " , ") for row in rows]),
    floats=edit_rows(lambda rows, r: [row if "." in row else row + ".0" for row in rows]),
    empty_rows=edit_rows(lambda rows, r: [x for row in rows for x in (row, draw(r, ["", "  ", "\t"]))]),
)
TEXTS = dict(
    semicolons=lambda text, r: text.replace(",", ";"),
    tabs=lambda text, r: text.replace(",", "\t"),
    quotes=lambda text, r: "".join(
        ",".join(f'"{x}"' for x in row.split(",")) + "\n" if row.strip() else row + "\n" for row in text.split("\n")
    ),
    no_last_end=lambda text, r: text.rstrip("\n"),
)
BYTES = dict(
    windows=lambda text, r: text.replace("\n", "\r\n").encode(),
    old_mac=lambda text, r: text.replace("\n", "\r").encode(),
    marked=lambda text, r: b"\xef\xbb\xbf" + text.encode(),
    utf16=lambda text, r: text.encode("utf-16"),
    utf16_big=lambda text, r: b"\xfe\xff" + text.encode("utf-16-be"),
)


def nest(folder, r):
    for letter in "ab":
        (folder / f"set-{letter}").rename(folder / "x")
        (folder / f"set-{letter}" / "1.0.0").mkdir(parents=True)
        (folder / "x").rename(folder / f"set-{letter}" / "1.0.0" / f"set-{letter}")


def add_mac_files(folder, r):
    for p in records(folder):
        (p.parent / f"._{p.name}").write_bytes(b"\0\5\x16\7")
    (folder / "set-a" / ".DS_Store").write_bytes(b"\0")
    (folder / "set-a" / "readme.html").write_bytes(b"<html>")


def capitals(folder, r):
    (folder / "set-a").rename(folder / "SET_A")
    (folder / "Outcomes-a.txt").rename(folder / "OUTCOMES-A.TXT")


def zeros_in_names(folder, r):
    for p in records(folder):
        p.rename(p.with_name(f"000{p.name}"))


def link_records(folder, r):
    (folder / "elsewhere").mkdir()
    for p in records(folder)[::2]:
        shutil.move(p, folder / "elsewhere" / p.name)
        p.symlink_to(folder / "elsewhere" / p.name)


def copy_records(folder, r):
    (folder / "set-a" / "copy").mkdir()
    for p in records(folder)[:4]:
        shutil.copy(p, folder / "set-a" / "copy" / p.name)


PLACES = dict(
    nested=nest,
    mac_files=add_mac_files,
    capitals=capitals,
    zeros=zeros_in_names,
    links=link_records,
    copies=copy_records,
)


def pack(form, keep=False, separator="/", pad=0):
    "Make an archive of set a, perhaps next to its folder."

    def apply(folder, r):
        place = next(p for p in folder.iterdir() if p.name.lower() in ("set-a", "set_a"))
        members = {p.relative_to(folder).as_posix(): p for p in sorted(place.rglob("*")) if p.is_file()}
        target = folder / f"set-a{form}"
        if form == ".zip":
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as z:
                for name, p in members.items():
                    z.writestr(name.replace("/", separator), p.read_bytes())
        else:
            with tarfile.open(target, "w" if form == ".tar" else "w:gz") as t:
                for name, p in members.items():
                    t.add(p.resolve(), name)
        target.write_bytes(target.read_bytes() + b"\0" * pad)
        if not keep:
            shutil.rmtree(place)

    return apply


ARCHIVES = dict(
    tar_gz=pack(".tar.gz"),
    tgz_padded=pack(".tgz", pad=4096),
    tar=pack(".tar"),
    tar_padded=pack(".tar", pad=10240),
    zip=pack(".zip"),
    zip_backslashes=pack(".zip", separator="\\"),
    zip_next_to_folder=pack(".zip", keep=True),
    tar_next_to_folder=pack(".tar.gz", keep=True),
)

# ---------------------------------------------------------------- harmful changes


def any_file(folder, r) -> Path:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    archives = [p for p in files if p.suffix not in (".txt", "")]
    return draw(r, archives if archives and r.random() < 0.5 else files)


def flip(folder, r):
    p = any_file(folder, r)
    data = bytearray(p.read_bytes() or b"\0")
    for _ in range(int(r.integers(1, 6))):
        data[int(r.integers(len(data)))] = int(r.integers(256))
    p.write_bytes(bytes(data))


def cut(folder, r):
    p = any_file(folder, r)
    data = p.read_bytes()
    p.write_bytes(data[: int(r.integers(len(data) + 1))])


def cut_out(folder, r):
    p = any_file(folder, r)
    data = p.read_bytes()
    first, last = sorted(r.integers(len(data) + 1, size=2).tolist())
    p.write_bytes(data[:first] + data[last:])


def append(folder, r):
    p = any_file(folder, r)
    more = [b"\0" * 700, b"<html>", p.read_bytes(), r.bytes(600), b"\n\n\n", b"\x1a"]
    p.write_bytes(p.read_bytes() + draw(r, more))


def empty(folder, r):
    any_file(folder, r).write_bytes(b"")


def odd_field(folder, r):
    files = [*records(folder), *outcome_files(folder)]
    p = draw(r, files) if r.random() < 0.6 else draw(r, files[-2:])
    lines = p.read_bytes().split(b"\n")
    for _ in range(int(r.integers(1, 4))):
        k = int(r.integers(len(lines)))
        fields = lines[k].split(b",")
        fields[int(r.integers(len(fields)))] = draw(r, ODD).encode("utf-8", "surrogatepass")
        lines[k] = b",".join(fields)
    p.write_bytes(b"\n".join(lines))


def odd_column(folder, r):
    "One odd text in many rows, as after a detour through another program."
    odd, column, share = draw(r, ODD).encode("utf-8", "surrogatepass"), int(r.integers(3)), draw(r, [0.02, 0.3, 1])
    for p in records(folder):
        head, *rows = p.read_bytes().split(b"\n")
        parts = [row.split(b",") for row in rows]
        for fields in parts:
            if len(fields) == 3 and r.random() < share:
                fields[column] = odd
        p.write_bytes(b"\n".join([head, *(b",".join(fields) for fields in parts)]))


def other_unit(folder, r):
    name, factor = draw(r, SERIES).encode(), draw(r, [100, 0.01, -1, 0, 1e300])
    for p in records(folder):
        rows = [row.split(b",") for row in p.read_bytes().split(b"\n")]
        for fields in rows:
            if len(fields) == 3 and fields[1] == name:
                fields[2] = str(float(fields[2]) * factor).encode()
        p.write_bytes(b"\n".join(b",".join(fields) for fields in rows))


def lost_days(folder, r):
    for p in records(folder):
        text = p.read_text(encoding="latin1")
        for hour in range(24, 48):
            text = text.replace(f"\n{hour}:", f"\n{hour - 24:02d}:")
        p.write_text(text, encoding="latin1")


def drop_rows(folder, r):
    p = draw(r, [*records(folder), *outcome_files(folder)])
    head, *rows = p.read_bytes().split(b"\n")
    p.write_bytes(b"\n".join([head, *(row for row in rows if r.random() < 0.5)]))


def drop_records(folder, r):
    found = records(folder)
    for i in r.choice(len(found), int(r.integers(1, max(2, len(found)))), replace=False):
        found[i].unlink()


def replace_by(make):
    "Put something else in the place of a file or set."

    def apply(folder, r):
        choices = [*records(folder), *folder.glob("Outcomes-?.txt"), *folder.glob("set-*")]
        p = draw(r, choices[-4:] if r.random() < 0.4 else choices)
        shutil.rmtree(p) if p.is_dir() else p.unlink()
        make(p)

    return apply


def odd_name(folder, r):
    p = draw(r, records(folder) or [any_file(folder, r)])
    number = f"{10**13 + 5}.txt"
    names = ["99999999999999999999.txt", "٣٣.txt", "101 (1).txt", "0.txt", "-5.txt", "1e3.txt", number, "101.TXT.part"]
    p.rename(p.with_name(draw(r, [*names, "108.txt", "201.txt", "a\nb.txt"])))


def swap_outcomes(folder, r):
    a, b = folder / "Outcomes-a.txt", folder / "Outcomes-b.txt"
    if a.is_file() and b.is_file():
        texts = a.read_bytes(), b.read_bytes()
        if r.random() < 0.5:
            a.write_bytes(texts[1])
        if r.random() < 0.7:
            b.write_bytes(texts[0])


def change_outcomes(folder, r):
    "Repeat rows with another outcome, or make outcomes unknown."
    p = draw(r, outcome_files(folder))
    head, *rows = p.read_text(encoding="latin1").rstrip("\n").split("\n")
    again = [row[:-1] + draw(r, ["0", "1", "-1"]) for row in rows if r.random() < 0.3]
    p.write_text("\n".join([head, *rows, *again, ""]), encoding="latin1")


def move_records(folder, r):
    for p in records(folder)[: int(r.integers(1, 9))]:
        target = folder / "set-b" / p.name
        if target.parent.is_dir() and not target.exists():
            shutil.move(p, target) if r.random() < 0.5 else shutil.copy(p, target)


def copy_set(folder, r):
    source, target = folder / "set-b", folder / draw(r, ["set-c", "set_b", "SET-B"])
    if source.is_dir():
        shutil.copytree(source, target)
        if r.random() < 0.5:
            shutil.copy(folder / "Outcomes-b.txt", folder / "Outcomes-c.txt")


def archive_in_archive(folder, r):
    for p in folder.glob("set-a.*"):
        with zipfile.ZipFile(folder / "x.zip", "w") as z:
            z.write(p, p.name)
        p.unlink()
    if (folder / "x.zip").exists():
        (folder / "x.zip").rename(folder / "set-a.zip")


def renumber(folder, r):
    "Record numbers that do not belong to their files."
    found = records(folder)
    for p, q in zip(found[::2], found[1::2]):
        texts = p.read_bytes(), q.read_bytes()
        p.write_bytes(texts[1])
        q.write_bytes(texts[0])


HARMFUL = dict(
    flip=flip,
    cut=cut,
    cut_out=cut_out,
    append=append,
    empty=empty,
    odd_field=odd_field,
    odd_column=odd_column,
    other_unit=other_unit,
    lost_days=lost_days,
    drop_rows=drop_rows,
    drop_records=drop_records,
    link_to_nothing=replace_by(lambda p: p.symlink_to(p.parent / "nowhere")),
    pipe=replace_by(lambda p: os.mkfifo(p)),
    folder=replace_by(Path.mkdir),
    link_to_itself=replace_by(lambda p: p.symlink_to(p)),
    gone=replace_by(lambda p: None),
    device=replace_by(lambda p: p.symlink_to("/dev/zero")),
    odd_name=odd_name,
    swap_outcomes=swap_outcomes,
    change_outcomes=change_outcomes,
    move_records=move_records,
    copy_set=copy_set,
    archive_in_archive=archive_in_archive,
    renumber=renumber,
)


def mutate(folder: Path, r, harmful: bool) -> list[str]:
    "Change a folder of one challenge; the names of the changes."
    before = draw(r, ["odd_field", "odd_column", "other_unit", "drop_rows", "renumber", "lost_days", "drop_records"])
    after = [draw(r, list(HARMFUL)) for _ in range(int(r.integers(1, 3)))]
    done = []
    if harmful and r.random() < 0.5:
        HARMFUL[before](folder, r)
        done.append(before)
    row, text, data = (draw(r, [None, *stage]) if r.random() < 0.5 else None for stage in (ROWS, TEXTS, BYTES))
    for p in records(folder) if row or text or data else []:
        if r.random() < 0.8:
            content = p.read_text(encoding="utf-8", errors="replace")
            content = ROWS[row](content, r) if row else content
            content = TEXTS[text](content, r) if text else content
            p.write_bytes(BYTES[data](content, r) if data else content.encode())
    done += [name for name in (row, text, data) if name]
    for stage in (PLACES, ARCHIVES):
        if r.random() < 0.35:
            done.append(draw(r, list(stage)))
            stage[done[-1]](folder, r)
    if harmful and (len(after) > 1 or not done or r.random() < 0.7):
        for name in after:
            done.append(name)
            try:
                HARMFUL[name](folder, r)
            except (OSError, ValueError, IndexError):  # what it would change is gone already
                done[-1] += " (not possible)"
    return done


# ---------------------------------------------------------------- what must hold


def check_account(c: Cohort):
    "Rows read are values, or stand among the losses; values are kept or stand there; kept readings are events."
    losses, counts = read_losses(c.meta), c.meta["counts_of_rows"]
    lost = Counter()
    for loss in losses:
        assert 0 < loss.n <= loss.of, loss
        lost[loss.unit] += loss.n if "headers" not in loss.reason and "outcomes" not in loss.reason else 0
    cleaned = {name: sum(row[name] for row in c.meta["cleaning"]) for name in ("values", "kept")}
    assert counts["rows read"] == cleaned["values"] + lost["rows"]
    restored = sum(loss.n for loss in losses if loss.how == "imputed")
    assert cleaned["values"] == cleaned["kept"] + lost["values"] - restored
    fed = {name for name in PARAMETERS.index[PARAMETERS["channel"].notna()]}
    readings = sum(row["kept"] for row in c.meta["cleaning"] if row["parameter"] in fed)
    left_out = counts["records without a reading of an input channel"]
    used = len(c.events) + lost["readings"]
    assert used < readings if left_out and used != readings else used == readings


def check_rules(c: Cohort, folder: Path):
    "Documented rules of the source."
    assert c.events["hour"].between(0, 48).all() and np.isfinite(c.events["value"]).all()
    assert not c.events.duplicated(["stay_id", "hour", "channel"]).any()
    ranges = PARAMETERS.dropna(subset="channel").groupby("channel").agg(dict(low="min", high="max"))
    for channel in c.channels:
        value = c.events["value"][c.events["channel"] == channel.name]
        if not channel.values:
            assert value.between(*ranges.loc[channel.name]).all()
    text = b"".join(p.read_bytes() for p in folder.iterdir() if p.is_file() and "outcomes" in p.name.lower())
    for task in ("Long hospital stay", "In-hospital mortality"):
        if task in c.stays:
            absent = [str(n).encode() not in text.replace(b"\0", b"") for n in c.stays["stay_id"]]
            assert c.stays[task][absent].isna().all()


@contextmanager
def time_limit(seconds: int):
    "TimeoutError after some seconds."

    def stop(*_):
        raise TimeoutError

    if not hasattr(signal, "SIGALRM"):  # Windows has no alarms
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def nothing_on_stderr():
    "Warnings are errors, and so is an exception that a library ignores."
    ignored = []
    before, sys.unraisablehook = sys.unraisablehook, ignored.append
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        sys.unraisablehook = before
        assert not ignored, ignored


def build(folder: Path, out: Path, allow_loss: bool) -> Cohort | BadInput:
    "The saved cohort of a folder, checked, or the error in one line; AssertionError for anything else."
    try:
        with nothing_on_stderr():
            c = p12.cohort(folder, allow_loss=allow_loss)
            c.save(out)
    except BadInput as e:
        text = str(e)
        assert len(text.splitlines()) == 1 and 10 < len(text) < 2000 and text.isprintable(), repr(text)
        assert not out.exists() and not list(out.parent.glob("*cohort*")), "half-written output"
        return e
    c.validate()
    assert Cohort.load(out).fingerprint == c.fingerprint
    assert allow_loss or not any(loss.is_too_large for loss in read_losses(c.meta))
    description = describe_cohort(c)
    assert all(str(loss) in description for loss in read_losses(c.meta))
    check_account(c)
    check_rules(c, folder)
    return c


def try_one(seed: int, top: Path) -> tuple[str, list]:
    "Make, change and read one folder: `accepted` or `rejected`, and the changes. Raises what must not happen."
    r = np.random.default_rng(seed)
    harmful, allow_loss = bool(r.random() < 0.75), bool(r.random() < 0.5)
    folder = write_challenge(top / "challenge", np.random.default_rng(seed % 7))
    changes = mutate(folder, r, harmful)
    try:
        with time_limit(LONGEST):
            made = build(folder, top / "out" / "cohort", allow_loss)
            if not harmful:
                expected = p12.cohort(write_challenge(top / "unchanged", np.random.default_rng(seed % 7)))
                assert isinstance(made, Cohort) and made.fingerprint == expected.fingerprint, made
    except Exception as e:
        e.add_note(f"seed {seed}, changes {changes}, harmful {harmful}, allow_loss {allow_loss}")
        raise
    return ("accepted" if isinstance(made, Cohort) else "rejected"), changes


def run(n: int, first: int = 0) -> Counter:
    "Try n folders; counts of accepted, rejected, tracebacks, wrong and hangs."
    counts = Counter(tried=0, accepted=0, rejected=0, tracebacks=0, wrong=0, hangs=0)
    for seed in range(first, first + n):
        counts["tried"] += 1
        with tempfile.TemporaryDirectory() as top:
            (Path(top) / "out").mkdir()
            try:
                counts[try_one(seed, Path(top))[0]] += 1
            except Exception as e:
                kind = (
                    "hangs"
                    if isinstance(e, TimeoutError)
                    else "wrong"
                    if isinstance(e, AssertionError)
                    else "tracebacks"
                )
                counts[kind] += 1
                traceback.print_exception(e, limit=-3)
    return counts


if __name__ == "__main__":
    start = time.time()
    counts = run(*map(int, sys.argv[1:]))
    print(", ".join(f"{n} {what}" for what, n in counts.items()), f"in {time.time() - start:.0f} s")
    sys.exit(1 if counts["tracebacks"] + counts["wrong"] + counts["hangs"] else 0)
