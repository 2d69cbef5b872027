"""`sonant bench`: how fast a model is on this machine, and how fast others are with the same weights, turn by turn.

Sonant runs in this process (`own`), every rival in a process of its own with its own Python (`worker`, `workers/`).
"""
