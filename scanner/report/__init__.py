"""What a person looks at: pages, panels, histograms, figures."""
