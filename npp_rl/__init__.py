"""NPP-RL: single-file PPO scripts that train and compare neural architectures playing N++.

Importing the package registers the environment, without importing torch or numba.
`gymnasium.make("npp_rl:npp_rl/Npp-v0")` imports the package itself. `register_envs` is also the package's entry point
in the group `gymnasium.envs`, for libraries that load this group. Gymnasium stopped loading it in version 1.0.
"""

import os

from npp_rl.commands import end_on_signals

end_on_signals()  # before the rest is imported, which takes seconds

if "OMP_WAIT_POLICY" not in os.environ:
    # Waiting threads of compiled loops spin for a moment before they sleep. With GNU OpenMP's default count, two
    # processes on the same cores slow each other down a hundredfold. The library reads the variable when it loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")

__version__ = "0.1.0"

# Architectures, each in `npp_rl/ppo_<name>.py`. Other scripts are imported only where the user names their paths.
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
    from gymnasium.envs.registration import register, registry  # gymnasium may be loading this entry point

    name = "npp_rl/Npp-v0"
    if name not in registry:
        register(
            id=name,
            entry_point="npp_rl.environment.env:NppEnv",
            vector_entry_point="npp_rl.environment.env:NppVectorEnv",
        )


register_envs()
