from .language import make_tokenizer as make_tokenizer
from .lessons import Lies as Lies
from .lessons import Rates as Rates
from .pretraining import Pretraining as Pretraining
from .pretraining import pretrain as pretrain
from .workings import lie as lie
from .workings import work as work
