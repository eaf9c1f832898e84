"""Results in a browser: a local web application over a results folder or an audit's state."""
