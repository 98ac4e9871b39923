"""The commands of `sentinel`, one file each: `add` says how it is called, a function does it.

A command imports what it needs inside its function and no more at the top, since event files cost half a
second of start-up.
"""
