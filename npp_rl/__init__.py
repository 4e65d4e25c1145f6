"""NPP-RL: single-file PPO scripts that train and compare neural architectures playing N++.

Importing the package registers the environment, and imports neither torch nor numba;
`gymnasium.make("npp_rl:npp_rl/Npp-v0")` imports it by itself. `register_envs` is also the package's entry point in the
group `gymnasium.envs`, for what still loads that group; Gymnasium itself has stopped doing so with its version 1.0.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # Threads of the compiled loops that wait for each other spin a moment before they sleep. GNU OpenMP's own count is
    # so long that two processes on the same cores slow each other down a hundredfold; read when its library loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")

__version__ = "0.1.0"

# `npp_rl/ppo_<name>.py` holds the architecture `name`; a checkpoint can name no other script.
ARCHITECTURES = (
    "full_hgt",
    "simplified_hgt",
    "gat",
    "gcn",
    "vision_free",
    "local_frames_only",
    "mlp_cnn",
    "mlp_baseline",
)


def register_envs() -> None:
    """Register `npp_rl/Npp-v0`, once."""
    from gymnasium.envs.registration import register, registry  # not gymnasium, which may be loading this entry point

    name = "npp_rl/Npp-v0"
    if name not in registry:
        register(
            id=name,
            entry_point="npp_rl.environment.env:NppEnv",
            vector_entry_point="npp_rl.environment.env:NppVectorEnv",
        )


register_envs()
