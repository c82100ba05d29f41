"""nbdev's documentation step for the tree in the current folder: nbs -> _proc.

build.py calls it in a process of its own.
"""

import fastcore.docments as docments
import nbdev.doclinks
import nbdev.serve


class Shortened:
    "Stands for a default value that is a table or an array: its print would fill the page, and it cannot be compared."

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"<{type(self.value).__name__}>"


def parameter(p, docs, eval_str=False, original=docments._get_full):
    "As fastcore does, except for defaults that have a shape."
    if hasattr(p.default, "shape"):
        p = p.replace(
            default=Shortened(p.default), annotation=type(p.default) if p.annotation is p.empty else p.annotation
        )
    return original(p, docs, eval_str)


docments._get_full = parameter
nbdev.doclinks._build_modidx()
nbdev.serve.proc_nbs(force=True, n_workers=0)
