# The public face: every name is imported when it is first used, so that `import rnn_transfer` costs nothing.
from .data import Channel as Channel
from .data import Cohort as Cohort
from .data import Grid as Grid
from .data import Task as Task
from .model import MIMICNet as MIMICNet
