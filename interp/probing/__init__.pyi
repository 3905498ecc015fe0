from .decoding import decode as decode
from .experiments import Setting as Setting
from .fitting import ProbeExamples as ProbeExamples
from .probe import Probe as Probe
from .probe import read_scores as read_scores
from .probe import watch as watch
