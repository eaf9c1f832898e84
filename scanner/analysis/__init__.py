"""Analysis of results: queries, findings, differences, evaluation."""
