"A run folder of the toy cohort up to pre-training, for tests of what comes after it."

from rnn_transfer.data import run_data
from rnn_transfer.model import run_model
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort


def make_toy_run(run, hidden, settings):
    "Data, untrained networks of `hidden` units and split 0 with two held-out phenotypes; the folder itself."
    run_data(toy_cohort(), run)
    run_model(run, [hidden])
    run_pretrain(run, n_held_out=2, hidden=[hidden], settings=settings, variants=[])
    return run
