"The synthetic source: deterministic, prefix-stable, at its published prevalences, plausible in every value."

import functools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.data import Cohort
from rnn_transfer.sources import synthetic_chart, synthetic_patients
from rnn_transfer.sources.synthetic import cohort, format_chart, simulate_block
from rnn_transfer.sources.synthetic_patients import conditional_threshold, draw_factors
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.files import load_resource

CHANNEL = {c.name: c for c in BENCHMARK_CHANNELS}
make_cohort = functools.cache(cohort)


def mistyped_values() -> dict:
    "Values outside the simulated limits that the documented errors may leave, by channel, as intervals."
    return {
        "Temperature": [(-1, 6), (87, 109)],
        "pH": [(680, 770), (68, 77)],
        "Systolic blood pressure": [(0, 0)],
        "Diastolic blood pressure": [(0, 0)],
        "Mean blood pressure": [(0, 0)],
        "Heart Rate": [(0, 0)],
        "Oxygen saturation": [(0, 0)],
        "Fraction inspired oxygen": [(0.002, 0.01)],
        "Weight": [(66, 552)],
        "Height": [(330, 547)],
    }


def charted(c: Cohort, part: str) -> pd.Series:
    "Numeric score of one part of the coma scale, by stay and hour."
    name = f"Glascow coma scale {part}"
    e = c.events[c.events["channel"] == name]
    return pd.Series(
        np.maximum(np.array(CHANNEL[name].numeric)[e["value"].astype(int)], 1),
        pd.MultiIndex.from_frame(e[["stay_id", "hour"]]),
    )


def test_same_seed_same_cohort_other_seed_another():
    again = cohort(600, 3)
    assert again.fingerprint == cohort(600, 3).fingerprint
    assert again.fingerprint != cohort(600, 4).fingerprint


@pytest.mark.parametrize("fewer, more", [(300, 301), (496, 1500), (1000, 2000)])
def test_fewer_stays_are_a_prefix_of_more(fewer, more):
    few, many = make_cohort(fewer), make_cohort(more)
    pd.testing.assert_frame_equal(few.stays, many.stays.iloc[:fewer])
    pd.testing.assert_frame_equal(few.events, many.events.iloc[: len(few.events)])
    assert not many.events["stay_id"].iloc[len(few.events) :].isin(few.stays["stay_id"]).any()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(n=st.integers(300, 700), seed=st.integers(0, 10**9))
def test_any_size_and_seed_is_a_valid_cohort(n, seed):
    c = cohort(n, seed).validate()
    assert len(c.stays) == n and set(c.events["stay_id"]) == set(c.stays["stay_id"])
    assert set(c.stays["partition"]) == {"train", "val", "test"}


@pytest.mark.parametrize("n", [0, 299, -5, 500.5, float("nan"), "many", None])
def test_impossible_sizes_are_rejected_in_one_line(n):
    with pytest.raises(BadInput, match="at least 300") as e:
        cohort(n)
    assert str(e.value).startswith(f"n={n}") and "\n" not in str(e.value)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(BadInput, match="seed="):
        cohort(300, seed)


def test_prevalences_are_the_published_ones():
    c, n = make_cohort(5000), 5000
    for p in load_resource("phenotypes.json")["phenotypes"]:
        target = (35621 * p["prevalence_train"] + 6281 * p["prevalence_test"]) / 41902
        assert abs(c.stays[p["name"]].mean() - target) < 4.5 * np.sqrt(target * (1 - target) / n) + 0.03 * target, p[
            "name"
        ]
    assert abs(c.stays["In-hospital mortality"].mean() - 0.132) < 0.02
    assert len(c.tasks) == 26 and [t.name for t in c.tasks][:25] == [
        p["name"] for p in load_resource("phenotypes.json")["phenotypes"]
    ]


