"""NPP-RL: single-file PPO scripts that train and compare neural architectures playing N++.

Importing the package registers the environment, and imports neither torch nor numba;
`gymnasium.make("npp_rl:npp_rl/Npp-v0")` imports it by itself.
"""

import gymnasium

__version__ = "0.1.0"

gymnasium.register(id="npp_rl/Npp-v0", entry_point="npp_rl.env:NppEnv", vector_entry_point="npp_rl.env:NppVectorEnv")
