from .corpus import Corpus as Corpus
from .corpus import Skip as Skip
from .corpus import TurnTable as TurnTable
from .reading import Readings as Readings
from .reading import stream as stream
from .store import ActivationStore as ActivationStore
from .store import read_activations as read_activations
