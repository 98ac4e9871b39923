"""The driving task: a world serves facts, the environment turns them into observation, reward and done."""
