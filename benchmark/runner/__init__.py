"""The runner's parts.

arguments.py and plan.py say what an experiment consists of, machine.py what there is to run it on, runs.py what a run
is. launch.py starts and watches the processes (processes.py) of runs on this machine. cluster.py submits runs to Slurm
as jobs. board.py shows how far they are.
"""
