"""The sentinel: reads a run's metrics, decides by rules, asks the trainer, and remembers what it did."""
