"""Transfer learning for clinical time series with recurrent networks: the protocol of Gupta et al. (2018)."""

__version__ = "0.1.0"

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
del _lazy
