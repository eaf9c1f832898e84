"""Every method that a scan has, one declaration each; imports no torch."""

from scanner.methods.declaration import Detector, Evaluation, Map, Method, Need
from scanner.methods.observing import Observer, ObserverBase, Setting, Step

__all__ = [
    "Detector",
    "Evaluation",
    "Map",
    "Method",
    "Need",
    "Observer",
    "ObserverBase",
    "Setting",
    "Step",
]
