from .corpus import Corpus as Corpus
from .reading import read_last as read_last
from .reading import stream as stream
from .store import ActivationStore as ActivationStore
from .store import read_activations as read_activations
