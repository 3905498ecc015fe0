from .page import write_report as write_report
from .tables import best_layers_table as best_layers_table
from .tables import memory_table as memory_table
from .terminal import progress_bars as progress_bars
from .terminal import training_bars as training_bars