def test_mortality_is_for_stays_of_48_hours_and_ends_the_series():
    c = make_cohort(5000)
    assert (c.stays["In-hospital mortality"].isna() == (c.stays["los_hours"] < 48 - 1e-6)).all()
    ordered = c.stays.sort_values("stay_id")
    last = ~ordered["subject_id"].duplicated(keep="last")
    assert last[ordered["In-hospital mortality"] == 1].all()


def test_lengths_of_stay_are_log_normal():
    los = make_cohort(5000).stays["los_hours"]
    assert 0.47 < (los >= 48).mean() < 0.54 and los.min() >= 2.4 - 1e-9 and los.max() > 500
    assert abs(np.log(los).std() - 1) < 0.05


def test_the_death_threshold_against_a_bivariate_normal():
    rho, above = 0.4, 0.1
    d = conditional_threshold(0.2, rho, above)
    both = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([-d, -above])  # P(D > d, L > above), by symmetry
    assert abs(both / norm.sf(above) - 0.2) < 1e-3


def test_latent_factors_are_standard_normal():
    z = np.concatenate([draw_factors(np.random.default_rng(k), 400, 3)[:, 0] for k in range(25)])
    assert np.abs(z.mean(0)).max() < 0.05 and np.abs(z.std(0) - 1).max() < 0.04
    assert np.abs(np.corrcoef(z.T) - synthetic_patients.MIXING @ synthetic_patients.MIXING.T).max() < 0.06


def test_subjects_return_and_stay_in_one_partition():
    s = make_cohort(5000).stays
    assert (s.groupby("subject_id")["partition"].nunique() == 1).all()
    assert 1.2 < len(s) / s["subject_id"].nunique() < 1.3
    fraction = s.drop_duplicates("subject_id")["partition"].value_counts(normalize=True)
    assert abs(fraction["test"] - 0.15) < 0.005 and abs(fraction["val"] - 0.15) < 0.005


def test_every_value_is_possible_in_its_channel():
    c, items = make_cohort(2000), synthetic_chart.ITEMS
    for name, e in c.events.groupby("channel", observed=True):
        v, channel = e["value"].to_numpy(), CHANNEL[name]
        if channel.values:
            assert set(v) <= set(range(len(channel.values))), name
            continue
        limits = items[items["channel"] == name]
        ok = (v >= limits["low"].min() - limits["step"].max()) & (v <= limits["high"].max() + 3)
        for low, high in mistyped_values().get(name, []):
            ok |= (v >= low - 1e-6) & (v <= high + 1e-6)
        assert ok.all(), (name, v[~ok][:5])
    assert set(c.events["channel"]) == set(CHANNEL)


def test_values_are_rounded_as_charted():
    b = simulate_block(1, 5)
    value, step = b.chart["value"].to_numpy(), synthetic_chart.ITEMS["step"].to_numpy()[b.chart["item"]]
    off = np.abs(value / step - np.round(value / step)) > 1e-3
    assert off.mean() < 0.001  # only errors, such as a fraction in a percent field


def test_errors_come_at_their_rates():
    counts = pd.concat([simulate_block(k).errors for k in range(4)]).groupby(["what", "channel"], sort=False).sum()
    for error, (_, row) in zip(synthetic_chart.CHARTING_ERRORS, counts.iterrows()):
        expected = error.rate * row["values"]
        assert abs(row["mistyped"] - expected) < 5 * np.sqrt(expected) + 2, error.what


def test_gcs_total_is_the_sum_of_its_parts():
    c = make_cohort(1000)
    parts = pd.concat(
        [charted(c, p) for p in ("total", "eye opening", "motor response", "verbal response")], axis=1
    ).dropna()
    assert len(parts) > 1000 and (parts.iloc[:, 0] == parts.iloc[:, 1:].sum(axis=1)).all()


def test_a_stay_has_the_spellings_of_one_system():
    c = make_cohort(1000)
    for part in ("eye opening", "motor response", "verbal response"):
        name = f"Glascow coma scale {part}"
        e = c.events[c.events["channel"] == name]
        carevue = pd.Series([CHANNEL[name].values[int(v)][0].isdigit() for v in e["value"]], e["stay_id"].to_numpy())
        per_stay = carevue.groupby(level=0).nunique()
        assert (per_stay == 1).all() and 0.4 < carevue.mean() < 0.8


