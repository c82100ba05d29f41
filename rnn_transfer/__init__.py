"""Transfer learning for clinical time series with recurrent networks: the protocol of Gupta et al. (2018)."""

__version__ = "0.1.0"

import lazy_loader as _lazy

_import_name, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
del _lazy


def __getattr__(name):
    "A public name, imported when it is first used; `help()` shows the comments of its parameters."
    value = _import_name(name)
    if name in __all__:
        from .utilities.help_texts import add_parameter_comments

        globals()[name] = add_parameter_comments(value)
    return value
