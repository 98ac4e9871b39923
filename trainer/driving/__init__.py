"""The driving task: raw worlds, lanes, reward, and the gymnasium environment over them."""
