"""`interp VERB`: one thin command a verb, each in a file of its own. Everything it does can be done from Python."""

from interp.cli.app import main

__all__ = ["main"]
