"""The guard in other people's training loops, one file per library; docs/adapters.md.

Each file imports its library and is imported by nothing of the sentinel's own: the daemon needs none of them.
"""
