"""Levels: the map format, data sets and their splits, free space, the generator and its built-in levels, replays.

maps.py has a level and its bytes. datasets.py loads and divides sets of levels. fields.py measures ways through free
space. generator.py makes levels from drafts (drafts.py), which rooms.py and courses.py draw in the proportions of
kinds.py; builtin.py has the certified levels. replays.py reads, judges and writes recorded runs.
"""
