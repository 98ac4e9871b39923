"""The trainer: TD3 on a driving world. It logs, beats and obeys; it decides nothing about its own health."""
