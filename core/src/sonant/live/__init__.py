"""Audio while it comes: from a microphone, a pipe, or a file at the pace at which it was spoken."""

from sonant.live.microphone import microphone
from sonant.live.pieces import Piece
from sonant.live.sources import paced, piped

__all__ = ["Piece", "microphone", "paced", "piped"]
