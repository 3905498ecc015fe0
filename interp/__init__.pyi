from . import activations as activations
from . import debate as debate
from . import directions as directions
from . import evaluation as evaluation
from . import generation as generation
from . import interventions as interventions
from . import models as models
from . import organism as organism
from . import probing as probing
from . import reports as reports
from . import steering as steering
from . import storage as storage
from . import training as training
from .debate.embedded import find_transcripts as find_transcripts
from .debate.transcript import read_transcripts as read_transcripts
from .directions.directions import Direction as Direction
from .directions.directions import Directions as Directions
from .directions.extract import extract_directions as extract_directions
from .errors import UserError as UserError
from .generation.sampling import generate as generate
from .models.model import load_model as load_model
from .models.model import wrap as wrap
from .steering.steering import ablate as ablate
from .steering.steering import add as add
from .steering.steering import clamp as clamp
from .steering.steering import interchange as interchange

__version__: str
