"""nbdev's documentation step for the tree in the current folder: nbs -> _proc.

build.py calls it in a process of its own.
"""

import fastcore.docments as docments
import nbdev.doclinks
import nbdev.serve
from shells import forget_shells

LONGEST_DEFAULT = 300  # characters of a default value in a signature


class Shortened:
    "Stands for a default value that is a table, an array or a long list: its print would fill the page."

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"<{type(self.value).__name__}>"


def parameter(p, docs, eval_str=False, original=docments._get_full):
    "As fastcore does, except for defaults that have a shape, or a long print."
    if hasattr(p.default, "shape") or len(repr(p.default)) > LONGEST_DEFAULT:
        p = p.replace(
            default=Shortened(p.default), annotation=type(p.default) if p.annotation is p.empty else p.annotation
        )
    return original(p, docs, eval_str)


def signature(obj, *, eval_str=False, original=docments.signature):
    "As inspect does; types that only a type checker imports stay text."
    try:
        return original(obj, eval_str=eval_str)
    except NameError:
        return original(obj)


forget_shells()
docments._get_full = parameter
docments.signature = signature
nbdev.doclinks._build_modidx()
nbdev.serve.proc_nbs(force=True, n_workers=0)
