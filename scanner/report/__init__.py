"""Output for people: pages, panels, histograms, figures."""
