"""What the scripts share besides the algorithm.

arguments.py parses flags, checkpoints.py saves and restores, exported.py reads exported agents. processes.py sets up
devices, threads and seeds, ranks.py the processes of a run on a CPU. clock.py keeps the time limit, budget.py checks
another one of a resumed run. episodes.py makes environments, pretraining.py loads a pretrained policy. weights.py adds
the gradients of all ranks and has the optimizers, cuda_graph.py replays work on a GPU. run_folder.py, run_log.py,
source.py, wandb_mirror.py, system.py and s3.py keep a run's files.

graph_tables.py, graph_attention.py, additive_attention.py and picture_layers.py have the kernels of graph layers and
convolutions, compiled_layers.py what these share, graph_vectors.py the vectors that they compute with.
"""
