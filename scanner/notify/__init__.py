"""Who is told how a scan or an audit ended: people, platforms, trackers of experiments."""
