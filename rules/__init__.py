"""Rules: a pure function from points to verdicts. No files, clocks, threads, sockets or processes here."""
