"""memscan: which captions make a text-to-image model give a training image back, and where."""

__version__ = "0.2.0"
