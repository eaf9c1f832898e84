"""The nightly job: scan what is new, compare with the last audit, write it down."""
