"What a process keeps of the memory that it frees."

import subprocess
import sys

import pytest

from rnn_transfer.utilities.processes import keep_freed_memory

if not keep_freed_memory():
    pytest.skip('this C library has no such setting', allow_module_level=True)

COUNT = """
import resource
import numpy as np
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() // 2**20
{then}
"""


def in_a_process(first, then):
    "The numbers that a process of its own prints."
    program = COUNT.format(first=first, then=then)
    found = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True, timeout=300)
    return [int(word) for word in found.stdout.split()]


KEEP = 'from rnn_transfer.utilities.processes import keep_freed_memory; keep_freed_memory()'


def test_blocks_that_were_freed_need_no_new_pages():
    then = 'np.ones(2**21)\nbefore = faults()\nfor _ in range(20): np.ones(2**21)\nprint(faults() - before)'
    assert in_a_process(KEEP, then)[0] < 100


def test_a_training_keeps_what_it_frees():
    "Twenty updates and more, in a process of its own: thousands of pages an update before, a handful now."
    first = (
        'import torch\n'
        'from rnn_transfer.learning.fast_gru import use_fast_gru\n'
        'from rnn_transfer.learning.training import TrainSettings, train_network\n'
        'from rnn_transfer.model import init_network'
    )
    then = (
        'torch.set_num_threads(1)\n'
        'X, y = np.random.default_rng(0).normal(size=(256, 24, 20)).astype("float32"), np.arange(256) % 2\n'
        'def train(n):\n'
        '    settings = TrainSettings(max_updates=n, eval_every=n, device="cpu")\n'
        '    before = faults()\n'
        '    train_network(use_fast_gru(init_network(20, 64, 1)), X, y, X, y, settings)\n'
        '    return faults() - before\n'
        'train(20)\n'
        'print(train(40) - train(20))'
    )
    assert in_a_process(first, then)[0] < 20 * 200


def test_the_end_of_the_heap_goes_back_to_the_system():
    "A gigabyte in blocks that the setting keeps: half of it at most is left when all are freed."
    then = 'b = [np.ones(2**21) for _ in range(64)]\nheld = resident()\ndel b\nnp.ones(2**21)\nprint(held, resident())'
    held, left = in_a_process(KEEP, then)
    assert held > 1000 and left < 700
