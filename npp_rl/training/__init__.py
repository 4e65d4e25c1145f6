"""What the scripts share beside the algorithm: arguments, checkpoints, logs, processes, S3.

arguments.py reads flags and those of resumed runs, checkpoints.py saves and restores, run_log.py keeps the metrics,
processes.py sets up devices, threads, seeds and ranks, s3.py uploads. graph_attention.py holds the compiled kernels of
the graph layers.
"""
