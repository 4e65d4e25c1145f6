"""The runner's parts: launch.py starts and watches processes, cluster.py runs them on Slurm, board.py shows them."""
