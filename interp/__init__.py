"""What happens inside a model into which a multi-agent debate was distilled."""

__version__ = "0.1.0"
