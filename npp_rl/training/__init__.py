"""What the scripts share besides the algorithm.

arguments.py parses flags, checkpoints.py saves and restores, processes.py sets up devices, threads, seeds and ranks.
clock.py keeps the time limit, episodes.py makes environments, pretraining.py loads a pretrained policy. run_folder.py,
run_log.py, wandb_mirror.py, system.py and s3.py keep a run's files. graph_attention.py and picture_layers.py have the
kernels of graph layers and convolutions, graph_vectors.py the vectors that they compute with.
"""