def test_sampling_is_informative():
    b = simulate_block(2, 1)
    hours = np.minimum(b.stays["los_hours"].to_numpy(), 48)
    per_hour = b.chart.groupby("stay_id").size().reindex(b.stays["stay_id"]).to_numpy() / hours
    sick = [x[: int(np.ceil(h))].mean() for x, h in zip(b.states, hours)]
    assert np.corrcoef(sick, per_hour)[0, 1] > 0.4
    c = make_cohort(2000)
    e = c.events["stay_id"].value_counts().reindex(c.stays["stay_id"]).to_numpy() / np.minimum(c.stays["los_hours"], 48)
    died = c.stays["In-hospital mortality"]
    assert e[(died == 1).to_numpy()].mean() > e[(died == 0).to_numpy()].mean()


def test_events_lie_within_the_stay_and_are_unique():
    e = make_cohort(2000).events.merge(make_cohort(2000).stays[["stay_id", "los_hours"]], on="stay_id")
    assert (e["hour"] >= 0).all() and (e["hour"] < 48).all() and (e["hour"] < e["los_hours"]).all()
    assert not e.duplicated(["stay_id", "hour", "channel"]).any()


def test_phenotypes_come_together_where_organs_are_shared():
    s = make_cohort(5000).stays
    for a, b in (
        ("Septicemia (except in labor)", "Shock"),
        ("Acute and unspecified renal failure", "Fluid and electrolyte disorders"),
        ("Chronic kidney disease", "Hypertension with complications and secondary hypertension"),
    ):
        assert s.loc[s[a] == 1, b].mean() > 1.3 * s[b].mean(), (a, b)
    lasting = (
        s[s["subject_id"].duplicated(keep=False)]
        .groupby("subject_id")["Diabetes mellitus without complication"]
        .agg(["first", "last"])
    )
    assert lasting.loc[lasting["first"] == 1, "last"].mean() > 0.6


def test_it_says_that_it_is_synthetic(tmp_path):
    c = make_cohort(300)
    c.save(tmp_path / "c")
    meta = json.loads((tmp_path / "c" / "cohort.json").read_text())
    assert (
        meta["synthetic"] is True
        and meta["source"] == "synthetic"
        and meta["licence"] == "Apache-2.0"
        and meta["held_out_prevalence"] == [0.05, 0.30]
    )
    assert meta["flow"][0]["stays"] == 300 and meta["flow"][1]["stays"] == int(
        c.stays["In-hospital mortality"].notna().sum()
    )
    assert all(t.definition.startswith("Synthetic") for t in c.tasks)
    assert Cohort.load(tmp_path / "c").fingerprint == c.fingerprint


def test_items_are_those_of_the_benchmark():
    known = {(name, row[0]): row for name, rows in load_resource("mimic3_items.json")["items"].items() for row in rows}
    for i in synthetic_chart.ITEMS.itertuples():
        assert known[i.channel, i.item][1] == i.label
        assert known[i.channel, i.item][2] in (i.system, "lab")
    texts = [
        t
        for system in synthetic_chart.GCS_TEXTS.values()
        for k, v in system.items()
        for t in ([v] if k == "tube" else v)
    ]
    assert set(texts) == {
        v
        for p in ("eye opening", "motor response", "verbal response")
        for v in CHANNEL[f"Glascow coma scale {p}"].values
    }


def test_the_chart_reads_like_a_hospital_table():
    chart = format_chart(simulate_block(0).chart.head(2000))
    assert list(chart) == ["stay_id", "minute", "itemid", "label", "value", "unit"]
    spoken = chart[chart["label"].str.contains("Eye")]
    assert len(spoken) and spoken["value"].isin(CHANNEL["Glascow coma scale eye opening"].values).all()
    assert pd.to_numeric(chart.loc[chart["label"] == "Heart Rate", "value"]).between(0, 220).all()
