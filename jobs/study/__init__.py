"""The study: what is measured on which networks, the runner that measures it, and the page that says what it shows."""
