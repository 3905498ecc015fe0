from .requests import with_random as with_random
from .server import Server as Server
from .server import listen as listen
