"""Notifier: messages and channels. It knows nothing of rules or runs."""
