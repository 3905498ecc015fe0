from .agents import InternalizedAgent as InternalizedAgent
from .agents import LocalAgent as LocalAgent
from .sampling import Generated as Generated
from .sampling import generate as generate
