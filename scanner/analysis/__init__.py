"""What results say: queries, findings, differences, evaluation."""
