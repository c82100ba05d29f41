"""Which network ships: four candidates, chosen on validation stays by a rule that was written before any was trained.

    make network DATA=FOLDER DATA2019=FOLDER   # makes the cohorts, and the network by the recipe chosen
    python benchmarks/shipped_choice.py COHORT_2012 COHORT_BOTH CANDIDATE.safetensors ...

Candidates: {PhysioNet 2012, sets a and b; these and hospital A of PhysioNet 2019} x {channel dropout 0, 0.2}. All: every
phenotype of the cohort, h 100, learning rate 1e-3, patience 10, seed 0, one thread, all stays but those of validation
to train on. At most 3,000 updates for 2012, and 6,000 for both, which have 3.4 times the stays.

Window: 48 hours for both sources. PhysioNet 2019 is built with --hours 48, so that its labels are limits over the same
48 hours as its input, as those of 2012 are: no label looks past the input, and no input past the hours of the label.
(With the usual 24 hours a task of one name would be another task than in 2012.) Stays of hospital A that end earlier
carry their last values, with masks of 0, as stays of users do. Sepsis is no phenotype and is not learned. Tasks of one
name are one task where the rule is the same and only its words differ (SAME); raised transaminases and marked
myocardial injury rest on fewer parameters in 2019 and stay tasks of their own (APART).

Score of a candidate: the mean of two halves. Half 2012: mean AUROC of its own outputs for the tasks of 2012, on the
validation stays of 2012. Half A: the same for the tasks in SAME, on the validation stays of hospital A. A task counts
in a half with at least 20 positive and 20 negative stays there. The candidate with the highest score ships, unless it
is trained on both and its half 2012 is more than 0.005 below the best one of 2012 alone; candidates within 0.002 of
the highest are equal, and the first of them in the order 2012, both; without, with dropout ships.

What the rule cannot see: validation stays also stop the training of the networks that learn from their source, so half
A favours those of both. Hospital A is the hospital of 2012, and patients may be in both. It is not asked how the
features do at another hospital: hospital B of PhysioNet 2019 has no part in training, validation or this choice, and
the network that ships is measured there afterwards (other_hospital.py). Set b is trained on and measures nothing.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_transfer.data import Cohort
from rnn_transfer.estimators.extraction import align_to_network
from rnn_transfer.evaluation.measures import auroc
from rnn_transfer.model import MIMICNet, iter_batch_outputs, load_checkpoint

MIN_OF_A_CLASS, MAX_LOSS_ON_2012, EQUAL = 20, 0.005, 0.002
SAME = (
    "Renal dysfunction",
    "Acute kidney injury",
    "Azotaemia",
    "Hyperbilirubinaemia",
    "Thrombocytopenia",
    "Leucocytosis",
    "Leucopenia",
    "Severe anaemia",
    "Hyperlactataemia",
    "Low bicarbonate",
    "Hypercapnia",
    "Hypocapnia",
    "Hypokalaemia",
    "Hyperkalaemia",
    "Hypomagnesaemia",
)
APART = ("Raised transaminases", "Marked myocardial injury")
