"""NPP-RL: single-file PPO scripts that train and compare neural architectures playing N++."""

__version__ = "0.1.0"


def register_envs():
    """Register `npp_rl/Npp-v0` with Gymnasium (entry point group `gymnasium.envs`); imports neither torch nor numba."""
    import gymnasium

    if "npp_rl/Npp-v0" not in gymnasium.registry:
        gymnasium.register(
            id="npp_rl/Npp-v0", entry_point="npp_rl.env:NppEnv", vector_entry_point="npp_rl.env:NppVectorEnv"
        )
