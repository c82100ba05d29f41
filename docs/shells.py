"""IPython shells that cost little, for a process that starts one for each notebook."""

from functools import partialmethod


def forget_shells() -> None:
    """From here on the shells of this process keep no history, and nothing waits for the end of the process.

    At exit each shell would collect garbage over everything that all of them made, and until then none could be freed.
    """
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.atexit_operations = staticmethod(lambda: None)
    if not isinstance(vars(HistoryManager)["__init__"], partialmethod):
        HistoryManager.__init__ = partialmethod(HistoryManager.__init__, enabled=False)
