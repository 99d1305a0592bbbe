"""The experiment runner: a grid of data set x row of the table x seed over the same ingested data.

Each cell trains and ranks in a process of its own and is kept in a folder named after all that decides its result, so a
grid that was interrupted goes on where it was. `python -m pipeline experiment --help` is the way in.
"""
