"""Programs for other Pythons. They import the standard library and what their environment has, and nothing of Sonant.

`serve.py` is the program, and the file it is given says what it can do: `ACTIONS`, functions by name; and `STAGES`, functions
that make something ready and return how it is done once (`run`), and what is to be kept of its result (`keep`).
"""
